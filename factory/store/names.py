"""Which unit ids are taken: by units on record, and by what is left in trunk, in git and on disk.

Invariant: no unit gets an id under which trunk, the factory repository or a run dir names another.
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

NAME = "taken_ids"  # of the fact


def is_taken(store: Store, where: Places, name: str) -> bool:
    """Whether a new unit must not have that id."""
    if store.get(Unit, name) is not None or where.unit_dir(name).exists():
        return True
    return was_here(store, name)


def was_here(store: Store, name: str) -> bool:
    """Whether the id is known as one of another life."""
    fact = store.get(Fact, NAME)
    return fact is not None and name in _ids(fact.value)


def add(store: Store, names: Iterable[str], *, now: datetime) -> None:
    """Take these ids, of which no unit is on record."""
    fact = store.get(Fact, NAME)
    known = _ids(fact.value) if fact else frozenset()
    strange = {name for name in names if store.get(Unit, name) is None}
    if strange <= known:
        return
    value = json.dumps(sorted(known | strange))
    taken = Fact(name=NAME, value=value)
    store.write(Event.FACT_CHANGED, taken, now=now, fact=NAME)


@lru_cache(maxsize=2)  # asked for each file that is dropped
def _ids(value: str) -> frozenset[str]:
    return frozenset(json.loads(value))
