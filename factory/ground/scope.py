"""What a unit may touch: globs over the paths of a repository, always with `/`.

Invariant: a glob that matches a folder matches all that is below it, as in .gitignore. `**` stands for any number of
folders. A glob starts at the root, except one without `/` that has a wildcard: `*.md` is meant at any depth (`/*.md`
is not).
"""

import re
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from itertools import product
from pathlib import PurePosixPath


def within(path: str, globs: Iterable[str]) -> bool:
    """Whether one of the globs covers the path."""
    parts = path.split("/")
    return any(_covers(_segments(glob), parts) for glob in globs)


def covers(globs: Iterable[str], glob: str) -> bool:
    """Whether every path that `glob` covers is covered by one of the globs; when in doubt, no."""
    parts = _segments(glob)
    return any(_covers(_segments(each), parts, _surely) for each in globs)


def overlap(some: Iterable[str], others: Iterable[str]) -> bool:
    """Whether a path could exist that both cover; when in doubt, yes: only how they begin and end is compared."""
    pairs = product(map(_ends, some), map(_ends, others))
    return any(
        (head.startswith(begin) or begin.startswith(head))
        and (tail.endswith(end) or end.endswith(tail))
        for (head, tail), (begin, end) in pairs
    )


def _segments(glob: str) -> list[str]:
    """The glob's folders and last name; a trailing `**` says nothing that its folder does not."""
    parts = [part for part in glob.split("/") if part not in ("", ".")]
    if "/" not in glob.rstrip("/") and re.search(r"[*?[]", glob):
        parts.insert(0, "**")
    while parts and parts[-1] == "**":
        parts.pop()
    return parts


def _covers(
    glob: list[str], parts: list[str], match: Callable[[str, str], bool] = fnmatchcase
) -> bool:
    reached = {0}  # how many segments of the path what was read of the glob may stand for
    for segment in glob:
        if segment == "**":
            reached = set(range(min(reached, default=len(parts)), len(parts)))
        else:
            reached = {at + 1 for at in reached if at < len(parts) and match(parts[at], segment)}
    return bool(reached)


def _surely(part: str, segment: str) -> bool:
    """Whether a glob's segment covers all that `part`, another glob's, may stand for."""
    if re.search(r"[*?[]", part):
        return part == segment or (segment == "*" and part != "**")
    return fnmatchcase(part, segment)


def _ends(glob: str) -> tuple[str, str]:
    """What the paths that it covers begin with, and end with: a last name without a suffix may be a folder."""
    parts = _segments(glob)
    is_file = PurePosixPath(*parts).suffix and not glob.endswith(("/", "**"))
    whole = "/".join(parts if is_file else [*parts, "**"])
    return re.split(r"[*?[]", whole)[0], re.split(r"[*?\]]", whole)[-1]
