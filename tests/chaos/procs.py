"""Processes as /proc shows them, and SIGKILL for exactly the one that was looked at.

Invariant: only what descends from the given daemon, or carries the marker of the given folder, is ever signalled, and
only through a handle that was opened before its start time was compared.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MARKER = b"FACTORY_RUN="
SHIM = "factory.child.shim"


@dataclass(frozen=True, slots=True)
class Process:
    """One process at one moment; `run` is the run folder that its marker names."""

    pid: int
    started: str
    argv: tuple[str, ...]
    run: str = ""

    @property
    def is_shim(self) -> bool:
        """Whether it is the supervisor of a run and not of what runs in it."""
        return any(SHIM in part for part in self.argv[:6])

    @property
    def git(self) -> str:
        """The git command that it is (or will be, once its shell is told to go), such as `merge`; else empty."""
        if not any(part.rpartition("/")[2] == "git" for part in self.argv[:5]):
            return ""
        words = list(
            self.argv[self.argv.index("git") + 1 :] if "git" in self.argv else self.argv[1:]
        )
        while words and words[0].startswith("-"):
            words = words[2:] if words[0] == "-c" else words[1:]
        return words[0] if words else "?"


def started(pid: int) -> str:
    """When the process started, in ticks since boot; empty for one that has ended."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return "" if fields[0] in (b"Z", b"X") else fields[19].decode()
    return ""


def look(pid: int) -> Process | None:
    """The process as it is now; None where there is none, or none that may be read."""
    since = started(pid)
    try:
        argv = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    run = next(
        (os.fsdecode(each[len(MARKER) :]) for each in environ if each.startswith(MARKER)), ""
    )
    return Process(pid, since, tuple(map(os.fsdecode, argv)), run) if since else None


def children(pid: int) -> list[int]:
    """The processes that any thread of this one has started and that live."""
    found: list[int] = []
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, listed.read_text().split())
    return found


def marked(folder: Path) -> Iterator[Process]:
    """All living processes whose marker names a run folder inside of `folder`."""
    for entry in Path("/proc").glob("[0-9]*"):
        process = look(int(entry.name))
        if process and process.run.startswith(f"{folder}/"):
            yield process


def at_work_in(root: Path) -> Iterator[int]:
    """The living git processes that work in the tree of `root`, or on its git dir."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            argv, environ = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
            here = os.fsencode(f"{root}/.git") in environ or (entry / "cwd").readlink() == root
            is_git = b"git\0" in argv or b"/git" in argv
            waits = b"read -r go" in argv  # for the daemon's word: it is no git yet
            if here and is_git and not waits and started(int(entry.name)):
                yield int(entry.name)


def kill(process: Process, number: int = signal.SIGKILL) -> bool:
    """Signal it, if it still is who it was."""
    with suppress(OSError):  # ended; or its number is a thread's by now
        handle = os.pidfd_open(process.pid)
        try:
            if started(process.pid) == process.started:
                signal.pidfd_send_signal(handle, number)
                return True
        finally:
            os.close(handle)
    return False
