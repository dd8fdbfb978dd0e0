"""What a person answered about gates that no file of the repository asks for.

Invariant: a gate that has a file is as its file says; an answer changes inferred gates only.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from factory.inference.rules import Gate
from factory.people.actions import LeaveOut, Restore
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Fact

LEFT_OUT = "left_out"  # the fact that names gates by which nothing is judged
RESTORES = "restores"  # the one that names, by gate, the files that are put back after it


@dataclass(frozen=True, slots=True)
class Answers:
    """What is in force."""

    left_out: frozenset[str] = frozenset()
    restores: frozenset[tuple[str, str]] = frozenset()  # gate and path

    @property
    def sentences(self) -> list[str]:
        """One about each, for `factory status`."""
        said = []
        for name in sorted(self.left_out):
            said.append(f"judged without the inferred gate {name}, by your answer")
        for gate, path in sorted(self.restores):
            said.append(f"{path} is put back after the inferred gate {gate}, by your answer")
        return said


def answers(store: Store) -> Answers:
    """The answers on record."""
    names = _told(store, LEFT_OUT, "[]")
    restores = set[tuple[str, str]]()
    for gate, paths in _told(store, RESTORES, "{}").items():
        restores.update((gate, path) for path in paths)
    return Answers(frozenset(names), frozenset(restores))


def leave_out(store: Store, action: LeaveOut, now: datetime) -> str:
    """Record that these gates do not judge; return the sentence for the person."""
    names = sorted({*_told(store, LEFT_OUT, "[]"), *action.gates})
    fact = Fact(name=LEFT_OUT, value=json.dumps(names))
    store.write(Event.FACT_CHANGED, fact, now=now, left_out=names)
    judged = f"judged without {', '.join(names)} from now on"
    return f"{judged}; a gate file in conventions/gates brings it back"


def restore(store: Store, action: Restore, now: datetime) -> str:
    """Record which files are put back after which gate; return the sentence for the person."""
    restores: dict[str, list[str]] = _told(store, RESTORES, "{}")
    for gate, paths in action.files:
        restores[gate] = sorted({*restores.get(gate, []), *paths})
    fact = Fact(name=RESTORES, value=json.dumps(restores))
    asked = dict(action.files)
    store.write(Event.FACT_CHANGED, fact, now=now, restores=asked)
    return f"what {', '.join(asked)} changes there is put back after it from now on"


def _told(store: Store, name: str, otherwise: str) -> Any:
    fact = store.get(Fact, name)
    return json.loads(fact.value if fact else otherwise)


def as_answered(gates: Sequence[Gate], given: Answers) -> tuple[Gate, ...]:
    """The gates that judge, as the answers have them."""
    found = []
    for gate in gates:
        if not gate.inferred:
            found.append(gate)
        elif gate.name not in given.left_out:
            found.append(_restoring(gate, given))
    return tuple(found)


def _restoring(gate: Gate, given: Answers) -> Gate:
    paths = [_literal(path) for name, path in sorted(given.restores) if name == gate.name]
    return replace(gate, rewrites=(*gate.rewrites, *paths))


def _literal(path: str) -> str:
    """The path as a glob that fits it alone."""
    return re.sub(r"([*?[])", r"[\1]", path)
