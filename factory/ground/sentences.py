"""Puts lists of names into sentences."""

from collections.abc import Collection
from itertools import islice

SHOWN = 5


def shown(paths: Collection[str], most: int = SHOWN) -> str:
    """Return at most `most` paths as part of a sentence, with unprintable ones escaped."""
    said = ", ".join(map(printable, islice(paths, most)))
    more = len(paths) - most
    return f"{said} and {more} more" if more > 0 else said


def printable(path: str) -> str:
    """Return the path; escape it if it has characters that a terminal cannot print."""
    return path if path.isprintable() else ascii(path)
