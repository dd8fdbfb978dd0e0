"""Reads files that somebody else wrote, up to a bound.

Invariant: only regular files are read, because a pipe or a device may have no end.
"""

from contextlib import suppress
from pathlib import Path

from factory.ground import bounded

MOST_BYTES = 16 << 20


class TooLarge(Exception):
    """A file or a list is larger than factoryd reads; the message is a sentence for a person."""


def text_of(path: Path, *, most: int = MOST_BYTES) -> str:
    """Return the beginning of a file, up to `most` bytes; empty if there is no file."""
    return _read(path, most).decode(errors="replace")


def whole_text(path: Path, *, most: int = MOST_BYTES) -> str:
    """Return a whole file, decoded like file names; empty if there is no file. Raise TooLarge."""
    content = _read(path, most + 1)
    if len(content) > most:
        raise TooLarge(f"{path} is larger than {most >> 10:,} KiB, the most that factoryd reads")
    return content.decode(errors="surrogateescape")


def _read(path: Path, most: int) -> bytes:
    with suppress(OSError, ValueError):
        return bounded.head(path, most)
    return b""
