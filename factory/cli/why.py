"""The causal chain of a unit: why it is where it is, what it waits for, and what led there.

factory why fix-login
"""

import sqlite3
from argparse import Namespace
from collections.abc import Iterator
from datetime import datetime

from factory.cli import log, place, say
from factory.cli.place import Seen
from factory.stores import views


def run(args: Namespace) -> int:
    """Print the chain."""
    with place.store(place.root()) as con:
        for text in _chain(con, place.unit(con, args.id), place.now()):
            print(text)
    return 0


def _chain(con: sqlite3.Connection, unit: Seen, now: datetime) -> Iterator[str]:
    why = f": {unit['why']}" if unit["why"] else ""
    yield from say.wrap(f"{unit['id']} is {unit['state']}{why}", indent="", room=say.columns())
    yield from _needs(con, unit)
    for card in unit["escalations"]:
        if card["state"] == "open":
            yield f"  {card['id']} waits for your answer: factory show {card['id']}"
    yield ""
    for entry in views.log(con, unit=unit["id"]):
        if entry["event"] not in log.NOISE:
            yield log.sentence(entry, now, of_one=True)


def _needs(con: sqlite3.Connection, unit: Seen) -> Iterator[str]:
    for name in unit["needs"]:
        need = views.show(con, name)
        if need is None:
            yield f"  needs {say.line(name)}, which is no unit{place.meant(con, name)}"
        elif need["state"] != "landed":
            why = f" ({say.line(need['why'])})" if need["why"] else ""
            yield f"  needs {name}, which is {need['state']}{why}: factory why {name}"
