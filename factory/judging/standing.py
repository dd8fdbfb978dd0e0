"""The environment at a place: whether it can be used, how it is restored, and its stamp.

Invariant: an environment has two layers, the dependencies and the build. Every tree that needs the
same dependencies uses them. Only the tree in which setup made the build uses the build, unless
setup names the build's inputs.
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

# Upper bounds: bytes that are copied (sums of file sizes), and paths that setup may build.
BUILD_BYTES = 4 << 30
DEPENDENCIES_BYTES = 32 << 30
BUILD_PATHS = 10_000

# Paths in node_modules that node tools write while they work.
BUILD_CACHES = (".cache", ".vite", ".vitest")
_COMMAND = re.compile(r"(?m)^command = .*$")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a tree needs: for each layer, a digest of everything that the layer is made from."""

    dependencies: str
    build: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """An environment that may be used; equal keys mean equal dependencies.

    `built`: setup has just run, so the tree may have changed. `made`: the paths that setup built in
    the tree. `laid`: the print of these paths.
    """

    key: str
    built: bool
    print: Print = field(repr=False)
    made: tuple[str, ...] = ()
    laid: Print = field(default_factory=dict, repr=False)


# ── can it be used ──


def standing(place: Place, asked: Asked, *, verify: bool) -> Ready | None:
    """Return the place's environment, with its build restored; None if it cannot be used.

    Without `verify`, an environment with changed dependencies or another tree's build is accepted
    too.
    """
    stamp = read_stamp(place.stamp)
    if stamp is None or stamp.asked != asked.dependencies or not place.may_use(stamp.candidate):
        return None
    if not verify:
        return Ready(key=stamp.key, built=False, print={}, made=stamp.made)
    fits = stamp.build in ("", asked.build) and place.may_use(stamp.builder)
    print_ = print_place(place)
    if not fits or stamp.print != digest_of(print_):
        return None
    ready = Ready(key=stamp.key, built=False, print=print_, made=stamp.made)
    with suppress(OSError):  # if the copy is damaged, the environment is built from new
        return replace(ready, laid=lay(place, ready))
    return None


@faults.during("environment.print")
def print_place(place: Place) -> Print:
    """Return the print of the dependencies and of the Python that they belong to."""
    for top in place.installed:
        if top == place.venv or top.is_symlink():
            continue
        for name in BUILD_CACHES:
            disk.remove(top / name)
    python = identity(str(place.venv / "bin/python"))
    return {"python": python, **print_of(place.installed)}


def identity(path: str) -> tuple[int, ...]:
    """Return values that distinguish a program from any other program at the same path."""
    if not path:
        return ()
    with suppress(OSError):
        about = os.stat(path)  # noqa: PTH116  a Path for ten tools each time is slow
        return (about.st_size, about.st_mtime_ns, about.st_ino)
    return ()


# ── restoring it ──


@faults.during("environment.lay")
def lay(place: Place, ready: Ready) -> Print:
    """Restore the paths that setup built in the tree, and return their print."""
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
    """Delete the files that were added to the environment since it was made."""
    if place.stamp.is_file():
        layers.remove_newer(place.installed, place.stamp)


def clear(place: Place, setup: Setup) -> None:
    """Remove the paths that an earlier setup built in the tree."""
    stamp = read_stamp(place.stamp)
    made = stamp.made if stamp else ()
    for path in place.inside((*setup.builds, *made)):
        disk.remove(path)


def restored(place: Place, copied: Stamp) -> Print | None:
    """Restore the dependencies and return their print; None if the copy cannot be read."""
    try:
        layers.restore(place, copied, print_place(place))
    except OSError as error:
        if disk.full(error):
            raise
        return None
    return print_place(place)


# ── after setup ──


class TooMuch(Exception):
    """Setup built more in a tree than can be kept; the message is a sentence for a person."""


def made_in(
    place: Place, setup: Setup, *, before: Sequence[str], after: Sequence[str]
) -> tuple[str, ...]:
    """Return what setup built in the tree: the paths that setup names, and new ignored paths."""
    named = [path for path in setup.builds if os.path.lexists(place.tree / path)]
    known = tuple(f"{path}/" for path in (*place.keeps, *named))
    old = set(before)
    fresh = [path for path in after if path not in old and not f"{path}/".startswith(known)]
    return (*named, *fresh)


def seal(place: Place, setup: Setup, asked: Asked, stamp: Stamp, *, before: Print | None) -> Ready:
    """Stamp the environment, and copy the paths to restore later; raise OSError or TooMuch.

    `before`: the print of the dependencies that the build used; None if the same setup also made
    the dependencies.
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
    advice = "Let setup write files that gates do not need to $TMPDIR"
    if len(made) > BUILD_PATHS:
        raise TooMuch(
            f"Setup built {len(made):,} separate paths in the tree; "
            f"factoryd keeps at most {BUILD_PATHS:,}. {advice}."
        )
    size = size_of(laid)
    if size > BUILD_BYTES:
        most = f"{BUILD_BYTES / 1e9:.1f} GB"
        raise TooMuch(
            f"Setup built {size / 1e9:.1f} GB in the tree; factoryd keeps at most {most}. {advice}."
        )


def _of_build(place: Place, asked: Asked, stamp: Stamp) -> Stamp:
    return replace(stamp, build=asked.build, builder=place.candidate)


def _with_copy(place: Place, stamp: Stamp) -> Stamp:
    """Copy the dependencies, and return the stamp that names the copy."""
    stamp = replace(stamp, copy=secrets.token_hex(8))
    layers.keep_copy(place, stamp)
    return stamp


def _copy_of(place: Place, top: Path) -> Path:
    """Return the path of the copy of something that was built in the tree."""
    return place.made / top.relative_to(place.tree)


def _installed(place: Place, setup: Setup) -> Iterator[str]:
    """Yield the versions that installers chose. The same request may give others elsewhere.

    Editable packages are left out, because their version may depend on the commit.
    """
    for folder in own_folders(place.venv):
        for info in sorted(folder.glob("*.dist-info")):
            if not is_editable(info):
                yield info.name
    # the path of the bench is removed from this text
    yield _COMMAND.sub("", text_of(place.venv / "pyvenv.cfg"))
    for path in setup.keeps:
        yield text_of(place.tree / path / ".package-lock.json")
