"""Repair units: units that a person created on a card to make a red trunk green again.

Invariant: no repair unit outlives the red trunk, because nobody needs its change then.
"""

import json
from collections.abc import Iterator
from datetime import datetime

from factory.people.escalations import Escalations, landing_units
from factory.store.fact_values import value_of
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Fact
from factory.store.unit import FINAL, Unit, UnitState, advance

REPAIRS = "repairs"  # name of the fact with the ids of repair units that may be open


def note(store: Store, unit: str, *, now: datetime) -> None:
    """Record that the unit repairs trunk."""
    _write(store, [*value_of(store, REPAIRS, []), unit], now)


def end(store: Store, escalations: Escalations, *, now: datetime, why: str) -> None:
    """Cancel every open repair unit, except one that is landing."""
    names = value_of(store, REPAIRS, [])
    if not names:
        return
    landing = landing_units(store)
    left = []
    with store.transaction():
        for unit in _open(store, names):
            if unit.id in landing:
                left.append(unit.id)
                continue
            cancelled = advance(unit, UnitState.CANCELLED, now=now, why=why)
            store.write(Event.UNIT_CANCELLED, cancelled, now=now, unit=unit.id)
            escalations.leave(unit.id, now=now, why=why)
        _write(store, left, now)


def _open(store: Store, names: list[str]) -> Iterator[Unit]:
    """Yield the open units among these, and the open parts of units that were split."""
    for name in names:
        unit = store.get(Unit, name)
        if unit is None:
            continue
        if unit.state is UnitState.SPLIT:
            yield from _open(store, list(unit.needs))
        elif unit.state not in FINAL:
            yield unit


def _write(store: Store, names: list[str], now: datetime) -> None:
    fact = Fact(name=REPAIRS, value=json.dumps(names))
    store.write(Event.FACT_CHANGED, fact, now=now, fact=REPAIRS)
