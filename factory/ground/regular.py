"""Folders and files that an agent may have left: only real ones count, and only up to a bound."""

import os
import stat
from contextlib import suppress
from pathlib import Path

# With these flags, opening a file neither follows a link nor waits for a writer.
SAFELY = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


def is_real(path: Path) -> bool:
    """Whether the path is a folder and not a link to one."""
    return path.is_dir() and not path.is_symlink()


def regular(folder: Path, name: str, most: int) -> bytes:
    """Return the first `most` bytes of a file in the folder; b"" if it is not a regular file."""
    try:
        box = os.open(folder, SAFELY | os.O_DIRECTORY)
    except OSError:
        return b""
    try:
        return read_at(name, box, most)
    finally:
        os.close(box)


def read_at(name: str, box: int, most: int) -> bytes:
    """Return what `regular` returns; `box` is the open folder."""
    with (
        suppress(OSError),
        open(name, "rb", opener=lambda path, _: os.open(path, SAFELY, dir_fd=box)) as file,
    ):
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file.read(most)
    return b""
