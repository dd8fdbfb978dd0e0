"""What stands at a place: whether it serves, how it is put back, and the stamp that says so.

Invariant: an environment has two layers. Dependencies serve every tree that asks for the same ones;
what setup built in a tree serves that tree alone, unless setup names what it is made from.
"""

import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from factory import disk, faults
from factory.inference import Setup, digest
from factory.judging.layers import (
    Print,
    below,
    built_into,
    copy,
    differing,
    digest_of,
    is_editable,
    keep_copy,
    print_of,
    put_back,
    restore,
    text_of,
)
from factory.judging.place import Place, Stamp, read_stamp, write_stamp

# What node tools write into node_modules while they work.
BUILD_CACHES = (".cache", ".vite", ".vitest")


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

    Not `verify`: neither a change of the dependencies nor another tree's build matters.
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
    in_tree = [top for top in place.installed if top != place.venv and not top.is_symlink()]
    for top in in_tree:
        for name in BUILD_CACHES:
            disk.remove(top / name)
    python = identity(str(place.venv / "bin/python"))
    return {"python": python, **print_of(place.installed)}


def identity(path: str) -> tuple[int, ...]:
    """What tells a program from another at the same path."""
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
        copied = place.made / top.relative_to(place.tree)
        if ready.laid:
            put_back(top, copied, below(top, changed))
        else:
            copy(copied, top)
    return print_of(tops)


def clear(place: Place, setup: Setup) -> None:
    """Remove what setup built in the tree before."""
    stamp = read_stamp(place.stamp)
    made = stamp.made if stamp else ()
    for path in place.inside((*setup.builds, *made)):
        disk.remove(path)


def restored(place: Place, copied: Stamp) -> Print | None:
    """How the dependencies stand when they are what was copied; None if the copy cannot be read."""
    try:
        restore(place, copied, print_place(place))
    except OSError as error:
        if disk.full(error):
            raise
        return None
    return print_place(place)


# ── after setup ──


def made_in(place: Place, setup: Setup, *, before: Sequence[str], after: Sequence[str]) -> tuple[str, ...]:
    """What setup built in the tree: what it names, and what git ignores and was not there before."""
    named = [path for path in setup.builds if os.path.lexists(place.tree / path)]
    known = tuple(f"{path}/" for path in (*place.keeps, *named))
    fresh = [path for path in after if path not in before]
    return (*named, *(path for path in fresh if not f"{path}/".startswith(known)))


def seal(place: Place, setup: Setup, asked: Asked, stamp: Stamp, *, before: Print | None) -> Ready:
    """Stamp what stands there, with copies of what has to be put back; raises OSError.

    `before`: how the dependencies stood that the build ran on; None if all of it was made now.
    """
    print_ = print_place(place)
    key = stamp.key or digest(asked.dependencies, *_installed(place, setup))
    stamp = replace(stamp, key=key, print=digest_of(print_))
    if before is not None:
        touched = tuple(differing(before, print_))
        stamp = replace(stamp, build=asked.build, builder=place.candidate, touched=touched)
    elif stamp.made or setup.builds or built_into(place.venv):
        stamp = replace(stamp, build=asked.build, builder=place.candidate)
        stamp = _with_copy(place, stamp)
    disk.remove(place.made)
    tops = place.inside(stamp.made)
    for top in tops:
        copy(top, place.made / top.relative_to(place.tree))
    write_stamp(place.stamp, stamp)
    return Ready(key=key, built=True, print=print_, made=stamp.made, laid=print_of(tops))


def _with_copy(place: Place, stamp: Stamp) -> Stamp:
    """The stamp of dependencies that are copied, if trunk's code installed them."""
    if place.candidate:
        return stamp
    stamp = replace(stamp, copy=secrets.token_hex(8))
    keep_copy(place, stamp)
    return stamp


def _installed(place: Place, setup: Setup) -> Iterator[str]:
    """What the installers chose: the same request may give something newer elsewhere.

    Less what is used from where its sources are: its version may be the commit's.
    """
    found = place.venv.glob("lib/python*/site-packages/*.dist-info")
    yield from sorted(path.name for path in found if not is_editable(path))
    locks = [place.tree / path / ".package-lock.json" for path in setup.keeps]
    for path in (place.venv / "pyvenv.cfg", *locks):
        yield re.sub(r"(?m)^command = .*$", "", text_of(path))
