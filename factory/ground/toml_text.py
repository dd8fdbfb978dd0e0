"""Parses TOML that an agent may have written.

Invariant: the time grows only linearly with the text. tomllib alone takes quadratic time for a key
with very many dots.
"""

import tomllib
from typing import Any

_MOST_WORK = 10_000_000  # about a tenth of a second


def parsed(text: str) -> dict[str, Any]:
    """Return the table of a TOML text; raise ValueError or RecursionError."""
    work = 0
    for line in text.splitlines():
        work += line.count(".") ** 2
    if work > _MOST_WORK:
        raise ValueError("it has too many dots in a line")
    return tomllib.loads(text)
