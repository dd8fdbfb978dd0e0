"""How lists of names are said in a sentence."""

from collections.abc import Collection
from itertools import islice

SHOWN = 5


def shown(paths: Collection[str], most: int = SHOWN) -> str:
    """The first few paths for a sentence, at most so many; unprintable ones escaped."""
    said = ", ".join(map(printable, islice(paths, most)))
    more = len(paths) - most
    return f"{said} and {more} more" if more > 0 else said


def printable(path: str) -> str:
    """Return the path, escaped if it holds what a terminal would not print."""
    return path if path.isprintable() else ascii(path)
