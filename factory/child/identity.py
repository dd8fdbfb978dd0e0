"""A process, told apart from whoever gets its pid later, and what can be done to it safely.

Invariant: a process is signalled, waited for or reaped only after it was identified by pid, start
time and boot, never by pid alone.
"""

import errno
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import anyio

from factory.child import proc

POLL_SECONDS = 0.5  # between two looks, where no pidfd tells that a process has ended


def _pidfds_work() -> bool:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):  # another system, an old kernel, a filter around a container
        return False
    return True


PIDFD = _pidfds_work()


@dataclass(frozen=True, slots=True)
class Identity:
    """One process; `started` and `boot` are the system's own words."""

    pid: int
    started: str
    boot: str

    def is_alive(self) -> bool:
        """Return whether it still runs."""
        return bool(self.started) and self == identity_of(self.pid)


def identity_of(pid: int) -> Identity:
    """Return who has that pid now; `started` is empty if nobody has."""
    return Identity(pid, proc.started(pid), proc.boot())


async def ended(who: Identity) -> None:
    """Wait until the process has ended."""
    if PIDFD:
        with suppress(ProcessLookupError), _pidfd(who) as fd:
            await anyio.wait_readable(fd)
    else:
        while who.is_alive():  # noqa: ASYNC110 - nothing tells its end
            await anyio.sleep(POLL_SECONDS)


def send(who: Identity, number: signal.Signals) -> None:
    """Signal the process, if it still runs and may be signalled."""
    with suppress(ProcessLookupError, PermissionError):
        if PIDFD:
            with _pidfd(who) as fd:
                signal.pidfd_send_signal(fd, number)
        elif who.is_alive():
            os.kill(who.pid, number)


def bury(who: Identity) -> None:
    """Reap a child of this process that has ended and that nobody waits for."""
    fields = proc.stat(who.pid)
    is_zombie = fields[:1] == ["Z"] and fields[19] == who.started
    if is_zombie and proc.parent(who.pid) == os.getpid():
        reap(who.pid)


def reap(pid: int) -> None:
    """Reap a child of this process if it has ended."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


@contextmanager
def _pidfd(who: Identity) -> Iterator[int]:
    """Open a handle that is surely of that process; raise ProcessLookupError if it has ended."""
    try:
        fd = os.pidfd_open(who.pid)
    except OSError as error:
        # Older and newer kernels: by now some thread has that number.
        if error.errno in (errno.EINVAL, errno.ENOENT):
            raise ProcessLookupError from error
        raise
    try:
        # Looked at after opening: from then on the pid in the handle cannot change hands.
        if not who.is_alive():
            raise ProcessLookupError
        yield fd
    finally:
        os.close(fd)
