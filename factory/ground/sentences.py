"""How lists of names are said in a sentence."""

from collections.abc import Collection

SHOWN = 5


def shown(paths: Collection[str]) -> str:
    """The first few paths for a sentence; unprintable ones escaped."""
    names = [path if path.isprintable() else ascii(path) for path in list(paths)[:SHOWN]]
    return ", ".join(names) + (f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else "")
