"""The files that keep units from landing, as they look: whoever changes one may have made way.

Invariant: no git is run to look at them, since a person may take a night to move one.
"""

from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

Look = Mapping[Path, tuple[int, ...]]


class InTheWay:
    """Which files each unit whose landing is blocked waits for."""

    def __init__(self) -> None:
        self._paths: dict[str, tuple[Path, ...]] = {}

    def __bool__(self) -> bool:
        return bool(self._paths)

    def put(self, unit: str, paths: Collection[Path]) -> None:
        """The unit waits until one of the paths has changed."""
        self._paths[unit] = tuple(paths)

    def keep(self, units: Collection[str]) -> None:
        """Forget all other units."""
        for name in self._paths.keys() - set(units):
            del self._paths[name]

    def look(self) -> Look:
        """What the files look like now; one that is not there has no entry."""
        seen: dict[Path, tuple[int, ...]] = {}
        for paths in self._paths.values():
            for path in paths:
                with suppress(OSError):
                    seen[path] = _marks(path)
        return seen

    def changed(self, before: Look) -> list[str]:
        """The units of which a file looks otherwise than before."""
        now = self.look()
        paths = before.keys() | now.keys()
        different = {path for path in paths if before.get(path) != now.get(path)}
        units = []
        for name, waited_for in self._paths.items():
            if not different.isdisjoint(waited_for):
                units.append(name)
        return units


def _marks(path: Path) -> tuple[int, ...]:
    """What differs after a change of content, a replacement, or another owner or mode."""
    about = path.lstat()
    return about.st_mtime_ns, about.st_ino, about.st_ctime_ns
