"""The lock that makes a daemon the only one of its repository.

Invariant: a process that holds the lock, and finds its file in place, is the only one. The name
does not end in `.lock`, because people delete such files after a git was killed.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path

from factory.ground.errors import RefusedByState

OLD_NAME = "factoryd.lock"  # of releases before format 4 of the store: one of them may still run


class Lock:
    """A lock that is held. `root`: the checkout that a refused start names."""

    def __init__(self, path: Path, root: Path) -> None:
        self._path = path
        self._root = root
        self._file = _take(path, root)

    def is_ours(self) -> bool:
        """Return whether this process is still the only one; make a deleted file again."""
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
        """Let another process take it."""
        self._file.close()


@contextmanager
def locked(path: Path, root: Path) -> Iterator[Lock]:
    """Hold the lock of the one daemon; raise RefusedByState if another process has it."""
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
        if not _is_same(file, path):  # it was deleted between the two
            file.close()
            continue
        file.truncate(0)
        file.write(f"{root}\n")
        file.flush()
        return file


def _refuse_older(path: Path) -> None:
    """Raise RefusedByState while a daemon of an older release runs; remove its lock file."""
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
