"""What stands at a place: whether it serves, how it is put back, and the stamp that says so.

Invariant: an environment has two layers. Dependencies serve every tree that asks for the same ones.
The build, which setup makes inside a tree, serves that tree alone, unless setup names its inputs.
"""

import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from factory.ground import disk, faults
from factory.inference.rules import Setup, digest
from factory.judging import layers
from factory.judging.layers import Print, differing, digest_of, print_of, size_of
from factory.judging.payload import built_into, is_editable
from factory.judging.place import Place, Stamp, read_stamp, write_stamp
from factory.judging.texts import text_of
from factory.judging.venvs import own_folders

# Bounds of what is copied, in bytes as sizes say, and of the paths that setup may build.
BUILD_BYTES = 4 << 30
DEPENDENCIES_BYTES = 32 << 30
BUILD_PATHS = 10_000

# What node tools write into node_modules while they work.
BUILD_CACHES = (".cache", ".vite", ".vitest")
_COMMAND = re.compile(r"(?m)^command = .*$")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a tree asks for: digests of all that each layer is made from."""

    dependencies: str
    build: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """An environment that may be used; equal keys, equal dependencies.

    `built`: just now, so the tree may be dirty. `made`: what setup built in the tree, by paths;
    `laid`: how that stood.
    """

    key: str
    built: bool
    print: Print = field(repr=False)
    made: tuple[str, ...] = ()
    laid: Print = field(default_factory=dict, repr=False)


# ── does it serve ──


def standing(place: Place, asked: Asked, *, verify: bool) -> Ready | None:
    """What stands there, if it serves; what setup built in the tree is laid into it.

    Without `verify`, changed dependencies and another tree's build serve too.
    """
    stamp = read_stamp(place.stamp)
    if stamp is None or stamp.asked != asked.dependencies or not _ours(place, stamp.candidate):
        return None
    if not verify:
        return Ready(key=stamp.key, built=False, print={}, made=stamp.made)
    fits = stamp.build in ("", asked.build) and _ours(place, stamp.builder)
    print_ = print_place(place)
    if not fits or stamp.print != digest_of(print_):
        return None
    ready = Ready(key=stamp.key, built=False, print=print_, made=stamp.made)
    with suppress(OSError):  # if the copy is damaged, it is built once more
        return replace(ready, laid=lay(place, ready))
    return None


def _ours(place: Place, maker: str) -> bool:
    """Whether trunk's code made it, or the code of this very candidate."""
    return maker in ("", place.candidate)


@faults.during("environment.print")
def print_place(place: Place) -> Print:
    """How the dependencies stand, and which Python they are for."""
    for top in place.installed:
        if top == place.venv or top.is_symlink():
            continue
        for name in BUILD_CACHES:
            disk.remove(top / name)
    python = identity(str(place.venv / "bin/python"))
    return {"python": python, **print_of(place.installed)}


def identity(path: str) -> tuple[int, ...]:
    """What distinguishes a program from another at the same path."""
    if not path:
        return ()
    with suppress(OSError):
        about = os.stat(path)  # noqa: PTH116  ten tools, each time: no Path for them
        return (about.st_size, about.st_mtime_ns, about.st_ino)
    return ()


# ── putting it back ──


@faults.during("environment.lay")
def lay(place: Place, ready: Ready) -> Print:
    """Make what setup built in the tree what it was, and return how it stands then."""
    tops = place.inside(ready.made)
    changed = differing(ready.laid, print_of(tops))
    for top in tops:
        copied = _copy_of(place, top)
        if ready.laid:
            paths = layers.below(top, changed)
            layers.put_back(top, copied, paths)
        else:
            layers.copy(copied, top)
    return print_of(tops)


@faults.during("environment.tidy")
def tidy(place: Place) -> None:
    """Delete what was added to the environment since it was made."""
    if place.stamp.is_file():
        layers.remove_newer(place.installed, place.stamp)


def clear(place: Place, setup: Setup) -> None:
    """Remove what setup built in the tree before."""
    stamp = read_stamp(place.stamp)
    made = stamp.made if stamp else ()
    for path in place.inside((*setup.builds, *made)):
        disk.remove(path)


def restored(place: Place, copied: Stamp) -> Print | None:
    """How the dependencies stand when they are what was copied; None if the copy cannot be read."""
    try:
        layers.restore(place, copied, print_place(place))
    except OSError as error:
        if disk.full(error):
            raise
        return None
    return print_place(place)


# ── after setup ──


class TooMuch(Exception):
    """What setup built in a tree is more than can be kept for it; says so in a sentence."""


def made_in(
    place: Place, setup: Setup, *, before: Sequence[str], after: Sequence[str]
) -> tuple[str, ...]:
    """What setup built in the tree: what it names, and the ignored paths that are new."""
    named = [path for path in setup.builds if os.path.lexists(place.tree / path)]
    known = tuple(f"{path}/" for path in (*place.keeps, *named))
    old = set(before)
    fresh = [path for path in after if path not in old and not f"{path}/".startswith(known)]
    return (*named, *fresh)


def seal(place: Place, setup: Setup, asked: Asked, stamp: Stamp, *, before: Print | None) -> Ready:
    """Stamp what stands there, with copies of what has to be put back; raises OSError or TooMuch.

    `before`: how the dependencies stood that the build ran on; None if all of it was made now.
    """
    tops = place.inside(stamp.made)
    laid = print_of(tops)
    _check(stamp.made, laid)
    print_ = print_place(place)
    key = stamp.key or digest(asked.dependencies, *_installed(place, setup))
    stamp = replace(stamp, key=key, print=digest_of(print_))
    if before is not None:
        touched = differing(before, print_)
        stamp = replace(_of_build(place, asked, stamp), touched=tuple(touched))
    elif stamp.made or setup.builds or built_into(place.venv):
        stamp = _of_build(place, asked, stamp)
        if size_of(print_) <= DEPENDENCIES_BYTES and not place.candidate:
            stamp = _with_copy(place, stamp)
    disk.remove(place.made)
    for top in tops:
        layers.copy(top, _copy_of(place, top))
    write_stamp(place.stamp, stamp)
    return Ready(key=key, built=True, print=print_, made=stamp.made, laid=laid)


def _check(made: Sequence[str], laid: Print) -> None:
    advice = "Let setup write what gates do not need to $TMPDIR"
    if len(made) > BUILD_PATHS:
        raise TooMuch(
            f"Setup built {len(made):,} separate files in the tree, of {BUILD_PATHS:,}. {advice}."
        )
    size = size_of(laid)
    if size > BUILD_BYTES:
        gb = f"{size / 1e9:.1f} GB in the tree, of {BUILD_BYTES / 1e9:.1f}"
        raise TooMuch(f"Setup built {gb} that can be kept for it. {advice}.")


def _of_build(place: Place, asked: Asked, stamp: Stamp) -> Stamp:
    return replace(stamp, build=asked.build, builder=place.candidate)


def _with_copy(place: Place, stamp: Stamp) -> Stamp:
    """The stamp of dependencies that are copied."""
    stamp = replace(stamp, copy=secrets.token_hex(8))
    layers.keep_copy(place, stamp)
    return stamp


def _copy_of(place: Place, top: Path) -> Path:
    """Where the copy of something that was built in the tree is."""
    return place.made / top.relative_to(place.tree)


def _installed(place: Place, setup: Setup) -> Iterator[str]:
    """Return what the installers chose: the same request may give newer versions elsewhere.

    Without editable packages, whose version may be the commit's.
    """
    for folder in own_folders(place.venv):
        for info in sorted(folder.glob("*.dist-info")):
            if not is_editable(info):
                yield info.name
    yield _COMMAND.sub("", text_of(place.venv / "pyvenv.cfg"))  # without the path of the bench
    for path in setup.keeps:
        yield text_of(place.tree / path / ".package-lock.json")
