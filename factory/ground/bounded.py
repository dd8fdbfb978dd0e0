"""Reads files that somebody else may have written, up to a bound.

Invariant: every reader of a file from an agent, a candidate, a tool or a person names a bound. If a
file is larger, the reader refuses it or reads only a part. No reader loads a larger file whole.
"""

import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO

from factory.ground.sentences import printable

# All bounds are in bytes, except NAME.
PARSED = 1 << 20  # a file that this process parses: settings, rules, tests, attributes
COMPARED = 4 << 20  # a file whose changed keys decide if the change needs permission
LOCK_FILE = 16 << 20  # a lock file; a child process parses it
TOLD = 16 << 20  # a file that factoryd wrote in a place that an agent can write to
NAME = 120  # the most characters of a path in a sentence
LINK = 4096  # the target of a symbolic link; the system has the same limit
# With this flag, opening a fifo does not wait for a writer.
_PLAIN = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


class TooLarge(ValueError):
    """A file is larger than its bound."""

    def __init__(self, path: object, size: int, most: int) -> None:
        super().__init__(f"{path} has {shown(size)}, and only files up to {shown(most)} are read")
        self.size = size
        self.most = most


def head(path: Path, most: int) -> bytes:
    """Return at most the first `most` bytes of a plain file; raise OSError."""
    with _opened(path) as file:
        return file.read(most)


def tail(path: Path, most: int) -> bytes:
    """Return at most the last `most` bytes of a plain file; raise OSError."""
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - most))
        return file.read(most)


def whole(path: Path, most: int) -> bytes:
    """Return a whole plain file; raise TooLarge if it has more than `most` bytes. Also OSError."""
    with _opened(path) as file:
        found = file.read(most + 1)
        if len(found) > most:
            raise TooLarge(path, os.fstat(file.fileno()).st_size, most)
        return found


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with os.fdopen(os.open(path, _PLAIN), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(f"{path} is not a plain file")
        yield file


def shown(size: int) -> str:
    """Return the size as text for a person, rounded down."""
    if size < 1024:
        return f"{size} bytes"
    amount = size / 1024
    units = ["KiB", "MiB", "GiB", "TiB"]
    while amount >= 1024 and len(units) > 1:
        amount /= 1024
        units.pop(0)
    tenths = int(amount * 10) / 10
    return f"{tenths:.1f} {units[0]}".replace(".0 ", " ")


def named(path: str) -> str:
    """Return the path as text that is safe to print, shortened if it is long."""
    name = printable(path)
    if len(name) <= NAME:
        return name
    return f"{name[: NAME // 2]}…{name[-NAME // 2 :]}"


def listed(sizes: Collection[tuple[str, int]], most: int) -> str:
    """Return part of a sentence that lists the first few files with their sizes."""
    some = [f"{named(name)} ({shown(size)})" for name, size in islice(sizes, most)]
    said = ", ".join(some)
    more = len(sizes) - most
    return f"{said} and {more:,} more" if more > 0 else said
