"""Files that somebody else wrote, read up to a bound.

Invariant: only a regular file is read, for a pipe or a device may have no end.
"""

from contextlib import suppress
from pathlib import Path

from factory.ground import bounded

MOST_BYTES = 16 << 20


class TooLarge(Exception):
    """A file, or a list, is larger than what is read of it; says so in a sentence."""


def text_of(path: Path, *, most: int = MOST_BYTES) -> str:
    """How a file begins; empty if there is none."""
    return _read(path, most).decode(errors="replace")


def whole_text(path: Path, *, most: int = MOST_BYTES) -> str:
    """All of a file, as the names of files are read; empty if there is none. Raises TooLarge."""
    content = _read(path, most + 1)
    if len(content) > most:
        raise TooLarge(
            f"{path} is larger than {most >> 10:,} KiB, which is all that factoryd reads of it"
        )
    return content.decode(errors="surrogateescape")


def _read(path: Path, most: int) -> bytes:
    with suppress(OSError, ValueError):
        return bounded.head(path, most)
    return b""
