"""Reads the value of a fact: a few words of state that belong to no unit, stored as JSON."""

import json
from typing import Any

from factory.store.ports import Store
from factory.store.records import Fact


def value_of(store: Store, name: str, otherwise: Any) -> Any:
    """Return the value of the fact with this name; `otherwise` if nobody wrote it yet."""
    fact = store.get(Fact, name)
    return json.loads(fact.value) if fact else otherwise
