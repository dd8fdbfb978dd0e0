"""Free room on the disks that factoryd writes to, and how to delete files from them.

Invariant: the check for room writes nothing and imports little, because `factory status` calls it
too.
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import count

from factory.ground.errors import causes

LEAST = 64 << 20  # bytes that must be free before factoryd starts anything new
_Folder = tuple["_Folder | None", str]  # the parent folder (None at the top), and the folder's name
_SAYS = ("No space left on device", "Disk quota exceeded", "disk is full", "Out of diskspace")


def lacking(folders: Iterable[str | os.PathLike[str]]) -> str:
    """Return the first folder whose disk has less than LEAST free bytes; "" if there is none."""
    for folder in folders:
        if not os.path.isdir(folder):  # noqa: PTH112
            continue
        about = os.statvfs(folder)
        if about.f_bavail * about.f_frsize < LEAST:
            return os.fspath(folder)
    return ""


def complaint(*folders: str) -> str:
    """Return a sentence about the first folder that lacks room; "" if there is none."""
    full = lacking(folders)
    if not full:
        return ""
    needs = f"the line needs {LEAST >> 20} MiB there and starts nothing new until then"
    return f"The disk of {full} is full: {needs}."


def full(error: BaseException) -> bool:
    """Return whether an error, or one of its causes, says that a disk or a quota is full."""
    return any(map(_says_full, causes(error)))


def _says_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    said = str(error)
    return any(sign in said for sign in _SAYS)


def reopen(folder: str | os.PathLike[str]) -> None:
    """Give the owner access to a folder that its mode closes."""
    mode = os.lstat(folder).st_mode
    if mode & stat.S_IRWXU != stat.S_IRWXU:
        os.chmod(folder, stat.S_IMODE(mode) | stat.S_IRWXU)  # noqa: PTH101


def below(top: str | os.PathLike[str], *, opened: bool = False) -> Iterator[str]:
    """Yield every path below a folder, each folder before its content; follow no link.

    With `opened`, make closed folders readable. Skip a folder that cannot be read.
    """
    for _, entry in walk(top, opened=opened):
        yield entry.path


def walk(top: str | os.PathLike[str], *, opened: bool) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    """Yield each entry that `below` finds, with its folder relative to `top` ("" or "a/b").

    The function keeps no entries in memory, only the names of folders to visit later, because an
    agent can make very many folders with long paths.
    """
    left: list[_Folder] = [(None, "")]
    while left:
        at = left.pop()
        inside = _path(at)
        folder = os.path.join(top, inside) if inside else top  # noqa: PTH118
        # The path is too long, deleted, or not readable: git and rm will report it.
        with suppress(OSError):
            if opened:
                reopen(folder)
            with os.scandir(folder) as found:
                for entry in found:
                    yield inside, entry
                    if entry.is_dir(follow_symlinks=False):
                        left.append((at, entry.name))


def _path(folder: _Folder) -> str:
    names = list[str]()
    above, name = folder
    while above is not None:
        names.append(name)
        above, name = above
    return "/".join(reversed(names))


def disarm(*folders: str | os.PathLike[str]) -> None:
    """Clear the setuid and setgid bits of all files.

    Call this only when no process can set the bits again. If a file has another hard link, delete
    this name of the file.
    """
    special = stat.S_ISUID | stat.S_ISGID
    for folder in folders:
        for path in below(folder, opened=True):
            with suppress(OSError):
                about = os.lstat(path)
                if not about.st_mode & special or stat.S_ISLNK(about.st_mode):
                    continue
                if stat.S_ISREG(about.st_mode) and about.st_nlink > 1:
                    os.unlink(path)  # noqa: PTH108
                else:
                    os.chmod(path, stat.S_IMODE(about.st_mode) & ~special)  # noqa: PTH101


def remove(path: str | os.PathLike[str]) -> None:
    """Delete a file, a link (not its target) or a whole folder, as far as that is possible.

    No process may write in the folder any more. A folder may be closed, or nested too deeply for
    the stack or for a path. So the function moves inner folders up into `path` before it deletes
    the folder around them.
    """
    top = os.fspath(path)
    names = count()
    with suppress(OSError):
        if os.path.islink(top) or not os.path.isdir(top):  # noqa: PTH112, PTH114
            os.unlink(top)  # noqa: PTH108
            return
        left = _empty(top)
        while left:
            folder = left.pop()
            for below in _empty(folder):
                fresh = f"{top}/{next(names)}"
                while os.path.lexists(fresh):
                    fresh = f"{top}/{next(names)}"
                os.rename(below, fresh)  # noqa: PTH104
                left.append(fresh)
            os.rmdir(folder)  # noqa: PTH106
        os.rmdir(top)  # noqa: PTH106


def _empty(folder: str) -> list[str]:
    """Delete the files in a folder; make its subfolders accessible and return these."""
    os.chmod(folder, 0o700)  # noqa: PTH101
    with os.scandir(folder) as found:
        entries = list(found)
    folders = []
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            os.chmod(entry.path, 0o700)  # noqa: PTH101 - else it cannot be moved
            folders.append(entry.path)
        else:
            os.unlink(entry.path)  # noqa: PTH108
    return folders
