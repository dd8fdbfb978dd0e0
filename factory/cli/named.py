"""Finds the unit that a person names; for an unknown name, suggests similar names."""

import sqlite3

from factory.ground.errors import FactoryError, did_you_mean
from factory.store import unit_rows, unit_views, views


def the_unit(
    con: sqlite3.Connection, name: str, *, refusal: type[FactoryError] = FactoryError
) -> unit_rows.Unit:
    """Return everything about the unit with that id; raise `refusal` if it does not exist."""
    found = unit_views.show(con, name)
    if found is not None:
        return found
    if name[:1] in "Ee" and name[1:].isdigit():
        raise refusal(_no_unit_but_card(con, name.upper()))
    raise refusal(f"there is no unit {name!r}{meant(con, name)}\n  the open ones: factory status")


def _no_unit_but_card(con: sqlite3.Connection, name: str) -> str:
    if views.card(con, name):
        return f"{name} is a card, not a unit\n  see: factory show {name}"
    return f"there is no card {name}\n  the open ones: factory status"


def meant(con: sqlite3.Connection, name: str, *, own: str = "") -> str:
    """Return a suggestion from the open and the last landed units, except the unit `own`."""
    known = [unit for unit in unit_views.known_units(con) if unit != own]
    return did_you_mean(name, known)
