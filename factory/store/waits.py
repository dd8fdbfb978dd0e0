"""What a unit waits for because of its task: units that must land first, and a time.

Invariant: pure. The pool and `factory status` use the same sentence.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from factory.ground.errors import did_you_mean
from factory.ground.times import clock
from factory.store.states import UnitState


def missing(
    needs: Sequence[str],
    not_before: datetime | None,
    known: Mapping[str, UnitState],
    *,
    now: datetime,
) -> str:
    """Return a sentence about what the unit still waits for; empty if it waits for nothing.

    `known`: the state of every unit, including ended units.
    """
    sentences = []
    for need in needs:
        if known.get(need) is not UnitState.LANDED:
            sentences.append(_need(need, known))
    if not_before and not_before > now:
        sentences.append(f"waits until {clock(not_before)}")
    return "; ".join(sentences)


def _need(need: str, known: Mapping[str, UnitState]) -> str:
    state = known.get(need)
    if state is None:
        return f"needs {need}, which does not exist yet{did_you_mean(need, known)}"
    if state is UnitState.CANCELLED:
        return f"needs {need}, which was cancelled"
    return f"needs {need}, which is {state}"
