"""Selectors: how a runtime file picks values from an agent's events.

Invariant: the cost of a selector is bounded for any event, because a selector follows at most
MOST_FOUND values.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any

MOST_FOUND = 1000
MOST_SAID = 1000  # a condition compares only this many characters of a value
_IF = r"((?:\[[^\]=]+=[^\]]*\])*)"
_STEP = re.compile(rf"(\w[\w-]*){_IF}(?:\.(?=\w)|$)")
_SELECTOR = re.compile(rf"(\*|[\w./-]+){_IF}(?::((?:{_STEP.pattern})+))?")

Conditions = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Selector:
    """Picks values from events: `TYPE` or `TYPE:path.to.it`; `*` is any type.

    `[key=value]` is a condition in both parts; `*` in its value matches any text.
    """

    type: str
    conditions: Conditions
    steps: tuple[tuple[str, Conditions], ...]

    def find(self, event: Mapping[str, Any]) -> list[Any]:
        """Return every selected value; of a list, return its items."""
        if self.type not in ("*", event.get("type")):
            return []
        found: list[Any] = [event]
        if not _hold(event, self.conditions):
            return []
        for name, conditions in self.steps:
            parts = islice(_parts(found, name), MOST_FOUND)
            found = [part for part in parts if part is not None and _hold(part, conditions)]
        return found


def selector(text: object) -> Selector:
    """Return the selector that the text describes; raise ValueError with the correct form."""
    form = isinstance(text, str) and _SELECTOR.fullmatch(text)
    if not form:
        raise ValueError(f'"{text}" is not of the form "TYPE[key=value]:path.to[key=value].it"')
    kind, conditions, path, *_ = form.groups(default="")
    steps = [(name, _conditions(each)) for name, each in _STEP.findall(path)]
    return Selector(kind, _conditions(conditions), tuple(steps))


def plain(value: object) -> str:
    """Return the value as text; "" for a list or a mapping."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | dict):
        return ""
    return json.dumps(value)


def _conditions(text: str) -> Conditions:
    return tuple(re.findall(r"\[([^\]=]+)=([^\]]*)\]", text))


def _parts(values: Iterable[Any], name: str) -> Iterator[Any]:
    for value in values:
        part = _dig(value, name)
        if isinstance(part, list):
            yield from part
        else:
            yield part


def _dig(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _hold(value: Any, conditions: Conditions) -> bool:
    for key, wanted in conditions:
        if not fnmatchcase(plain(_dig(value, key))[:MOST_SAID], wanted):
            return False
    return True
