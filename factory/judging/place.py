"""A tree, and what lies beside it: the environment that setup made, scratch folders, and copies.

Invariant: a stamp is removed before anything that it describes changes, and written after all of
it is in place.
"""

import json
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, asdict, dataclass
from pathlib import Path
from typing import Any

from factory.ground import bounded

STAMP = "environment.json"
Contents = Callable[[], Awaitable[Mapping[str, str]]]
Ignored = Callable[[], Awaitable[Sequence[str]]]


async def _nothing() -> Sequence[str]:
    return ()


@dataclass(eq=False, slots=True)
class Place:
    """A tree and what belongs to it, in one folder."""

    folder: Path
    index: int = 0  # keeps the ports of places apart
    _: KW_ONLY
    contents: Contents  # the paths that git tracks in the tree, each with the id of its content
    ignored: Ignored = _nothing  # what git ignores in the tree
    keeps: Sequence[str] = ()  # the dependencies that setup installs in the tree (node_modules)
    caches: str = "workspaces"  # which of the factory's caches serve here
    shows: str = ""  # the tree's id: what is built in the tree is cached by it
    # The tree's id, where the tree is not trunk's: its code adds to no cache, and an environment
    # that its code made serves that tree alone, for a later verdict would rest on it.
    candidate: str = ""

    @property
    def tree(self) -> Path:
        """The checkout."""
        return self.folder / "tree"

    @property
    def venv(self) -> Path:
        """The Python environment that setup made."""
        return self.folder / "venv"

    @property
    def home(self) -> Path:
        """HOME of what runs here."""
        return self.folder / "home"

    @property
    def tmp(self) -> Path:
        """TMPDIR of what runs here."""
        return self.folder / "tmp"

    @property
    def layers(self) -> Path:
        """A folder for each gate of several at once: what it writes in the tree."""
        return self.folder / "layers"

    @property
    def kept(self) -> Path:
        """A copy of the dependencies, as trunk's code installed them."""
        return self.folder / "copies/dependencies"

    @property
    def made(self) -> Path:
        """A copy of what setup built in the tree."""
        return self.folder / "copies/build"

    @property
    def stamp(self) -> Path:
        """The file that names what the environment was made from; it is written last."""
        return self.folder / STAMP

    @property
    def installed(self) -> tuple[Path, ...]:
        """Where the dependencies are: the venv, and folders that really lie in the tree."""
        return (self.venv, *self.inside(self.keeps))

    def inside(self, paths: Sequence[str]) -> list[Path]:
        """These paths of the tree, without those that a candidate's link would lead elsewhere."""
        top = os.path.realpath(self.tree)
        found = list[Path]()
        for path in paths:
            named = self.tree / path
            # Not Path.resolve, which fails where links lead in a circle.
            if Path(os.path.realpath(named.parent)).is_relative_to(top):
                found.append(named)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What stands at a place: the dependencies, and what setup built in the tree."""

    asked: str  # digest of all that the dependencies were made from
    candidate: str  # the tree whose code installed them; "" for trunk's
    key: str  # equal keys, equal dependencies
    print: str = ""  # digest of how every file of the dependencies stood
    copy: str = ""  # names the copy that they are, but for what the build touched; "" for none
    build: str = ""  # digest of all that the build was made from; "" where setup builds nothing
    builder: str = ""  # the tree whose code built it; "" for trunk's
    made: tuple[str, ...] = ()  # what it consists of, as paths in the tree
    touched: tuple[str, ...] = ()  # files of the dependencies that the build changed


def read_stamp(path: Path) -> Stamp | None:
    """The stamp in that file; None if there is none, or if another version wrote it."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        return stamp_of(json.loads(bounded.whole(path, bounded.TOLD)))
    return None


def stamp_of(told: Mapping[str, Any]) -> Stamp:
    """Read a stamp from JSON values; raises TypeError or KeyError if a part is missing."""
    made = tuple(told["made"])
    touched = tuple(told["touched"])
    return Stamp(**{**told, "made": made, "touched": touched})


def write_stamp(path: Path, stamp: Stamp) -> None:
    """Write the stamp, whole or not at all."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(stamp)), encoding="utf-8", errors="surrogateescape")
    fresh.replace(path)
