"""Knows which unit ids are taken: by units on record, and by traces in trunk, git and on disk.

Invariant: no new unit gets an id that already belongs to another unit in trunk, in the factory
repository or on disk.
"""

import json
from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache

from factory.ground.places import Places
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Fact
from factory.store.unit import Unit

NAME = "taken_ids"  # the name of the fact


def is_taken(store: Store, where: Places, name: str) -> bool:
    """Return whether the id is taken, so that a new unit must not get it."""
    if store.get(Unit, name) is not None or where.unit_dir(name).exists():
        return True
    return was_here(store, name)


def was_here(store: Store, name: str) -> bool:
    """Return whether the id belongs to a unit of an earlier store."""
    fact = store.get(Fact, NAME)
    return fact is not None and name in _ids(fact.value)


def add(store: Store, names: Iterable[str], *, now: datetime) -> None:
    """Record these ids as taken, except the ids of units on record."""
    fact = store.get(Fact, NAME)
    known = _ids(fact.value) if fact else frozenset()
    strange = {name for name in names if store.get(Unit, name) is None}
    if strange <= known:
        return
    value = json.dumps(sorted(known | strange))
    taken = Fact(name=NAME, value=value)
    store.write(Event.FACT_CHANGED, taken, now=now, fact=NAME)


@lru_cache(maxsize=2)  # cached, because this is called for each dropped file
def _ids(value: str) -> frozenset[str]:
    return frozenset(json.loads(value))
