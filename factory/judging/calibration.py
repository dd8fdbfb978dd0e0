"""Calibration: an inferred check that has never passed on trunk does not judge.

The check is advisory: people see it, but it makes no unit red and no card. Source: a linter that is
red on a clean trunk would stop the line, although the project's own CI never runs it so.

Invariant: a check that has passed on trunk judges from then on, until its command changes. Tests,
and gates with a file, always judge.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from factory.inference.rules import TESTS, Gate
from factory.store.fact_values import value_of
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Fact

_FACT = "checks"


@dataclass(frozen=True, slots=True)
class Checks:
    """What is known about inferred checks, by the digests of their gates."""

    passed: frozenset[str] = frozenset()  # those that have passed on trunk
    advisory: frozenset[tuple[str, str]] = frozenset()  # those that do not judge: digest and name

    @property
    def sentences(self) -> list[str]:
        """Return one sentence about each advisory check, for `factory status`."""
        said = []
        for _, name in sorted(self.advisory, key=lambda each: each[1]):
            said.append(
                f"the inferred check {name} fails on trunk, so it does not judge until it passes"
            )
        return said

    def judging(self, gates: Sequence[Gate]) -> tuple[Gate, ...]:
        """Return the gates without those that are advisory."""
        digests = {digest for digest, _ in self.advisory}
        return tuple(gate for gate in gates if gate.digest not in digests)


def checks(store: Store) -> Checks:
    """Return what is recorded about inferred checks."""
    known = value_of(store, _FACT, {})
    advisory = frozenset(known.get("advisory", {}).items())
    return Checks(frozenset(known.get("passed", [])), advisory)


def calibrate(
    store: Store,
    gates: Sequence[Gate],
    *,
    seen: Collection[str],
    red: Collection[str],
    now: datetime,
) -> bool:
    """Record how trunk's checks did; return whether a red one became or stayed advisory.

    `seen`: the names of the gates with a verdict. `red`: those of them that are red.
    """
    before = checks(store)
    passed = set[str]()
    advisory = dict[str, str]()
    for gate in gates:
        if not gate.inferred or gate.group >= TESTS:
            continue
        if gate.name in red and gate.digest not in before.passed:
            advisory[gate.digest] = gate.name
        elif gate.name in seen or gate.digest in before.passed:
            passed.add(gate.digest)
    known = Checks(frozenset(passed), frozenset(advisory.items()))
    if known != before:
        fact = Fact(name=_FACT, value=json.dumps({"passed": sorted(passed), "advisory": advisory}))
        names = sorted(advisory.values())
        store.write(Event.FACT_CHANGED, fact, now=now, fact=_FACT, advisory=names)
    return bool(advisory)
