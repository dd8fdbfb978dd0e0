"""A tree, and what lies beside it: the environment that setup made, scratch folders, and copies.

Invariant: a stamp is removed before anything that it describes is changed, and written after all
of it is in place.
"""

import json
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from factory.ground import bounded

STAMP = "environment.json"
Contents = Callable[[], Awaitable[Mapping[str, str]]]
Ignored = Callable[[], Awaitable[Sequence[str]]]


class Place:
    """A tree and what belongs to it, in one folder; `index` keeps the ports of places apart.

    `keeps`: the dependencies that setup installs in the tree (node_modules). `caches`: which of
    the factory's caches serve here. `shows`: the id of the tree; what is built in it is cached by
    that. `contents`: the paths that git tracks there, each with the id of its content. `ignored`:
    lists what git ignores in the tree. `candidate`: the tree's id, where it is not
    trunk's: its code adds to no cache, and an environment that it made serves that tree alone, for
    a later one's verdict would rest on it.
    """

    def __init__(
        self,
        folder: Path,
        index: int = 0,
        *,
        contents: Contents,
        keeps: Sequence[str] = (),
        caches: str = "workspaces",
        candidate: str = "",
        shows: str = "",
        ignored: Ignored | None = None,
    ) -> None:
        self.folder, self.index, self.caches = folder, index, caches
        self.candidate, self.shows = candidate, shows
        self.contents, self.ignored = contents, ignored
        self.keeps = tuple(keeps)
        self.tree, self.venv = folder / "tree", folder / "venv"
        # HOME and TMPDIR of what runs here.
        self.home, self.tmp = folder / "home", folder / "tmp"
        self.layers = (
            folder / "layers"
        )  # what gates beside each other write in the tree, each apart
        self.kept = folder / "copies/dependencies"  # as trunk's code installed them
        self.made = folder / "copies/build"  # what setup built in the tree
        self.stamp = folder / STAMP  # what the environment was made from; written last

    @property
    def installed(self) -> tuple[Path, ...]:
        """Where the dependencies are: the venv, and folders that really lie in the tree."""
        return (self.venv, *self.inside(self.keeps))

    def inside(self, paths: Sequence[str]) -> list[Path]:
        """These paths of the tree, less those that a candidate's link would lead elsewhere."""
        top = os.path.realpath(self.tree)
        named = [self.tree / path for path in paths]
        # Links may lead in a circle.
        return [path for path in named if Path(os.path.realpath(path.parent)).is_relative_to(top)]


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
    """The stamp in that file; None where there is none, or one that another version wrote."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        return stamp_of(json.loads(bounded.whole(path, bounded.TOLD)))
    return None


def stamp_of(told: Mapping[str, Any]) -> Stamp:
    """The stamp that JSON told; raises TypeError or KeyError where it is not whole."""
    lists = {"made": tuple(told["made"]), "touched": tuple(told["touched"])}
    return Stamp(**{**told, **lists})


def write_stamp(path: Path, stamp: Stamp) -> None:
    """Write the stamp, whole or not at all."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(stamp)), encoding="utf-8", errors="surrogateescape")
    fresh.replace(path)
