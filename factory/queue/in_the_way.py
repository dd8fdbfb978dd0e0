"""The files that block landings: after such a file changes, the units that it blocked may land.

Invariant: checking the files runs no git, because a file may block a landing for a whole night.
"""

from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

Look = Mapping[Path, tuple[int, ...]]


class InTheWay:
    """The blocking files of each unit that cannot land."""

    def __init__(self) -> None:
        self._paths: dict[str, tuple[Path, ...]] = {}

    def __bool__(self) -> bool:
        return bool(self._paths)

    def put(self, unit: str, paths: Collection[Path]) -> None:
        """Record the paths that block the unit."""
        self._paths[unit] = tuple(paths)

    def keep(self, units: Collection[str]) -> None:
        """Forget all units except these."""
        for name in self._paths.keys() - set(units):
            del self._paths[name]

    def look(self) -> Look:
        """Return the current marks of the files; a missing file has no entry."""
        seen: dict[Path, tuple[int, ...]] = {}
        for paths in self._paths.values():
            for path in paths:
                with suppress(OSError):
                    seen[path] = _marks(path)
        return seen

    def changed(self, before: Look) -> list[str]:
        """Return the units with a blocking file that changed since `before`."""
        now = self.look()
        paths = before.keys() | now.keys()
        different = {path for path in paths if before.get(path) != now.get(path)}
        units = []
        for name, waited_for in self._paths.items():
            if not different.isdisjoint(waited_for):
                units.append(name)
        return units


def _marks(path: Path) -> tuple[int, ...]:
    """Return numbers that change with the content, the inode, the owner or the mode."""
    about = path.lstat()
    return about.st_mtime_ns, about.st_ino, about.st_ctime_ns
