"""What a unit waits for: units that must land first, a time, a worker, a bench, the queue.

Invariant: pure. The pool and `factory status` use the same sentence.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum

from factory.ground.errors import did_you_mean
from factory.ground.times import clock
from factory.store.states import UnitState

NO_DAEMON = "waits for factoryd start"


def missing(
    needs: Sequence[str],
    not_before: datetime | None,
    known: Mapping[str, UnitState],
    *,
    now: datetime,
    own: str = "",
) -> str:
    """Return a sentence about what the unit still waits for; empty if it waits for nothing.

    `known`: the state of every unit, including ended units. `own`: the unit's id, which is no
    suggestion for an unknown need.
    """
    sentences = []
    for need in needs:
        if known.get(need) is not UnitState.LANDED:
            sentences.append(_need(need, known, own))
    if not_before and not_before > now:
        sentences.append(f"waits until {clock(not_before)}")
    return "; ".join(sentences)


def is_missing(
    needs: Sequence[str],
    not_before: datetime | None,
    known: Mapping[str, UnitState],
    *,
    now: datetime,
) -> bool:
    """Return whether the unit still waits for something. This costs less than the sentence."""
    if not_before and not_before > now:
        return True
    return any(known.get(need) is not UnitState.LANDED for need in needs)


def ready(why: str, *, paused: bool, stopped: bool) -> str:
    """Return what a ready unit waits for; `why`: the sentence that the pool has stored."""
    if paused:
        return "the line is paused: factory resume"
    if why:
        return why
    return NO_DAEMON if stopped else "starts next"


class Place(StrEnum):
    """What a unit in the merge queue waits for."""

    OWN = ""  # the stored sentence of the unit says it
    TURN = "turn"  # a unit that is ahead of it in the same file
    GATES = "gates"
    BENCH = "bench"
    AHEAD = "ahead"
    LANDS = "lands"
    TRUNK = "trunk"
    ALONE = "alone"
    LANDING = "landing"


_PLACES: Mapping[Place, str] = {
    Place.GATES: "its gates run",
    Place.BENCH: "waits for a free bench",
    Place.AHEAD: "waits behind {ahead}",
    Place.LANDS: "green; lands after {ahead}",
    Place.TRUNK: "red; waits for the verdict on {trunk}, which may be red itself",
    Place.ALONE: "red together with {ahead}; will be judged alone",
    Place.LANDING: "lands now",
}


def behind(ahead: str, path: str) -> str:
    """Return the sentence about a unit that waits for another unit with the same path."""
    return f"waits for {ahead}, which is ahead of it in {path}"


def queued(place: str, why: str, *, ahead: str, trunk: str, path: str = "") -> str:
    """Return what a queued unit waits for; `why`: its stored sentence.

    `ahead`: the unit before it in the queue, or in the file `path`.
    """
    if place == Place.TURN:
        return behind(ahead, path)
    known = _PLACES.get(Place(place)) if place in tuple(Place) else None
    if known is None:
        return why
    if not ahead and place == Place.LANDS:
        return "green; lands next"
    return known.format(ahead=ahead or "others", trunk=trunk or "trunk")


def _need(need: str, known: Mapping[str, UnitState], own: str) -> str:
    state = known.get(need)
    if state is None:
        others = known.keys() - {own}
        return f"needs {need}, which does not exist yet{did_you_mean(need, others)}"
    if state is UnitState.CANCELLED:
        return f"needs {need}, which was cancelled"
    return f"needs {need}, which is {state}"
