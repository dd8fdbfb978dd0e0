"""A tree, with its environment, its scratch folders and its copies beside it.

Invariant: a stamp describes a place. It is removed before any change of what it describes, and
written when all of it is complete.
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
    """A tree and everything that belongs to it, in one folder."""

    folder: Path
    index: int = 0  # a number that gives each place its own ports
    _: KW_ONLY
    contents: Contents  # returns the tracked paths in the tree → the ids of their content
    ignored: Ignored = _nothing  # returns what git ignores in the tree
    keeps: Sequence[str] = ()  # folders of dependencies in the tree (node_modules)
    unit: str = ""  # the unit that it serves; "" for trunk
    caches: str = "workspaces"  # which of the factory's caches commands use here
    shows: str = ""  # the tree's id, which is the key of what setup builds in the tree
    # The tree's id if the tree is not trunk's. Other verdicts must not depend on such a tree. So
    # its code must not write to caches, and an environment that its code made is only for this
    # tree.
    candidate: str = ""

    def may_use(self, maker: str) -> bool:
        """Whether the maker of a thing is trunk's code ("") or this candidate's own code."""
        return maker in ("", self.candidate)

    @property
    def tree(self) -> Path:
        """The checkout of the tree."""
        return self.folder / "tree"

    @property
    def venv(self) -> Path:
        """The Python environment that setup made."""
        return self.folder / "venv"

    @property
    def home(self) -> Path:
        """HOME of the commands that run here."""
        return self.folder / "home"

    @property
    def tmp(self) -> Path:
        """TMPDIR of the commands that run here."""
        return self.folder / "tmp"

    @property
    def layers(self) -> Path:
        """A folder with a layer for each parallel gate; a layer gets the gate's writes."""
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
        """The stamp's file, which says what the environment was made from; it is written last."""
        return self.folder / STAMP

    @property
    def installed(self) -> tuple[Path, ...]:
        """The paths of the dependencies: the venv, and folders that really lie in the tree."""
        return (self.venv, *self.inside(self.keeps))

    def inside(self, paths: Sequence[str]) -> list[Path]:
        """Return the full paths of these; leave out a path if a link leads it out of the tree."""
        top = os.path.realpath(self.tree)
        found = list[Path]()
        for path in paths:
            named = self.tree / path
            # Not Path.resolve, which fails if links form a circle.
            if Path(os.path.realpath(named.parent)).is_relative_to(top):
                found.append(named)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What a place has: the dependencies, and what setup built in the tree."""

    asked: str  # digest of everything that the dependencies were made from
    candidate: str  # the tree whose code installed the dependencies; "" if trunk's code did
    key: str  # environments with equal keys have equal dependencies
    print: str = ""  # digest of the print of the dependencies
    # the name of the copy that equals them, apart from `touched`; "" if there is none
    copy: str = ""
    build: str = ""  # digest of everything that the build was made from; "" if there is no build
    builder: str = ""  # the tree whose code made the build; "" if trunk's code did
    made: tuple[str, ...] = ()  # what setup built, as paths in the tree
    touched: tuple[str, ...] = ()  # files of the dependencies that the build changed


def read_stamp(path: Path) -> Stamp | None:
    """Return the stamp in that file; None if the file is missing or of another version."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        return stamp_of(json.loads(bounded.whole(path, bounded.TOLD)))
    return None


def stamp_of(told: Mapping[str, Any]) -> Stamp:
    """Read a stamp from JSON values; raise TypeError or KeyError if a part is missing."""
    made = tuple(told["made"])
    touched = tuple(told["touched"])
    return Stamp(**{**told, "made": made, "touched": touched})


def write_stamp(path: Path, stamp: Stamp) -> None:
    """Write the stamp atomically."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(stamp)), encoding="utf-8", errors="surrogateescape")
    fresh.replace(path)
