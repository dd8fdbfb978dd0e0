"""Infers gates of projects in other languages, from one table.

Gates download what they need: caches of gates are their own.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from factory.inference.files import Files, matching
from factory.inference.rules import CHECKS, TESTS, Gate

# A build goes into the scratch folder of the gate, so that it leaves nothing in the tree.
_CMAKE = (
    'cmake -S . -B "$TMPDIR/build" && cmake --build "$TMPDIR/build" -j 2'
    ' && ctest --test-dir "$TMPDIR/build" --output-on-failure'
)
_MESON = 'meson setup "$TMPDIR/build" && meson test -C "$TMPDIR/build" --print-errorlogs'


@dataclass(frozen=True, slots=True)
class _Row:
    """A project is of this kind if a file has one of these names, and its text the pattern."""

    files: str  # globs
    name: str
    command: str
    group: int = TESTS
    says: str = ""  # a regular expression


_TABLE: Sequence[_Row] = (
    _Row("go.mod", "go-vet", "go vet ./...", CHECKS),
    _Row("go.mod", "go-test", "go test ./..."),
    _Row("Cargo.toml", "cargo-test", "cargo test"),
    _Row("CMakeLists.txt", "ctest", _CMAKE, says=r"enable_testing|include\s*\(\s*CTest|add_test"),
    _Row("meson.build", "meson-test", _MESON, says=r"\btest\s*\(|subdir\s*\("),
    _Row("deno.json deno.jsonc", "deno-test", "deno test"),
    _Row("mix.exs", "mix-test", "mix deps.get && mix test"),
    _Row("pom.xml", "mvn", "if [ -x mvnw ]; then ./mvnw -B -q verify; else mvn -B -q verify; fi"),
    _Row("gradlew", "gradle-check", "./gradlew --no-daemon check"),
    _Row("composer.json", "phpunit", "composer install && vendor/bin/phpunit", says="phpunit"),
    _Row("Gemfile", "rspec", "bundle install && bundle exec rspec", says="rspec"),
    _Row("Gemfile", "rake", "bundle install && bundle exec rake", says=r"rake|minitest"),
    _Row("*.sln *.slnx", "dotnet-test", "dotnet test"),
)
READ = tuple(" ".join(row.files for row in _TABLE).split())
RULED_BY = {
    "go": ("go.mod", "go.work"),
    "cargo": (
        "Cargo.toml",
        ".cargo/config.toml",
        ".cargo/config",
        "rust-toolchain.toml",
        "rust-toolchain",
    ),
    "ctest": ("CMakeLists.txt", "CMakePresets.json", "CTestConfig.cmake"),
    "cmake": ("CMakeLists.txt", "CMakePresets.json"),
    "meson": ("meson.build", "meson.options", "meson_options.txt"),
}


def gates(files: Files) -> Iterator[Gate]:
    """Yield the gates of the languages that the commit's files show."""
    known = set[str]()
    shown = files.matching(*READ)
    for row in _TABLE:
        name = files.first(matching(shown, *row.files.split()))
        if not name or (name in known and row.says):
            continue
        if row.says and not re.search(row.says, files.text(name)):
            continue
        if row.says:
            known.add(name)
        plain = not re.search(r"[&$;]", row.command)
        argv = tuple(row.command.split()) if plain else ("sh", "-e", "-c", row.command)
        yield Gate(row.name, row.group, argv, name, said=row.command)
