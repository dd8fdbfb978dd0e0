"""Files that an agent may have left: read only where they are regular ones, up to a bound.

Invariant: no symlink is followed, and nobody waits for a writer.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path

# Neither follow a link nor wait for a writer.
SAFELY = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


def regular(folder: Path, name: str, most: int) -> bytes:
    """Return the first `most` bytes of a file in the folder; none if it is no plain file."""
    try:
        box = os.open(folder, SAFELY | os.O_DIRECTORY)
    except OSError:
        return b""
    try:
        return read_at(name, box, most)
    finally:
        os.close(box)


def read_at(name: str, box: int, most: int) -> bytes:
    """Return the same from an open folder."""
    with (
        suppress(OSError),
        open(name, "rb", opener=lambda path, _: os.open(path, SAFELY, dir_fd=box)) as file,
    ):
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file.read(most)
    return b""
