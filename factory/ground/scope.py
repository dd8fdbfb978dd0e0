"""What a unit may change: globs over the paths of a repository, always with `/`.

Invariant: a glob that matches a folder matches everything below it, as in .gitignore. `**` stands
for any number of folders. A glob starts at the root. Exception: a glob with a wildcard and without
`/` matches at any depth (`*.md`, but not `/*.md`).
"""

import re
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import PurePosixPath


def within(path: str, globs: Iterable[str]) -> bool:
    """Return whether one of the globs covers the path."""
    parts = path.split("/")
    return any(_covers(_segments(glob), parts) for glob in globs)


def covers(globs: Iterable[str], glob: str) -> bool:
    """Return whether one of the globs covers every path that `glob` covers; if unsure, False."""
    parts = _segments(glob)
    return any(_covers(_segments(each), parts, _surely) for each in globs)


def overlap(some: Iterable[str], others: Iterable[str]) -> bool:
    """Return whether both lists could cover the same path; if unsure, True.

    Only the beginnings and ends of the globs are compared.
    """
    ends = list(map(_ends, others))
    for glob in some:
        head, tail = _ends(glob)
        for begin, end in ends:
            begins = head.startswith(begin) or begin.startswith(head)
            if begins and (tail.endswith(end) or end.endswith(tail)):
                return True
    return False


def parents(path: str) -> Iterator[str]:
    """Yield the folders above a path, the nearest first; not the root."""
    while path := path.rpartition("/")[0]:
        yield path


def with_parents(path: str) -> Iterator[str]:
    """Yield the path, then the folders above it."""
    yield path
    yield from parents(path)


def _segments(glob: str) -> list[str]:
    """Return the glob's folders and last name, without a trailing `**`, which adds nothing."""
    parts = [part for part in glob.split("/") if part not in ("", ".")]
    if "/" not in glob.rstrip("/") and re.search(r"[*?[]", glob):
        parts.insert(0, "**")
    while parts and parts[-1] == "**":
        parts.pop()
    return parts


def _covers(
    glob: list[str], parts: list[str], match: Callable[[str, str], bool] = fnmatchcase
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


def _ends(glob: str) -> tuple[str, str]:
    """Return the common beginning and end of all paths that the glob covers."""
    parts = _segments(glob)
    # A last name without a suffix may be the name of a folder.
    if not PurePosixPath(*parts).suffix or glob.endswith(("/", "**")):
        parts.append("**")
    whole = "/".join(parts)
    return re.split(r"[*?[]", whole)[0], re.split(r"[*?\]]", whole)[-1]
