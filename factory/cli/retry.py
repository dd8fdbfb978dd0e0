"""Gives a unit that is held, or waits, another attempt, with a fresh context.

factory retry fix-login
"""

import sqlite3
from argparse import Namespace

from factory.cli.ask import ask, open_unit
from factory.cli.place import Seen
from factory.errors import RefusedByState


def run(args: Namespace) -> int:
    """Ask for the attempt."""
    return ask("retry", lambda con: _checked(con, args.id))


def _checked(con: sqlite3.Connection, name: str) -> Seen:
    unit = open_unit(con, name)
    if unit["state"] in ("running", "queued"):
        raise RefusedByState(f"{name} is {unit['state']}: it is being worked on already.")
    return {"unit": name}
