"""How lists of names are said in a sentence."""

from collections.abc import Collection
from itertools import islice

SHOWN = 5


def shown(paths: Collection[str], most: int = SHOWN) -> str:
    """The first few paths for a sentence, at most so many; unprintable ones escaped."""
    names = [path if path.isprintable() else ascii(path) for path in islice(paths, most)]
    more = len(paths) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")
