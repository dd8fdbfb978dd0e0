"""Selectors: what a runtime file takes from the events of an agent.

Invariant: what one costs is bounded, whatever an event holds: lists are looked at up to MOST_FOUND values.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any

MOST_FOUND = 1000
MOST_SAID = 1000  # characters of a value that a condition looks at
_IF = r"((?:\[[^\]=]+=[^\]]*\])*)"
_STEP = re.compile(rf"(\w[\w-]*){_IF}(?:\.(?=\w)|$)")
_SELECTOR = re.compile(rf"(\*|[\w./-]+){_IF}(?::((?:{_STEP.pattern})+))?")

Conditions = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Selector:
    """Takes from events: `TYPE` or `TYPE:path.to.it`; `*` is any type, `[key=value]` picks in both parts.

    `*` in such a value is anything.
    """

    type: str
    conditions: Conditions
    steps: tuple[tuple[str, Conditions], ...]

    def find(self, event: Mapping[str, Any]) -> list[Any]:
        """Every value that it selects, lists taken apart."""
        if self.type not in ("*", event.get("type")):
            return []
        found: list[Any] = [event] if _hold(event, self.conditions) else []
        for name, conditions in self.steps:
            parts = islice(_parts(found, name), MOST_FOUND)
            found = [part for part in parts if part is not None and _hold(part, conditions)]
        return found


def selector(text: object) -> Selector:
    """The selector that the text says; raises ValueError with the correct form."""
    form = isinstance(text, str) and _SELECTOR.fullmatch(text)
    if not form:
        raise ValueError(f'"{text}" is not of the form "TYPE[key=value]:path.to[key=value].it"')
    return Selector(
        form[1],
        _conditions(form[2]),
        tuple((n, _conditions(c)) for n, c in _STEP.findall(form[3] or "")),
    )


def plain(value: object) -> str:
    """A value as text; "" for a list or a mapping, which nobody wants to see as one."""
    if isinstance(value, str):
        return value
    return "" if isinstance(value, list | dict) else json.dumps(value)


def _conditions(text: str) -> Conditions:
    return tuple(re.findall(r"\[([^\]=]+)=([^\]]*)\]", text))


def _parts(values: Iterable[Any], name: str) -> Iterator[Any]:
    for value in values:
        below = _dig(value, name)
        yield from below if isinstance(below, list) else [below]


def _dig(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _hold(value: Any, conditions: Conditions) -> bool:
    return all(
        fnmatchcase(plain(_dig(value, key))[:MOST_SAID], wanted) for key, wanted in conditions
    )
