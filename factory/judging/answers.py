"""What a person answered about gates that no file of the repository asks for.

Invariant: a gate that has a file is as its file says; an answer changes inferred gates only.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from factory.inference import Gate
from factory.ports import Store
from factory.records import Fact

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
        without = [f"judged without the inferred gate {name}, by your answer" for name in sorted(self.left_out)]
        back = "is put back after the inferred gate"
        files = [f"{path} {back} {gate}, by your answer" for gate, path in sorted(self.restores)]
        return [*without, *files]


def answers(store: Store) -> Answers:
    """The answers on record."""
    left_out, restores = store.get(Fact, LEFT_OUT), store.get(Fact, RESTORES)
    by_gate = json.loads(restores.value) if restores else {}
    pairs = ((gate, path) for gate, paths in by_gate.items() for path in paths)
    names = json.loads(left_out.value) if left_out else []
    return Answers(frozenset(names), frozenset(pairs))


def as_answered(gates: Sequence[Gate], given: Answers) -> tuple[Gate, ...]:
    """The gates that judge, as the answers have them."""
    return tuple(_restoring(gate, given) for gate in gates if not (gate.inferred and gate.name in given.left_out))


def _restoring(gate: Gate, given: Answers) -> Gate:
    paths = sorted(_literal(path) for name, path in given.restores if name == gate.name)
    return replace(gate, rewrites=(*gate.rewrites, *paths)) if gate.inferred and paths else gate


def _literal(path: str) -> str:
    """The path as a glob that fits it alone."""
    return re.sub(r"([*?[])", r"[\1]", path)
