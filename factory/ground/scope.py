"""What a unit may change: globs over the paths of a repository, always with `/`.

Invariant: a glob that matches a folder matches everything below it, as in .gitignore. `**` stands
for any number of folders. A glob starts at the root. Exception: a glob with a wildcard and without
`/` matches at any depth (`*.md`, but not `/*.md`).
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache

from factory.ground.claims import SHORT, Claims, segments


def within(path: str, globs: Iterable[str]) -> bool:
    """Return whether one of the globs covers the path."""
    parts = path.split("/")
    return any(_covers(_segments(glob), parts) for glob in globs)


def covers(globs: Iterable[str], glob: str) -> bool:
    """Return whether one of the globs covers every path that `glob` covers; if unsure, False."""
    parts = _segments(glob)
    return any(_covers(_segments(each), parts, _surely) for each in globs)


def overlap(some: Iterable[str], others: Iterable[str]) -> bool:
    """Return whether both lists could cover the same path; if unsure, True."""
    claims = Claims()
    claims.add("others", others)
    return bool(claims.owner(some))


def parents(path: str) -> Iterator[str]:
    """Yield the folders above a path, the nearest first; not the root."""
    while path := path.rpartition("/")[0]:
        yield path


def with_parents(path: str) -> Iterator[str]:
    """Yield the path, then the folders above it."""
    yield path
    yield from parents(path)


@lru_cache(maxsize=1024)
def _compiled(glob: str) -> tuple[str, ...]:
    return tuple(segments(glob))


def _segments(glob: str) -> Sequence[str]:
    return _compiled(glob) if len(glob) <= SHORT else segments(glob)


def _covers(
    glob: Sequence[str], parts: Sequence[str], match: Callable[[str, str], bool] = fnmatchcase
) -> bool:
    reached = {0}  # how many segments of the path the glob's segments so far can match
    for segment in glob:
        if segment == "**":
            reached = set(range(min(reached, default=len(parts)), len(parts)))
        else:
            reached = {at + 1 for at in reached if at < len(parts) and match(parts[at], segment)}
    return bool(reached)


def _surely(part: str, segment: str) -> bool:
    """Return whether a segment matches everything that `part`, from another glob, can match."""
    if re.search(r"[*?[]", part):
        return part == segment or (segment == "*" and part != "**")
    return fnmatchcase(part, segment)
