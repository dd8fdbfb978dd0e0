"""The folders of which a confined command sees nothing but what is named.

Invariant: looking changes nothing, and raises nothing: a link on PATH may well lead into another
user's HOME, or round.
"""
# os.path asks where pathlib raises.
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
        """Return whether the path, as `placed` gives it, lies in a hidden folder."""
        return prefix(path).startswith(self._prefixes)

    def lies_in(self, path: Path) -> bool:
        """Return whether a hidden folder lies in the path: to show it would show that folder."""
        above = prefix(path)
        return any(each.startswith(above) for each in self._prefixes)

    def links_to(self, path: Path) -> Iterator[Path]:
        """Yield the hidden links on the way to a path, which is not found without them."""
        for folder in path.parents:
            if os.path.islink(folder):
                link = placed(folder)
                if self.holds(link):
                    yield link

    def outermost(self, shown: Iterable[Path]) -> tuple[Path, ...]:
        """Return which of these must be shown: hidden ones that lie in no other of them."""
        # All else is there already, and bubblewrap mounts nothing upon a link that it sees.
        found: list[Path] = []
        for path in existing(filter(self.holds, map(placed, shown))):
            if not any(map(path.is_relative_to, found)):
                found.append(path)
        return tuple(found)


def real(path: Path) -> Path:
    """Return where it is in the end; pathlib before 3.13 raises for links that lead round."""
    return Path(os.path.realpath(path))


def prefix(path: Path) -> str:
    """Return how the path and all paths below it begin: faster than pathlib, for thousands."""
    return f"{path}/".replace("//", "/")


def placed(path: Path) -> Path:
    """Return where it lies itself, and not what it leads to if it is a link."""
    if os.path.isdir(path) and not os.path.islink(path):
        return real(path)
    return real(path.parent) / path.name


def existing(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Return those that exist, sorted: a folder before what lies in it."""
    return tuple(filter(os.path.exists, sorted(set(paths))))
