"""Bubblewrap, which confines on Linux: a file system, processes and a terminal of its own.

Invariant: the disk is read-only, and what is hidden is empty, but for what is named.
"""

# os.path asks where pathlib raises: a link may well lead into another user's HOME.
# ruff: noqa: PTH114

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from factory.child import process, shim
from factory.child.profile import Profile
from factory.ground import disk

SCRATCH_BYTES = 512 << 20  # of /tmp and of /dev/shm, which are memory, beside TMPDIR, which is disk
_KERNEL = (
    "sys",
    "sysrq-trigger",
    "irq",
    "bus",
    "fs",
)  # of /proc: root without a capability may write to them
_TRIAL_SECONDS = 10.0


class Bubblewrap:
    """A Confiner. `work`: where commands work."""

    name = "bwrap"
    links = False

    def __init__(self, program: str, path: str, *, hidden: Sequence[Path], work: Path) -> None:
        self._program, self._path, self._hidden, self._work = program, path, hidden, work
        self._overlays = False
        self.layers = False
        self._shares = False  # it was seen that the disk can hold no layer

    @property
    def protections(self) -> str:
        """What is really on, in one line."""
        kept = (
            "" if self._overlays else "; without overlays: what gates change is compared afterwards"
        )
        if self._shares:
            kept = "; no overlay can write to the disk of the work folder: gates of one group share a checkout"
        return f"sandbox: bubblewrap, files, processes and terminal apart, network open{kept}"

    async def look(self, programs: Callable[[], Sequence[Path]]) -> str:
        """Try it; why it does not work, empty where it does."""
        there = str(
            next(path for path in (self._work, *self._work.parents) if path.is_dir())
        )  # before the first start
        overlay = ["--overlay-src", there, "--tmp-overlay", there]
        self._overlays = not await self._tried(overlay)
        if self._overlays and self._work.is_dir():
            self._shares = bool(await self._tried_layer())
            self.layers = not self._shares
        return "" if self._overlays else await self._tried([])

    async def _tried_layer(self) -> str:
        """Try a layer on the disk of the work folder: not every file system can hold one."""
        # No effect of the line: nothing looks for this folder, whatever becomes of it.
        trial = Path(tempfile.mkdtemp(prefix="layer-", dir=self._work))
        try:
            below = trial / "below"
            below.mkdir()
            return await self._tried([*_layer(below, make_layer(trial / "layer"))])
        finally:
            disk.remove(trial)

    async def _tried(self, more: Sequence[str]) -> str:
        told_on_stdout = ["--json-status-fd", "1"]  # as the shim asks it to tell, there on a pipe
        argv = [self._program, *told_on_stdout, *self._base(network=False), *more, "--", "true"]
        env = {"PATH": self._path}
        tried = await process.run(argv, env=env, seconds=_TRIAL_SECONDS)
        if tried.code == 0 and shim.has_started(self.name, tried.out):
            return ""
        last = tried.err.decode(errors="replace").strip().splitlines()[-1:]
        said = last[0] if last else f"exit {tried.code}"
        return f"bubblewrap does not work here ({said})"

    def words(self, profile: Profile) -> tuple[str, ...]:
        """The words to put before a command line."""
        options = list(self._base(network=profile.network))
        for path in map(str, profile.reads):
            link = os.path.islink(path)
            options += (
                ["--symlink", os.path.realpath(path), path] if link else ["--ro-bind", path, path]
            )
        for path in map(str, profile.writes):
            options += ["--bind", path, path]
        for place, folder in sorted(profile.layered.items()):
            options += _layer(place, folder)
        for path in map(str, profile.scratch):
            options += (
                ["--overlay-src", path, "--tmp-overlay", path]
                if self._overlays
                else ["--bind", path, path]
            )
        for source, seen in profile.shared.items():
            options += ["--bind", str(source), str(seen)]
        return (self._program, *options, "--")

    def _base(self, *, network: bool) -> Iterator[str]:
        yield from (
            "--die-with-parent",
            "--unshare-user",
            "--unshare-pid",
            "--unshare-ipc",
            "--cap-drop",
            "ALL",
        )
        yield from () if network else ("--unshare-net",)
        yield from ("--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev")
        # It would be half of the machine's memory else.
        yield from ("--size", str(SCRATCH_BYTES), "--tmpfs", "/dev/shm", "--remount-ro", "/dev")
        for name in _KERNEL:
            yield from ("--ro-bind-try", f"/proc/{name}", f"/proc/{name}")
        hidden = list[Path]()
        for path in sorted(set(self._hidden)):
            if path.is_dir() and not any(path.is_relative_to(each) for each in hidden):
                hidden.append(path)
                yield from (
                    "--size",
                    str(SCRATCH_BYTES if path.name == "tmp" else 1 << 20),
                    "--tmpfs",
                    str(path),
                )
        resolver = Path("/etc/resolv.conf").resolve()
        if any(resolver.is_relative_to(each) for each in self._hidden):
            yield from ("--ro-bind-try", str(resolver), str(resolver))


def make_layer(folder: Path) -> Path:
    """Make `folder` one that a command's writes can go into; they lie in `written(folder)` then."""
    written(folder).mkdir(parents=True)
    (folder / "work").mkdir()
    return folder


def written(layer: Path) -> Path:
    """Where what was written into a layer lies."""
    return layer / "upper"


def _layer(place: Path, folder: Path) -> Iterator[str]:
    yield from ("--overlay-src", str(place))
    yield from ("--overlay", str(written(folder)), str(folder / "work"), str(place))
