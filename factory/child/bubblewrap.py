"""Bubblewrap confines commands on Linux: separate files, processes and terminal.

Invariant: the disk is read-only and hidden folders are empty, except for the paths in the profile.
"""

# Uses os.path, because a link may lead into another user's HOME: there, pathlib raises, and os.path
# returns False.
# ruff: noqa: PTH114

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from factory.child import process, shim
from factory.child.profile import Profile
from factory.ground import disk

SCRATCH_BYTES = 512 << 20  # size in memory of /tmp and of /dev/shm; TMPDIR is on disk
# Paths in /proc that root can write to even without a capability.
_KERNEL = ("sys", "sysrq-trigger", "irq", "bus", "fs")
_TRIAL_SECONDS = 10.0


class Bubblewrap:
    """A Confiner. `work`: the folder where commands work."""

    name = "bwrap"
    links = False

    def __init__(self, program: str, path: str, *, hidden: Sequence[Path], work: Path) -> None:
        self._program = program
        self._path = path
        self._hidden = hidden
        self._work = work
        self.layers = False
        self._overlays = False
        self._shares = False  # true after a trial showed that the disk cannot hold layers

    @property
    def protections(self) -> str:
        """The protections that are really active, in one line."""
        on = "sandbox: bubblewrap; separate files, processes and terminal; network open"
        if self._shares:
            on += (
                "; the disk of the work folder cannot hold an overlay, so gates of one group share"
            )
            on += " a checkout"
        elif not self._overlays:
            on += "; without overlays: factoryd compares files to find what a gate changed"
        return on

    async def look(self, programs: Callable[[], Sequence[Path]]) -> str:
        """Try bubblewrap; return why it does not work, or ""."""
        there = self._work
        while not there.is_dir():  # before the first start, the folder does not exist yet
            there = there.parent
        self._overlays = not await self._tried(_throwaway(str(there)))
        if self._overlays and self._work.is_dir():
            self._shares = bool(await self._tried_layer())
            self.layers = not self._shares
        if self._overlays:
            return ""
        return await self._tried([])

    async def _tried_layer(self) -> str:
        """Try a layer on the work folder's disk, because not all file systems support layers."""
        # This effect needs no recovery: no code ever looks for this folder.
        trial = Path(tempfile.mkdtemp(prefix="layer-", dir=self._work))
        try:
            below = trial / "below"
            below.mkdir()
            return await self._tried([*_layer(below, make_layer(trial / "layer"))])
        finally:
            disk.remove(trial)

    async def _tried(self, more: Sequence[str]) -> str:
        report = ["--json-status-fd", "1"]  # the shim reads the same report from a pipe
        argv = [self._program, *report, *self._base(network=False), *more, "--", "true"]
        env = {"PATH": self._path}
        tried = await process.run(argv, env=env, seconds=_TRIAL_SECONDS)
        if tried.code == 0 and shim.has_started(self.name, tried.out):
            return ""
        complaints = tried.err.decode(errors="replace").strip().splitlines()
        why = complaints[-1] if complaints else f"exit {tried.code}"
        return f"bubblewrap does not work here ({why})"

    def words(self, profile: Profile) -> tuple[str, ...]:
        """Return the words to put before a command line."""
        options = list(self._base(network=profile.network))
        for path in map(str, profile.reads):
            if os.path.islink(path):
                options += ["--symlink", os.path.realpath(path), path]
            else:
                options += ["--ro-bind", path, path]
        for path in map(str, profile.writes):
            options += ["--bind", path, path]
        for place, folder in sorted(profile.layered.items()):
            options += _layer(place, folder)
        for path in map(str, profile.scratch):
            options += _throwaway(path) if self._overlays else ["--bind", path, path]
        for source, seen in profile.shared.items():
            options += ["--bind", str(source), str(seen)]
        return (self._program, *options, "--")

    def _base(self, *, network: bool) -> Iterator[str]:
        yield from ("--die-with-parent", "--unshare-user", "--unshare-pid", "--unshare-ipc")
        yield from ("--cap-drop", "ALL")
        if not network:
            yield "--unshare-net"
        yield from ("--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev")
        # Without this limit, the default would be half of the machine's memory.
        yield from ("--size", str(SCRATCH_BYTES), "--tmpfs", "/dev/shm", "--remount-ro", "/dev")
        for name in _KERNEL:
            yield from ("--ro-bind-try", f"/proc/{name}", f"/proc/{name}")
        hidden: list[Path] = []
        for path in sorted(set(self._hidden)):
            if path.is_dir() and not any(map(path.is_relative_to, hidden)):
                hidden.append(path)
                size = SCRATCH_BYTES if path.name == "tmp" else 1 << 20
                yield from ("--size", str(size), "--tmpfs", str(path))
        resolver = Path("/etc/resolv.conf").resolve()
        if any(map(resolver.is_relative_to, self._hidden)):
            yield from ("--ro-bind-try", str(resolver), str(resolver))


def make_layer(folder: Path) -> Path:
    """Make `folder` a layer: commands then write into `written(folder)` and not into the tree."""
    written(folder).mkdir(parents=True)
    (folder / "work").mkdir()
    return folder


def written(layer: Path) -> Path:
    """Return the folder where the layer stores what commands write."""
    return layer / "upper"


def _layer(place: Path, folder: Path) -> list[str]:
    into = ["--overlay", str(written(folder)), str(folder / "work"), str(place)]
    return ["--overlay-src", str(place), *into]


def _throwaway(path: str) -> list[str]:
    return ["--overlay-src", path, "--tmp-overlay", path]
