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
        self._paths = {name: paths for name, paths in self._paths.items() if name in units}

    def look(self) -> Look:
        """What the files look like now; one that is not there has no entry."""
        seen = dict[Path, tuple[int, ...]]()
        for paths in self._paths.values():
            for path in paths:
                with suppress(OSError):
                    about = path.lstat()
                    # Content, replacement, owner and mode: each of them changes one of the three.
                    seen[path] = (about.st_mtime_ns, about.st_ino, about.st_ctime_ns)
        return seen

    def changed(self, before: Look) -> list[str]:
        """The units of which a file looks otherwise than before."""
        now = self.look()
        different = {path for path in before.keys() | now.keys() if before.get(path) != now.get(path)}
        return [name for name, paths in self._paths.items() if not different.isdisjoint(paths)]
