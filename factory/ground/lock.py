"""The lock that allows only one daemon per repository.

Invariant: a process that holds the lock and finds the lock file in place is the only daemon. The
file's name does not end in `.lock`, because people delete such files after git was killed.
"""

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path

from factory.ground.errors import RefusedByState

_ENDING_S = 2.0  # how long the end of a leftover process may take
# lock file of releases before format 4 of the store; such a daemon may still run
OLD_NAME = "factoryd.lock"


class Lock:
    """A held lock. `root`: the checkout that the error message of a second daemon names."""

    def __init__(self, path: Path, root: Path) -> None:
        self._path = path
        self._root = root
        self._file = _take(path, root)

    def is_ours(self) -> bool:
        """Return whether this daemon is still the only one; create a deleted lock file again."""
        if _is_same(self._file, self._path):
            return True
        if self._path.exists():
            return False
        try:
            again = _take(self._path, self._root)
        except RefusedByState:
            return False
        self._file.close()
        self._file = again
        return True

    def release(self) -> None:
        """Release the lock."""
        self._file.close()


@contextmanager
def locked(path: Path, root: Path) -> Iterator[Lock]:
    """Hold the daemon's lock; raise RefusedByState if another process has it."""
    _refuse_older(path.with_name(OLD_NAME))
    lock = Lock(path, root)
    try:
        yield lock
    finally:
        lock.release()


def _take(path: Path, root: Path) -> TextIOWrapper:
    while True:
        file = path.open("a+")
        if not _is_free(file):
            raise _refusal(file, path)
        if not _is_same(file, path):  # the file was deleted between the two calls
            file.close()
            continue
        file.truncate(0)
        file.write(f"{root}\n")
        file.flush()
        return file


def _is_free(file: TextIOWrapper) -> bool:
    """Whether the lock could be taken, if necessary after the end of a dead daemon's children.

    A child that has not yet become another program shares the daemon's lock. If the daemon is
    killed at that instant, the child can stay for ever: with glibc 2.41 it may wait for a lock of a
    thread that is dead.
    """
    deadline = time.monotonic() + _ENDING_S
    while True:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        left = _left_by_the_dead(file)
        if not left or time.monotonic() > deadline:
            return False
        for pid in left:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _left_by_the_dead(file: TextIOWrapper) -> list[int]:
    """Return the processes that share this lock although the process that took it is dead.

    Only Linux tells who shares a lock.
    """
    about = os.fstat(file.fileno())
    device = f"{os.major(about.st_dev):02x}:{os.minor(about.st_dev):02x}"
    found = []
    for folder in Path("/proc").glob("[0-9]*/fdinfo"):
        pid = int(folder.parent.name)
        owners = _owners(folder, f"{device}:{about.st_ino}")
        if any(owner not in (0, pid) and not _lives(owner) for owner in owners):
            found.append(pid)
    return found


def _owners(folder: Path, locked_file: str) -> list[int]:
    """Return who took the locks on a file that a process shares; `folder`: its fdinfo."""
    found = []
    with suppress(OSError):  # the process has ended, or belongs to another user
        for descriptor in folder.iterdir():
            for line in descriptor.read_text().splitlines():
                words = line.split()
                if words[:1] == ["lock:"] and "FLOCK" in words and locked_file in words:
                    found.append(int(words[words.index(locked_file) - 1]))
    return found


def _lives(pid: int) -> bool:
    with suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state not in ("Z", "X")
    return False


def _refuse_older(path: Path) -> None:
    """Raise RefusedByState if a daemon of an older release runs; if none does, remove its lock."""
    if not path.exists():
        return
    with path.open("a+") as file:
        if not _is_free(file):
            raise _refusal(file, path)
        path.unlink(missing_ok=True)


def _refusal(file: TextIOWrapper, path: Path) -> RefusedByState:
    with file:
        file.seek(0)
        where = file.read().strip() or f"another checkout (it holds {path})"
    return RefusedByState(f"The factory of this repository is already running, in {where}.")


def _is_same(file: TextIOWrapper, path: Path) -> bool:
    with suppress(OSError):
        held = os.fstat(file.fileno())
        there = path.stat()
        return (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino)
    return False
