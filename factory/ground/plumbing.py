"""What git's plumbing commands print, taken apart.

Invariant: pure, and no slower than the output is long: an agent decides how long that is.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

GITLINK, SYMLINK = "160000", "120000"  # modes


class Texts(NamedTuple):
    """What files of a tree say."""

    found: dict[str, str]  # by path
    larger: dict[str, int]  # those that have more bytes than are read, with how many


class Change(NamedTuple):
    """One path that differs between two trees: modes and blobs before and after, empty where there is none."""

    status: str  # A, M, D or T
    path: str
    old_mode: str
    mode: str
    old: str
    new: str


def names(out: bytes) -> list[str]:
    """Names that a NUL ends (`-z`)."""
    return [name for name in os.fsdecode(out).rstrip("\n").split("\0") if name]


def entries(out: bytes) -> tuple[dict[str, str], frozenset[str]]:
    """Path → object, and the paths of symbolic links (`ls-tree -r -z`)."""
    parts = [entry.partition("\t") for entry in names(out)]
    links = frozenset(path for facts, _, path in parts if facts.startswith(SYMLINK))
    return {path: facts.rpartition(" ")[2] for facts, _, path in parts}, links


def changes(out: bytes) -> list[Change]:
    """What differs (`diff-tree -r -z --raw`)."""
    parts, same = names(out), dict[str, str]()
    return [_change(meta, path, same) for meta, path in zip(parts[::2], parts[1::2], strict=True)]


def after(
    below: Mapping[str, str], links: frozenset[str], changed: Sequence[Change]
) -> tuple[dict[str, str], frozenset[str]]:
    """What `entries` would give after these changes of what it gave before."""
    every = {**below, **{change.path: change.new for change in changed}}
    known = {path: every[path] for path in sorted(every) if every[path]}
    rest = links.difference(change.path for change in changed)
    return known, rest.union(change.path for change in changed if change.mode == SYMLINK)


def _change(meta: str, path: str, same: dict[str, str]) -> Change:
    """One of them; `same`: equal facts of all are one text in memory."""
    facts = meta.removeprefix(":").split()
    told = [fact if fact.strip("0") else "" for fact in facts]
    old_mode, mode, old, new, status = [same.setdefault(fact, fact) for fact in told]
    return Change(status, path, old_mode, mode, old, new)


def sizes(out: bytes, asked: Sequence[bytes]) -> Iterator[int]:
    """The sizes, in order; -1 for what is missing or no file.

    As `cat-file --batch-check=%(objecttype) %(objectsize)` prints them.
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
    """The contents, in order; None for what is missing or no file (`cat-file --batch`)."""
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
