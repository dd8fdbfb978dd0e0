"""The lock that allows only one daemon per repository.

Invariant: a process that holds the lock and finds the lock file in place is the only daemon. The
file's name does not end in `.lock`, because people delete such files after git was killed.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path

from factory.ground.errors import RefusedByState

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
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise _refusal(file, path) from None
        if not _is_same(file, path):  # the file was deleted between the two calls
            file.close()
            continue
        file.truncate(0)
        file.write(f"{root}\n")
        file.flush()
        return file


def _refuse_older(path: Path) -> None:
    """Raise RefusedByState if a daemon of an older release runs; if none does, remove its lock."""
    if not path.exists():
        return
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise _refusal(file, path) from None
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
