"""A dropped file: whether it is complete, and what it holds.

Invariant: no link is followed, nothing is changed, and no more is read than a task file may have.
"""

import fcntl
import hashlib
import os
import signal
import stat
import sys
from pathlib import Path

from factory.ground import bounded
from factory.ground.errors import TaskFileError
from factory.store.task_file import MAX_BYTES

BLANK = b"\xef\xbb\xbf \t\r\n"  # a byte order mark and white space
BLANK_MOST = 64  # bytes; a larger file has a text
EDITING = (".{}.swp", ".{}.swo", ".{}.swn", ".#{}", ".~lock.{}#", ".{}.kate-swp", "~${}")
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


def editor_lock(path: Path) -> Path | None:
    """The lock file of an editor that has the file open."""
    for pattern in EDITING:
        lock = path.with_name(pattern.format(path.name))
        if os.path.lexists(lock):
            return lock
    return None


def is_blank(path: Path, size: int) -> bool:
    """Whether a file of this size holds nothing but white space."""
    return size < BLANK_MOST and not bounded.head(path, BLANK_MOST).strip(BLANK)


def written_to(path: Path) -> bool | None:
    """Whether a process has the file open for writing; None where the system does not say."""
    if sys.platform != "linux":
        return None
    try:
        handle = os.open(path, _READ)
    except PermissionError:
        return None
    try:
        # The system sends SIGIO to a lease's holder when a writer comes. It would end us.
        signal.signal(signal.SIGIO, signal.SIG_IGN)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(handle)
    return False


def read(path: Path) -> bytes:
    """The content, at most one byte more than a task file may have.

    Raises TaskFileError for what is not a plain file.
    """
    if not stat.S_ISREG(path.lstat().st_mode):
        raise TaskFileError("a symlink or a special file, not a file", form="copy the file itself")
    try:
        with os.fdopen(os.open(path, _READ), "rb") as file:
            return file.read(MAX_BYTES + 1)
    except PermissionError:
        raise TaskFileError("the file cannot be read", form="chmod u+r") from None


def blob_name(path: Path) -> str:
    """A name that differs for each content; raises as `read` does."""
    return f"{hashlib.sha256(read(path)).hexdigest()[:16]}-{path.name}"


def shown(name: str) -> str:
    """A file's name without the characters that could steer a terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in name)
