"""Reads a dropped file, and finds out whether it is complete.

Invariant: this module follows no link, changes no file, and stops reading at the size limit of a
task.
"""

import fcntl
import hashlib
import os
import re
import secrets
import signal
import stat
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from factory.ground import bounded
from factory.ground.errors import TaskFileError
from factory.store.task_file import MAX_BYTES

OWN = "own."  # prefix of the intake name of a task that the factory itself wrote
BLANK = b"\xef\xbb\xbf \t\r\n"  # a byte order mark and white space
BLANK_MOST = 64  # bytes; a larger file is not blank
EDITING = (".{}.swp", ".{}.swo", ".{}.swn", ".#{}", ".~lock.{}#", ".{}.kate-swp", "~${}")
# In the intake folder, a name begins with the time of the drop (µs since 1970) and a random part.
_TIME_DIGITS, _RANDOM_BYTES = 13, 4
_STAMPED = re.compile(rf"([0-9a-f]{{{_TIME_DIGITS}}})[0-9a-f]{{{2 * _RANDOM_BYTES}}}-.*", re.DOTALL)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


def arrival(path: Path, now: datetime) -> datetime:
    """Return when a file in the inbox was dropped: its last change; never in the future."""
    return _at(path.lstat().st_ctime_ns // 1000, now)


def arrival_of_taken(path: Path, now: datetime) -> datetime:
    """Return when a file in the intake folder was dropped; never in the future.

    Its name says so. An earlier release, and a file that git tracks, left only its last change.
    """
    stamped = _STAMPED.fullmatch(path.name)
    return _at(int(stamped[1], 16), now) if stamped else arrival(path, now)


def intake_name(path: Path, now: datetime) -> str:
    """Return a new name for the intake folder, which keeps the time of the drop.

    The move into that folder changes the time of the file.
    """
    microseconds = (arrival(path, now) - _EPOCH) // timedelta(microseconds=1)
    prefix = f"{microseconds:0{_TIME_DIGITS}x}{secrets.token_hex(_RANDOM_BYTES)}"
    return f"{prefix}-{path.name}"


def editor_lock(path: Path) -> Path | None:
    """Return the lock file of an editor that has the file open; None if there is none."""
    for pattern in EDITING:
        lock = path.with_name(pattern.format(path.name))
        if os.path.lexists(lock):
            return lock
    return None


def is_blank(path: Path, size: int) -> bool:
    """Return whether the file, which has this size, contains only white space."""
    return size < BLANK_MOST and not bounded.head(path, BLANK_MOST).strip(BLANK)


def written_to(path: Path) -> bool | None:
    """Return whether a process has the file open for writing; None if the system cannot tell."""
    if sys.platform != "linux":
        return None
    try:
        handle = os.open(path, _READ)
    except PermissionError:
        return None
    try:
        # If a process opens the file for writing now, the system sends SIGIO to the daemon, which
        # would end it.
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
    """Return the content, at most one byte more than the size limit of a task file.

    Raises TaskFileError if the path is not a plain file or cannot be read.
    """
    if not stat.S_ISREG(path.lstat().st_mode):
        raise TaskFileError(
            "a symlink or a special file, not a plain file", form="copy the file itself"
        )
    try:
        with os.fdopen(os.open(path, _READ), "rb") as file:
            return file.read(MAX_BYTES + 1)
    except PermissionError:
        raise TaskFileError("the file cannot be read", form="chmod u+r") from None


def blob_name(path: Path) -> str:
    """Return a name that contains a digest of the content; raises like `read`."""
    return f"{hashlib.sha256(read(path)).hexdigest()[:16]}-{path.name}"


def shown(name: str) -> str:
    """Return a file's name, with "?" for characters that could control a terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in name)


def _at(microseconds: int, now: datetime) -> datetime:
    return min(_EPOCH + timedelta(microseconds=microseconds), now)
