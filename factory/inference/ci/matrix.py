"""Chooses the entry of a job's matrix that is nearest to this machine."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from factory.ground.yaml_tree import Tree, items, table

MOST_ENTRIES = 2_000
MOST_TASKS = 12
_IS_VERSION = re.compile(
    r"(py|pypy|python|node|go|rust|ruby|php|django|dj|lts|v)?[-_/]?[\d.x*^~>=+]*([-.\w]*dev|t|rc\d*)?"
    r"|stable|beta|nightly|latest|current|lts/?\*?|true|false|",
    re.IGNORECASE,
)
_IS_SYSTEM = re.compile(
    r"ubuntu|linux|windows|macos|darwin|win32|arm64|x86|x64|amd64", re.IGNORECASE
)
_LABELS = ("name", "experimental", "label", "title")


def chosen(strategy: Tree | None, python: tuple[int, int]) -> list[Mapping[str, Any]]:
    """Return the matrix entries to run here, one for each task; [{}] if there is no matrix.

    Entries of one task differ only in versions and systems. Of these, a Linux entry with the Python
    that is nearest to `python`, this machine's version, is chosen; among equals, the first one.
    """
    matrix = table(table(strategy).get("matrix"))
    nearest: dict[tuple[tuple[str, str], ...], Mapping[str, Any]] = {}
    for entry in _entries(matrix):
        task = _task(entry)
        known = nearest.get(task)
        if known is None or _distance(entry, python) < _distance(known, python):
            nearest[task] = entry
    linux = [entry for entry in nearest.values() if not _distance(entry, python)[0]]
    return linux[:MOST_TASKS] or [{}]


def _task(entry: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the part of an entry that is neither a version nor a system."""
    parts = []
    for name, value in sorted(entry.items()):
        shown = str(value)
        if (
            not _IS_VERSION.fullmatch(shown)
            and not _IS_SYSTEM.search(shown)
            and name not in _LABELS
        ):
            parts.append((name, shown))
    return tuple(parts)


def _entries(matrix: Mapping[str, Tree]) -> list[dict[str, Any]]:
    axes = {}
    for name, values in matrix.items():
        if name in ("include", "exclude"):
            continue
        if not isinstance(values, list):  # an expression: GitHub computes the values
            continue
        axes[name] = values
    found: list[dict[str, Any]] = [{}] if axes else []
    for name, values in axes.items():
        if len(found) * len(values) > MOST_ENTRIES:
            values = values[:1]
        found = _multiplied(found, name, values)
    for each in items(matrix.get("exclude")):
        found = [entry for entry in found if not _fits(table(each), entry)]
    for extra in items(matrix.get("include")):
        found = _included(found, table(extra), axes)
    return found


def _multiplied(found: list[dict[str, Any]], name: str, values: list[Tree]) -> list[dict[str, Any]]:
    made = []
    for entry in found:
        for value in values:
            made.append({**entry, name: value})
    return made


def _fits(part: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    return bool(part) and all(entry.get(key) == value for key, value in part.items())


def _included(
    found: list[dict[str, Any]], extra: Mapping[str, Any], axes: Iterable[str]
) -> list[dict[str, Any]]:
    """Add an `include`: to the entries whose axes it names, otherwise as an entry of its own."""
    shared = {key: extra[key] for key in axes if key in extra}
    is_extension = False
    made = []
    for entry in found:
        if all(entry.get(key) == value for key, value in shared.items()) and axes:
            made.append({**entry, **extra})
            is_extension = True
        else:
            made.append(entry)
    return made if is_extension else [*made, dict(extra)]


def _distance(entry: Mapping[str, Any], python: tuple[int, int]) -> tuple[int, int]:
    system = 0
    version = 50
    for name, value in entry.items():
        shown = str(value).lower()
        if re.search(r"windows|win32|macos|darwin|osx|arm64|aarch64", shown):
            system = 1
        found = re.fullmatch(r"(?:py|python)?-?3\.?(\d+)t?", shown)
        if found and "py" in name.lower():
            version = abs(int(found[1]) - python[1])
            if shown.endswith("t"):
                version += 20
        elif "pypy" in shown:
            version = 40
    return (system, version)
