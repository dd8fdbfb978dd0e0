"""Parses the output of git's plumbing commands.

Invariant: pure. An agent can make the output long, so the time must grow only linearly with it.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

# Modes of git's tree entries.
GITLINK = "160000"
SYMLINK = "120000"


class Texts(NamedTuple):
    """The texts of some files of a tree."""

    found: dict[str, str]  # by path
    larger: dict[str, int]  # the sizes of files that are too large to read


class Change(NamedTuple):
    """One path that differs between two trees. A tree without the path has empty mode and blob."""

    status: str  # A, M, D or T
    path: str
    old_mode: str
    mode: str
    old: str
    new: str


def names(out: bytes) -> list[str]:
    """Return the names in output that has a NUL after each name (`-z`)."""
    return [name for name in os.fsdecode(out).rstrip("\n").split("\0") if name]


def entries(out: bytes) -> tuple[dict[str, str], frozenset[str]]:
    """Return the object of each path, and the paths of symbolic links (`ls-tree -r -z`)."""
    objects: dict[str, str] = {}
    links: set[str] = set()
    for entry in names(out):
        facts, _, path = entry.partition("\t")
        objects[path] = facts.rpartition(" ")[2]
        if facts.startswith(SYMLINK):
            links.add(path)
    return objects, frozenset(links)


def changes(out: bytes) -> list[Change]:
    """Return the paths that differ (`diff-tree -r -z --raw`)."""
    parts = names(out)
    same: dict[str, str] = {}
    found = []
    for meta, path in zip(parts[::2], parts[1::2], strict=True):
        found.append(_change(meta, path, same))
    return found


def after(
    below: Mapping[str, str], links: frozenset[str], changed: Sequence[Change]
) -> tuple[dict[str, str], frozenset[str]]:
    """Return what `entries` would return for the tree after these changes."""
    objects = dict(below)
    linked = set(links)
    for change in changed:
        objects[change.path] = change.new
        linked.discard(change.path)
        if change.mode == SYMLINK:
            linked.add(change.path)
    known = {path: objects[path] for path in sorted(objects) if objects[path]}
    return known, frozenset(linked)


def _change(meta: str, path: str, same: dict[str, str]) -> Change:
    """Return one change. `same` returns one shared copy for equal texts, to save memory."""
    facts = []
    for fact in meta.removeprefix(":").split():
        known = fact if fact.strip("0") else ""
        facts.append(same.setdefault(known, known))
    old_mode, mode, old, new, status = facts
    return Change(status, path, old_mode, mode, old, new)


def sizes(out: bytes, asked: Sequence[bytes]) -> Iterator[int]:
    """Yield the sizes in order; -1 for an object that is missing or not a file.

    The output comes from `cat-file --batch-check=%(objecttype) %(objectsize)`.
    """
    at = 0
    for name in asked:
        missing = name + b" missing\n"
        if out.startswith(missing, at):
            at += len(missing)
            yield -1
            continue
        end = out.index(b"\n", at)
        kind, size = out[at:end].split()
        at = end + 1
        yield int(size) if kind == b"blob" else -1


def contents(out: bytes, asked: Sequence[bytes]) -> Iterator[bytes | None]:
    """Yield the contents in order; None if an object is missing or no file (`cat-file --batch`)."""
    at = 0
    for name in asked:
        if out.startswith(name + b" missing\n", at):
            at += len(name) + 9
            yield None
            continue
        end = out.index(b"\n", at)
        _, kind, size = out[at:end].split()
        at = end + 1 + int(size) + 1
        yield out[end + 1 : at - 1] if kind == b"blob" else None
