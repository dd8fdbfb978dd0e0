"""Tells a process from a later one with the same pid, and operates on processes safely.

Invariant: factoryd identifies a process by pid, start time and boot before it signals, awaits or
reaps it; the pid alone is never enough.
"""

import errno
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import anyio

from factory.child import proc

POLL_SECONDS = 0.5  # between two checks for the end of a process, if there is no pidfd


def _pidfds_work() -> bool:
    try:
        os.close(os.pidfd_open(os.getpid()))
    # another system, an old kernel, or a container's filter does not support it
    except (AttributeError, OSError):
        return False
    return True


PIDFD = _pidfds_work()


@dataclass(frozen=True, slots=True)
class Identity:
    """One process. `started` and `boot`: texts in the system's own form."""

    pid: int
    started: str
    boot: str

    def is_alive(self) -> bool:
        """Return whether the process is still running."""
        return bool(self.started) and self == identity_of(self.pid)


def identity_of(pid: int) -> Identity:
    """Return the process that has this pid now; `started` is empty if there is none."""
    return Identity(pid, proc.started(pid), proc.boot())


async def ended(who: Identity) -> None:
    """Wait until the process has ended."""
    if PIDFD:
        with suppress(ProcessLookupError), _pidfd(who) as fd:
            await anyio.wait_readable(fd)
    else:
        while who.is_alive():  # noqa: ASYNC110 - nothing reports the end of the process
            await anyio.sleep(POLL_SECONDS)


def send(who: Identity, number: signal.Signals) -> None:
    """Signal the process, if it still runs and the system permits it."""
    with suppress(ProcessLookupError, PermissionError):
        if PIDFD:
            with _pidfd(who) as fd:
                signal.pidfd_send_signal(fd, number)
        elif who.is_alive():
            os.kill(who.pid, number)


def bury(who: Identity) -> None:
    """Reap a child of this process. The child has ended, and no other code waits for it."""
    fields = proc.stat(who.pid)
    is_zombie = fields[:1] == ["Z"] and fields[19] == who.started
    if is_zombie and int(fields[1]) == os.getpid():
        reap(who.pid)


def reap(pid: int) -> None:
    """Reap a child of this process if it has ended."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


@contextmanager
def _pidfd(who: Identity) -> Iterator[int]:
    """Open a handle on exactly this process; raise ProcessLookupError if it has ended."""
    try:
        fd = os.pidfd_open(who.pid)
    except OSError as error:
        # This error, which differs between kernels, means that a thread now has this number.
        if error.errno in (errno.EINVAL, errno.ENOENT):
            raise ProcessLookupError from error
        raise
    try:
        # Check after opening: from then on, the handle's pid cannot go to another process.
        if not who.is_alive():
            raise ProcessLookupError
        yield fd
    finally:
        os.close(fd)
