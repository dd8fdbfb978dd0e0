"""Killed at every place where the factory changes something, and judged by what the next start makes of it."""

from pathlib import Path

import factory

TABLE = Path(factory.__file__).with_name("effects.md")


def effects() -> dict[str, list[str]]:
    """The rows of factory/effects.md by fault point: what, order, died before, died after."""
    rows = [
        line.strip("|").split(" | ")
        for line in TABLE.read_text(encoding="utf-8").splitlines()
        if "| `" in line
    ]
    return {name.strip(" `"): [cell.strip() for cell in cells] for name, *cells in rows}
