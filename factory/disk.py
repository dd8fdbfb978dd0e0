"""Room on the disks that the factory writes to.

Invariant: looking writes nothing, and imports next to nothing: `factory status` looks too.
"""

import errno
import os
from collections.abc import Iterable

LEAST = 64 << 20  # bytes that must be free before anything new is started
_SAYS = ("No space left on device", "Disk quota exceeded", "disk is full", "Out of diskspace")


def lacking(folders: Iterable[str | os.PathLike[str]]) -> str:
    """The first of the folders on whose disk less than LEAST is free; empty while there is room for all."""
    for folder in folders:
        about = os.statvfs(folder) if os.path.isdir(folder) else None  # noqa: PTH112
        if about and about.f_bavail * about.f_frsize < LEAST:
            return os.fspath(folder)
    return ""


def complaint(*folders: str) -> str:
    """One sentence where one of the folders lacks room, else empty."""
    full = lacking(folders)
    return (
        f"The disk of {full} is full: the line needs {LEAST >> 20} MiB there, and starts nothing new." if full else ""
    )


def full(error: BaseException) -> bool:
    """Whether an error says that a disk is full or a quota is used up, itself or by what it came from."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    below = (*getattr(error, "exceptions", ()), error.__cause__, error.__context__)
    return any(sign in str(error) for sign in _SAYS) or any(full(each) for each in below if each)
