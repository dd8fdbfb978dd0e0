"""Room on the disks that the factory writes to, and what goes from them.

Invariant: looking writes nothing, and imports next to nothing: `factory status` looks too.
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import count

_Folder = tuple["_Folder | None", str]  # the folder above, and the name in it
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
        f"The disk of {full} is full: the line needs {LEAST >> 20} MiB there, and starts nothing new."
        if full
        else ""
    )


def full(error: BaseException) -> bool:
    """Whether an error says that a disk is full or a quota is used up, itself or by what it came from."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    below = (*getattr(error, "exceptions", ()), error.__cause__, error.__context__)
    return any(sign in str(error) for sign in _SAYS) or any(full(each) for each in below if each)


def reopen(folder: str | os.PathLike[str]) -> None:
    """Undo a `chmod 0`."""
    mode = os.lstat(folder).st_mode
    if mode & stat.S_IRWXU != stat.S_IRWXU:
        os.chmod(folder, stat.S_IMODE(mode) | stat.S_IRWXU)  # noqa: PTH101


def below(top: str | os.PathLike[str], *, opened: bool = False) -> Iterator[str]:
    """Every path below a folder, a folder before what lies in it; links are not followed.

    `opened`: folders that were closed are opened. What cannot be read is passed over.
    """
    for _, entry in walk(top, opened=opened):
        yield entry.path


def walk(top: str | os.PathLike[str], *, opened: bool) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    """The same, each with the path of its folder from `top` on ("" or "a/b").

    Entries are not held, and of a folder that waits only its name is: an agent may make very many, with long paths.
    """
    left: list[_Folder] = [(None, "")]
    while left:
        at = left.pop()
        inside = _path(at)
        folder = os.path.join(top, inside) if inside else top  # noqa: PTH118
        # Deeper than a path may be, gone, or closed to us: git and rm say so in their turn.
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
    above: _Folder | None = folder
    while above is not None:
        above, name = above
        names.append(name)
    return "/".join(reversed(names[:-1]))


def disarm(*folders: str | os.PathLike[str]) -> None:
    """Clear the bits by which a file there would run as its owner or its group.

    Whatever could set them again has ended. Of a file that has another name elsewhere, this name goes.
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
    """Delete a file, a link (never what it leads to) or a whole folder; what cannot be deleted stays.

    Whatever left it there has ended. Folders may be closed, or deeper than a stack or a path may be: those in a folder
    are moved up into `path` before it is deleted.
    """
    top, names = os.fspath(path), count()
    with suppress(OSError):
        if os.path.islink(top) or not os.path.isdir(top):  # noqa: PTH112, PTH114
            os.unlink(top)  # noqa: PTH108
            return
        left = _empty(top)
        while left:
            folder = left.pop()
            for below in _empty(folder):
                while os.path.lexists(fresh := f"{top}/{next(names)}"):
                    pass
                os.rename(below, fresh)  # noqa: PTH104
                left.append(fresh)
            os.rmdir(folder)  # noqa: PTH106
        os.rmdir(top)  # noqa: PTH106


def _empty(folder: str) -> list[str]:
    """Delete what is no folder in this one; its folders, opened."""
    os.chmod(folder, 0o700)  # noqa: PTH101
    with os.scandir(folder) as found:
        entries = [(entry.path, entry.is_dir(follow_symlinks=False)) for entry in found]
    for path, is_folder in entries:
        if is_folder:
            os.chmod(path, 0o700)  # noqa: PTH101  it could not be moved otherwise
        else:
            os.unlink(path)  # noqa: PTH108
    return [path for path, is_folder in entries if is_folder]
