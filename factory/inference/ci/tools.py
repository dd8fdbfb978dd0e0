"""What a command does: whether it installs, builds, judges, or none of these.

A row of the table is a program, or a program and its subcommand.
"""

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum

from factory.inference.ci import scripts
from factory.inference.ci.starters import is_python, unwrapped


class Kind(StrEnum):
    """What a command does."""

    INSTALL = "install"
    SYSTEM = "system"  # installs packages of the operating system
    BUILD = "build"
    PREPARE = "prepare"  # makes folders and files that later commands need
    LINT = "lint"
    FORMAT = "format"
    TYPES = "types"
    TEST = "test"
    OTHER = "other"


CHECKS = (Kind.LINT, Kind.FORMAT, Kind.TYPES)
JUDGING = (*CHECKS, Kind.TEST)
# If code contains commands of several kinds, the first of these counts.
STRONGEST = (
    *(Kind.TEST, Kind.TYPES, Kind.LINT, Kind.FORMAT),
    *(Kind.SYSTEM, Kind.INSTALL, Kind.BUILD, Kind.PREPARE),
)
_TOOLS: Mapping[Kind, str] = {
    Kind.INSTALL: """
        pip:install uv-pip:install uv-tool:install uv:sync uv:venv poetry:install poetry:sync
        pdm:install pdm:sync pipenv:install pipenv:sync pipx:install conda:install
        npm:ci npm:install npm:i pnpm:install pnpm:i yarn:install bun:install bun:i
        corepack:enable corepack:prepare corepack:install bundle:install gem:install
        composer:install mix:deps.get cargo:fetch cargo:install go:mod go:install
        pre-commit:install-hooks
    """,
    Kind.SYSTEM: "apt-get apt brew dnf yum apk choco sudo snap",
    Kind.TEST: """
        pytest py.test tox nox stestr nosetests nose2 unittest green ward trial zope-testrunner
        jest vitest mocha ava tap c8 nyc karma uvu qunit lab node:--test bun:test deno:test
        vite:test go:test richgo:test gotestsum ginkgo cargo:test cargo:nextest cargo:llvm-cov
        ctest meson:test rspec rake phpunit pest behave robot bats shellspec prove scrut
        mvn ./mvnw gradle ./gradlew dotnet:test mix:test hatch:test coverage:run swift:test
        zig:test sbt lein rebar3 cabal:test stack:test dart:test flutter:test mdbook:test
        turbo:test nx:test lerna:test
    """,
    Kind.LINT: """
        ruff flake8 pylint eslint oxlint stylelint shellcheck golangci-lint staticcheck codespell
        typos pre-commit prek pydocstyle pycodestyle pyflakes bandit vulture yamllint
        markdownlint markdownlint-cli2 biome xo standard cargo:clippy go:vet rubocop
        check-manifest djlint doc8 slotscheck interrogate hadolint actionlint zizmor cppcheck
        clang-tidy knip publint cargo:deny cargo:machete deptry lint-imports mix:credo ktlint
        deno:lint tach refurb sourcery semgrep validate-pyproject
    """,
    Kind.FORMAT: """
        black isort prettier gofmt goimports gofumpt rustfmt cargo:fmt dprint clang-format yapf
        autopep8 deno:fmt mix:format shfmt taplo blacken-docs docformatter ruff:format
        biome:format cmake-format
    """,
    Kind.TYPES: """
        mypy dmypy pyright basedpyright pytype pyre pyrefly zuban ty stubtest tsc vue-tsc tsd
        attw svelte-check flow cargo:check deno:check dialyzer mix:dialyzer
    """,
    Kind.BUILD: """
        cmake ninja configure ./configure ../configure autoreconf ./autogen.sh ./bootstrap
        meson:setup
        meson:compile meson:configure meson cargo:build go:build bazel:build dotnet:build
        maturin:develop tsup rollup webpack esbuild vite:build mdbook:build mkdocs:build
        sphinx-build jupyter-book:build hugo jekyll:build
    """,
    Kind.PREPARE: "mkdir cp mv ln touch echo printf",
}
_KIND_OF: dict[str, Kind] = {}
for _kind, _rows in _TOOLS.items():
    _KIND_OF.update(dict.fromkeys(_rows.split(), _kind))
_REPAIRS = frozenset("--fix --write --fix-only --unsafe-fixes -w --in-place".split())
# Formatters change files unless an option says that they only check.
_FORMATTERS = frozenset(
    "black isort prettier yapf shfmt gofmt dprint clang-format cmake-format".split()
)
_CHECK_ONLY = frozenset(
    "--check --check-only -c --diff -l --list-different -d check -n --dry-run --Werror".split()
)
_ONLY_TELLS = frozenset("--version -V --help version".split())
_INSTALLED = re.compile(r"(^|/)(node_modules/\.bin|vendor/bin)/")
_INTERPRETERS = frozenset("node bash sh php perl ruby".split())
_NAMED_BY_TWO = frozenset("go cargo ruff meson dotnet mix deno bun".split())


def kind_of(words: Sequence[str]) -> Kind:
    """Return what a command does."""
    bare = unwrapped(words)
    if not bare or repairs(bare) or _ONLY_TELLS.intersection(bare[1:2]):
        return Kind.OTHER
    program = program_of(bare)
    if program in scripts.RUNNERS:
        return Kind(scripts.kind_of_run(program, bare))
    rest = [word for word in bare[1:] if not word.startswith("-")]
    for second in (*bare[1:2], *rest[:1]):
        known = _KIND_OF.get(f"{program}:{second}")
        if known:
            return known
    if program in _KIND_OF:
        return _KIND_OF[program]
    if is_python(program) or program in _INTERPRETERS or scripts.is_script(program):
        return Kind(scripts.kind_of_script(bare))
    return Kind.OTHER


def strongest(kinds: Sequence[Kind]) -> Kind:
    """Return what code with several commands does."""
    return next((kind for kind in STRONGEST if kind in kinds), Kind.OTHER)


def name_of(words: Sequence[str]) -> str:
    """Return a short name for what a command runs, e.g. `pytest`, `lint` or `tox-py`."""
    bare = unwrapped(words)
    if not bare:
        return "check"
    program = program_of(bare)
    name = program.rpartition("/")[2]
    names = scripts.names_run(program, bare) if program in scripts.RUNNERS else None
    if names:
        name = f"{program}-{names[0]}" if program in ("tox", "nox") else names[0]
    elif (is_python(program) or program in _INTERPRETERS) and len(bare) > 1:
        name = bare[1].rpartition("/")[2]
    elif program in _NAMED_BY_TWO and len(bare) > 1:
        name = f"{program}-{bare[1]}"
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "check"


def program_of(words: Sequence[str]) -> str:
    """Return the program of a command. A file of the project keeps its folder."""
    first = words[0]
    is_own = "/" in first and not first.startswith("/") and not _INSTALLED.search(first)
    name = first if is_own else first.rpartition("/")[2]
    return re.sub(r"^(clang-\w+)-\d+$", r"\1", name)


def repairs(words: Sequence[str]) -> bool:
    """Whether the command changes the files that it looks at."""
    program = program_of(words)
    if _REPAIRS.intersection(words):
        return program not in ("tox", "nox", "make")
    if program in scripts.RUNNERS:
        return False
    is_formatter = program in _FORMATTERS or words[1:2] in (("format",), ("fmt",))
    return is_formatter and not _CHECK_ONLY.intersection(words)
