"""Chooses the entry of a job's matrix that is nearest to this machine."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from factory.ground.yaml_tree import Tree, items, table
from factory.inference.ci.expressions import Unknown

MOST_ENTRIES = 2_000
MOST_TASKS = 12
_IS_VERSION = re.compile(
    r"(py|python|node|go|rust|ruby|php|django|dj|lts|v)?[-_/]?[\d.x*^~>=+]*([-.\w]*dev|t|-?rc\.?\d*)?"
    r"|stable|beta|nightly|latest|current|lts/?\*?|true|false|"
    # compilers and the ways to build: one of them is enough
    r"|(gcc|g\+\+|clang|clang\+\+|cl|msvc|cc|c\+\+)[-_]?[\d.]*|debug|release|relwithdebinfo",
    re.IGNORECASE,
)
_IS_SYSTEM = re.compile(
    r"ubuntu|linux|windows|macos|darwin|win32|arm64|x86|x64|amd64", re.IGNORECASE
)
# Systems, processors and interpreters that are not those of this machine.
_ELSEWHERE = re.compile(
    r"windows|win32|macos|darwin|osx|freebsd|android|wasm|emscripten|pyodide|pypy|graalpy|jython"
    r"|musl|mips|powerpc|ppc64|riscv|s390|i[3-6]86|aarch64|(?<![a-z])arm(64|el|hf|v\d|-|$)",
    re.IGNORECASE,
)
_SERVERS = re.compile(r"postgres\w*|mysql|mariadb|mongodb?|redis|oracle|mssql", re.IGNORECASE)
# Tasks with the lowest or unreleased versions of other packages. They need an old Python, or change
# when nobody changed this project.
_OTHER_VERSIONS = re.compile(
    r"(?<![a-z])(min|minimum|minimal|lowest|oldest|mindeps|minver\w*)(?![a-z])"
    r"|[a-z-](main|master|nightly)(?![\w./])"
)
_LABELS = ("name", "experimental", "label", "title", "install", "allow-failure")
# Names of axes that build the same tests in other ways, and values that mean the usual way.
_IS_VARIANT = re.compile(
    r"flags|sanit|mem_?check|generator|^gen$|shared|fuzz|^std$|cxx|compiler|toolchain|build.?type",
    re.IGNORECASE,
)
_PLAIN = re.compile(r"(none|no|off|default|false|gcc|g\+\+|release|\d|$)", re.IGNORECASE)
_PYTHON = re.compile(r"(?:py|python)?-?3\.?(\d+)(?:\.[\dx]+)?(t?)(?:-?(?:dev|rc[.\d]*))?")


def chosen(strategy: Tree | None, python: tuple[int, int]) -> list[Mapping[str, Any]]:
    """Return the matrix entries to run here, one for each task; [{}] if there is no matrix.

    Entries of one task differ only in versions and systems. Of these, a Linux entry with the Python
    that is nearest to `python`, this machine's version, is chosen; among equals, the first one.
    Entries that can only run elsewhere are left out. Plain tasks come first.
    """
    entries = _entries(table(table(strategy).get("matrix")), python)
    nearest: dict[tuple[tuple[str, str], ...], Mapping[str, Any]] = {}
    for entry in filter(_is_here, entries):
        task = _task(entry)
        known = nearest.get(task)
        if known is None or _distance(entry, python) < _distance(known, python):
            nearest[task] = entry
    if not entries:
        return [{}]
    usual = [task for task in nearest if not _OTHER_VERSIONS.search(str(task))]
    if usual:
        nearest = {task: nearest[task] for task in usual}
    plain_first = sorted(nearest, key=len)
    return [nearest[task] for task in plain_first][:MOST_TASKS]


def localized(entry: Mapping[str, Any], python: tuple[int, int]) -> Mapping[str, Any]:
    """Return the entry with this machine's Python in place of the Python that it names.

    CI installs the Python of each entry, but here only one is known to exist: `tox -e py310` could
    not run with Python 3.13.
    """
    minor = _python_of(entry)
    if minor is None or minor == python[1]:
        return entry
    here = f"{python[0]}.{python[1]}"
    dotted = re.compile(rf"(?<![\d.]){python[0]}\.{minor}(\.\d+)?t?(?![\d.])")
    joined = re.compile(rf"(?<![a-z])py{python[0]}{minor}(?!\d)")

    def local(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: local(each) for name, each in value.items()}
        if not isinstance(value, str):
            return value
        return joined.sub(f"py{python[0]}{python[1]}", dotted.sub(here, value))

    return {name: local(value) for name, value in entry.items()}


def _python_of(entry: Mapping[str, Any]) -> int | None:
    for name, value in entry.items():
        found = _PYTHON.fullmatch(str(value).lower())
        if found and "py" in name.lower():
            return int(found[1])
    return None


def _task(entry: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the part of an entry that is neither a version nor a system."""
    parts = []
    for name, value in sorted(entry.items()):
        shown = str(value)
        if name in _LABELS or value is Unknown or _IS_VERSION.fullmatch(shown):
            continue
        if _IS_VARIANT.search(name):
            continue
        if not isinstance(value, dict) and _IS_SYSTEM.search(shown):
            continue
        parts.append((name, shown))
    return tuple(parts)


def _is_here(entry: Mapping[str, Any]) -> bool:
    """Whether this machine can run an entry."""
    for value in entry.values():
        if _ELSEWHERE.search(str(value)) or _SERVERS.fullmatch(str(value)):
            return False
    return True


def _entries(matrix: Mapping[str, Tree], python: tuple[int, int]) -> list[dict[str, Any]]:
    axes = _axes(matrix, python)
    found: list[dict[str, Any]] = [{}] if axes else []
    for name, values in axes.items():
        if len(found) * len(values) > MOST_ENTRIES:
            values = values[:1]
        found = _multiplied(found, name, values)
    for each in items(matrix.get("exclude")):
        found = [entry for entry in found if not _fits(table(each), entry)]
    more: list[dict[str, Any]] = []
    for extra in items(matrix.get("include")):
        known = {name: _known(value) for name, value in table(extra).items()}
        if not _extends(found, known, axes):
            more.append(known)
    return [*found, *filter(None, more)]  # an expression says nothing


def _known(value: Any) -> Any:
    """Return a value of the file; one that GitHub computes is unknown."""
    return Unknown if isinstance(value, str) and "${{" in value else value


def _axes(matrix: Mapping[str, Tree], python: tuple[int, int]) -> dict[str, list[Any]]:
    axes: dict[str, list[Any]] = {}
    for name, values in matrix.items():
        if name in ("include", "exclude"):
            continue
        if isinstance(values, list):
            axes[name] = [_known(value) for value in values]
        elif "py" in name.lower():  # an expression: GitHub computes the versions
            axes[name] = [f"{python[0]}.{python[1]}"]
        else:
            axes[name] = [Unknown]
    return axes


def _multiplied(found: list[dict[str, Any]], name: str, values: list[Any]) -> list[dict[str, Any]]:
    made = []
    for entry in found:
        for value in values:
            made.append({**entry, name: value})
    return made


def _fits(part: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    return bool(part) and all(entry.get(key) == value for key, value in part.items())


def _extends(found: list[dict[str, Any]], extra: Mapping[str, Any], axes: Iterable[str]) -> bool:
    """Add an `include` to the entries whose axes it names; return whether there is any."""
    shared = {key: extra[key] for key in axes if key in extra}
    is_any = False
    for entry in found:
        if shared.items() <= entry.items():
            entry.update(extra)
            is_any = True
    return is_any


def _distance(entry: Mapping[str, Any], python: tuple[int, int]) -> tuple[int, int]:
    """Return how far an entry is from this machine's Python, and from a plain build."""
    version = 50
    extras = 0
    for name, value in entry.items():
        found = _PYTHON.fullmatch(str(value).lower())
        if found and "py" in name.lower():
            version = abs(int(found[1]) - python[1])
            if found[2]:  # without the global lock
                version += 20
        if _IS_VARIANT.search(name) and not _PLAIN.match(str(value)):
            extras += 1
    return (version, extras)
