"""What a unit may touch: globs over the paths of a repository, always with `/`.

Invariant: a glob that matches a folder matches all that is below it, as in .gitignore. `**` stands for any number of
folders. A glob starts at the root, except one without `/` that has a wildcard: `*.md` is meant at any depth (`/*.md`
is not).
"""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

_WILD = frozenset("*?[")


def within(path: str, globs: Iterable[str]) -> bool:
    """Whether one of the globs covers the path."""
    parts = path.split("/")
    return any(_covers(_segments(glob), parts) for glob in globs)


def overlap(some: Iterable[str], others: Iterable[str]) -> bool:
    """Whether a path could exist that both cover; when in doubt, yes."""
    right = [_segments(glob) for glob in others]
    return any(_meet(_segments(glob), other) for glob in some for other in right)


def _segments(glob: str) -> list[str]:
    """The glob's folders and last name; a trailing `**` says nothing that its folder does not."""
    parts = [part for part in glob.split("/") if part not in ("", ".")]
    if "/" not in glob.rstrip("/") and _WILD & set(glob):
        parts.insert(0, "**")
    while parts and parts[-1] == "**":
        parts.pop()
    return parts


def _covers(pattern: list[str], parts: list[str]) -> bool:
    reached = _past_stars({0}, pattern)
    for part in parts:
        if len(pattern) in reached:
            return True
        stay = {at for at in reached if pattern[at] == "**"}
        step = {at + 1 for at in reached - stay if fnmatchcase(part, pattern[at])}
        reached = _past_stars(stay | step, pattern)
    return len(pattern) in reached


def _past_stars(reached: set[int], pattern: list[str]) -> set[int]:
    """Those reached, and those behind a `**` that stands for no folder at all."""
    out = set(reached)
    for at in reached:
        while at < len(pattern) and pattern[at] == "**":
            at += 1
            out.add(at)
    return out


def _meet(one: list[str], two: list[str]) -> bool:
    """Walk both at once, each `**` either ending or taking in what the other one says next."""
    seen = set[tuple[int, int]]()
    todo = [(0, 0)]
    while todo:
        left, right = todo.pop()
        if (left, right) in seen:
            continue
        seen.add((left, right))
        ended = [pattern for pattern, at in ((one, left), (two, right)) if at == len(pattern)]
        if ended:
            if len(ended) == 2 or _is_folder(ended[0]):
                return True
        elif "**" in (one[left], two[right]):
            todo += [(left + 1, right), (left, right + 1)]
        elif _names_meet(one[left], two[right]):
            todo.append((left + 1, right + 1))
    return False


def _is_folder(pattern: list[str]) -> bool:
    """Whether what it matches may have something below it: a name with a suffix is taken for a file."""
    return not pattern or not PurePosixPath(pattern[-1]).suffix


def _names_meet(one: str, two: str) -> bool:
    if not _WILD & set(one):
        return fnmatchcase(one, two)
    if not _WILD & set(two):
        return fnmatchcase(two, one)
    heads, tails = (_literal(one), _literal(two)), (_literal(one[::-1], "*?]"), _literal(two[::-1], "*?]"))
    return _one_begins_other(*heads) and _one_begins_other(*tails)


def _literal(name: str, wild: str = "*?[") -> str:
    """The name up to its first wildcard."""
    return name[: next(at for at, letter in enumerate(name + wild[0]) if letter in wild)]


def _one_begins_other(one: str, two: str) -> bool:
    return one.startswith(two) or two.startswith(one)
