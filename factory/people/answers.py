"""Answers of a person about inferred gates. No file of the repository defines such gates.

Invariant: an answer changes only inferred gates, never a gate with a file.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from factory.inference.rules import Gate
from factory.people.actions import LeaveOut, Restore
from factory.store.fact_values import value_of
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Fact

LEFT_OUT = "left_out"  # name of the fact with the gates that are left out
RESTORES = "restores"  # name of the fact with the files to restore after each gate


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers that are in force."""

    left_out: frozenset[str] = frozenset()
    restores: frozenset[tuple[str, str]] = frozenset()  # pairs of gate and path

    @property
    def sentences(self) -> list[str]:
        """Return one sentence about each answer, for `factory status`."""
        said = []
        for name in sorted(self.left_out):
            said.append(f"the inferred gate {name} is left out, because of your answer")
        for gate, path in sorted(self.restores):
            said.append(
                f"factoryd restores {path} after the inferred gate {gate}, because of your answer"
            )
        return said


def answers(store: Store) -> Answers:
    """Return the recorded answers."""
    names = value_of(store, LEFT_OUT, [])
    restores = set[tuple[str, str]]()
    for gate, paths in value_of(store, RESTORES, {}).items():
        restores.update((gate, path) for path in paths)
    return Answers(frozenset(names), frozenset(restores))


def leave_out(store: Store, action: LeaveOut, now: datetime) -> str:
    """Record that these gates are left out; return the sentence for the person."""
    names = sorted({*value_of(store, LEFT_OUT, []), *action.gates})
    fact = Fact(name=LEFT_OUT, value=json.dumps(names))
    store.write(Event.FACT_CHANGED, fact, now=now, left_out=names)
    without = f"from now on, factoryd judges without {', '.join(names)}"
    return f"{without}; a gate file in conventions/gates adds a gate again"


def restore(store: Store, action: Restore, now: datetime) -> str:
    """Record which files to restore after which gate; return the sentence for the person."""
    restores: dict[str, list[str]] = value_of(store, RESTORES, {})
    for gate, paths in action.files:
        restores[gate] = sorted({*restores.get(gate, []), *paths})
    fact = Fact(name=RESTORES, value=json.dumps(restores))
    asked = dict(action.files)
    store.write(Event.FACT_CHANGED, fact, now=now, restores=asked)
    return f"from now on, factoryd restores these files after {', '.join(asked)}"


def as_answered(gates: Sequence[Gate], given: Answers) -> tuple[Gate, ...]:
    """Return the gates that remain, changed as the answers say."""
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
    """Return a glob that matches only this path."""
    return re.sub(r"([*?[])", r"[\1]", path)
