"""Reading no more than so many bytes of what somebody else may have written.

Invariant: whoever reads a file of an agent, a candidate, a tool or a person says how much of it. A file that is larger
is refused or cut, and never read whole first.
"""

import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

PARSED = (
    1 << 20
)  # bytes of a file that is understood in this process: settings, rules, tests, attributes
LOCK_FILE = 16 << 20  # bytes of a lock file, which a child looks through
TOLD = 16 << 20  # bytes of a file that this factory itself wrote where an agent may reach it
NAME = 120  # characters of a path that is shown
LINK = 4096  # bytes of where a symbolic link leads: the system allows no more
_PLAIN = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC  # a fifo has no writer to wait for


class TooLarge(ValueError):
    """A file has more bytes than are read of it."""

    def __init__(self, path: object, size: int, most: int) -> None:
        super().__init__(f"{path} has {shown(size)}, and only files up to {shown(most)} are read")
        self.size, self.most = size, most


def head(path: Path, most: int) -> bytes:
    """The first bytes of a plain file, at most so many; raises OSError."""
    with _opened(path) as file:
        return file.read(most)


def tail(path: Path, most: int) -> bytes:
    """The last bytes of a plain file, at most so many; raises OSError."""
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - most))
        return file.read(most)


def whole(path: Path, most: int) -> bytes:
    """All of a plain file; raises TooLarge where it has more bytes, and OSError."""
    with _opened(path) as file:
        found = file.read(most + 1)
        if len(found) > most:
            raise TooLarge(path, os.fstat(file.fileno()).st_size, most)
        return found


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with os.fdopen(os.open(path, _PLAIN), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(f"{path} is no plain file")
        yield file


def shown(size: int) -> str:
    """A size for a person, rounded down."""
    amount, unit = float(size), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    if unit == "bytes":
        return f"{size} bytes"
    tenths = int(amount * 10) / 10
    return f"{tenths:.1f} {unit}".replace(".0 ", " ")


def named(path: str) -> str:
    """A path for a person: cut where it is long, and without what steers a terminal."""
    name = path if path.isprintable() else ascii(path)
    return name if len(name) <= NAME else f"{name[: NAME // 2]}…{name[-NAME // 2 :]}"


def listed(sizes: Collection[tuple[str, int]], most: int) -> str:
    """The first few files with their sizes, for a sentence."""
    some = list(sizes)[:most]
    names = [f"{named(name)} ({shown(size)})" for name, size in some]
    more = len(sizes) - len(some)
    return ", ".join(names) + (f" and {more:,} more" if more else "")
