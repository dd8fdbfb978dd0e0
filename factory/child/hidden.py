"""The hidden folders: a confined command sees only what its profile names in them.

Invariant: these functions change nothing and raise nothing, even if a link on PATH leads into
another user's HOME or in a circle.
"""
# Uses os.path, because it returns False in cases where pathlib raises.
# ruff: noqa: PTH112, PTH114

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path


class Hidden:
    """The hidden folders, by their real paths."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = folders
        self._prefixes = tuple(map(prefix, folders))

    def holds(self, path: Path) -> bool:
        """Return whether the path, a result of `placed`, lies in a hidden folder."""
        return prefix(path).startswith(self._prefixes)

    def lies_in(self, path: Path) -> bool:
        """Return whether the path contains a hidden folder, and so must not be shown."""
        above = prefix(path)
        return any(each.startswith(above) for each in self._prefixes)

    def links_to(self, path: Path) -> Iterator[Path]:
        """Yield the hidden links on the way to a path. A command needs them to find the path."""
        for folder in path.parents:
            if os.path.islink(folder):
                link = placed(folder)
                if self.holds(link):
                    yield link

    def outermost(self, shown: Iterable[Path]) -> tuple[Path, ...]:
        """Return the hidden paths that must be shown, without paths that lie inside another one."""
        # Other paths are visible already, and bubblewrap cannot mount over a link that it sees.
        found: list[Path] = []
        for path in existing(filter(self.holds, map(placed, shown))):
            if not any(map(path.is_relative_to, found)):
                found.append(path)
        return tuple(found)


def real(path: Path) -> Path:
    """Return the path without links; before Python 3.13, pathlib raises for a circle."""
    return Path(os.path.realpath(path))


def prefix(path: Path) -> str:
    """Return the common beginning of the path and all paths below it; faster than pathlib."""
    return f"{path}/".replace("//", "/")


def placed(path: Path) -> Path:
    """Return the path with its parent resolved. If the path itself is a link, keep it as a link."""
    if os.path.isdir(path) and not os.path.islink(path):
        return real(path)
    return real(path.parent) / path.name


def existing(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Return the paths that exist, sorted: a folder comes before its content."""
    return tuple(filter(os.path.exists, sorted(set(paths))))
