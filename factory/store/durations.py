"""How long setups took, so that a person sees how long one usually takes.

Invariant: only setups that succeeded count, and only the newest few names are kept.
"""

import json
from datetime import datetime

from factory.store.fact_values import value_of
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Fact

_FACT = "durations"
_KEPT = 20  # names


class Durations:
    """The seconds that each setup took last, by a digest of the setup."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def of(self, name: str) -> float | None:
        """Return the seconds that it took last; None if it never succeeded."""
        found: float | None = value_of(self._store, _FACT, {}).get(name)
        return found

    def note(self, name: str, seconds: float, *, now: datetime) -> None:
        """Record that it succeeded after so many seconds."""
        known = dict(value_of(self._store, _FACT, {}))
        known.pop(name, None)  # so that it becomes the newest
        known[name] = round(seconds, 1)
        newest = dict([*known.items()][-_KEPT:])
        fact = Fact(name=_FACT, value=json.dumps(newest))
        self._store.write(Event.FACT_CHANGED, fact, now=now, fact=_FACT)
