"""A unit, its states and the only table of allowed moves between states.

Invariant: only `advance` and `as_landed` change a unit's state, and the journal entry is in the
same transaction.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from factory.ground.errors import IllegalTransition
from factory.store.states import FINAL as FINAL  # other modules import both from here
from factory.store.states import UnitState as UnitState

LEADS_TO: Mapping[UnitState, frozenset[UnitState]] = {
    UnitState.WAITING: frozenset(
        {UnitState.READY, UnitState.QUEUED, UnitState.HELD, UnitState.CANCELLED}
    ),
    UnitState.READY: frozenset(
        {UnitState.RUNNING, UnitState.WAITING, UnitState.HELD, UnitState.CANCELLED}
    ),
    UnitState.RUNNING: frozenset(
        {
            UnitState.QUEUED,
            UnitState.READY,
            UnitState.WAITING,
            UnitState.HELD,
            UnitState.SPLIT,
            UnitState.CANCELLED,
        }
    ),
    UnitState.QUEUED: frozenset(
        {UnitState.LANDED, UnitState.READY, UnitState.WAITING, UnitState.HELD, UnitState.CANCELLED}
    ),
    UnitState.HELD: frozenset(
        {UnitState.READY, UnitState.WAITING, UnitState.QUEUED, UnitState.CANCELLED}
    ),
    UnitState.LANDED: frozenset(),
    UnitState.SPLIT: frozenset(),
    UnitState.CANCELLED: frozenset(),
}


class EndReason(StrEnum):
    """Why an attempt ended (line.md §6)."""

    SUBMITTED = "submitted"
    EMPTY = "empty"
    GATE_RED = "gate_red"
    NOT_PROVEN = "not_proven"
    CONFLICT = "conflict"
    OUT_OF_SCOPE = "out_of_scope"
    GUARD = "guard"
    TIMED_OUT = "timed_out"
    SILENT = "silent"
    NO_PROGRESS = "no_progress"
    CRASHED = "crashed"
    OVER_BUDGET = "over_budget"
    ASKED = "asked"
    TOLD = "told"
    SPLIT = "split"
    LIMIT = "limit"
    AUTH = "auth"
    SETUP_FAILED = "setup_failed"
    CANCELLED = "cancelled"
    HANDED_BACK = "handed_back"
    LOST = "lost"


SPENDS: Mapping[EndReason, bool] = {
    reason: reason
    not in {
        EndReason.SUBMITTED,  # provisional: the judge later replaces it with the final reason
        EndReason.CONFLICT,  # `spent_by` counts it from the third in a row on
        EndReason.ASKED,
        EndReason.TOLD,
        EndReason.SPLIT,
        EndReason.LIMIT,
        EndReason.AUTH,
        EndReason.SETUP_FAILED,
        EndReason.CANCELLED,
        EndReason.HANDED_BACK,
        EndReason.LOST,
    }
    for reason in EndReason
}


SPENT_CONFLICTS = 3  # from so many conflicts in a row on, a conflict counts


def spent_by(reasons: Iterable[EndReason]) -> int:
    """Return how many of a unit's attempts count against its limit; oldest first."""
    spent = 0
    conflicts = 0
    for reason in reasons:
        if reason is EndReason.CONFLICT:
            conflicts += 1
            spent += conflicts >= SPENT_CONFLICTS
        elif SPENDS[reason]:
            conflicts = 0
            spent += 1
    return spent


NO_PROOF = "none"  # the value of `proven` for a unit without accept commands


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One piece of work for one worker, and one commit on trunk. All times are aware UTC."""

    id: str
    title: str
    state: UnitState
    since: datetime  # when the unit entered this state
    accepted: datetime  # when its task file was dropped
    priority: int = 2  # 0 now … 4 whenever
    needs: tuple[str, ...] = ()  # for a unit that was split, its parts
    scope: tuple[str, ...] = ()
    agent: str = (
        ""  # the runtime that its task names; "": the configured one; NO_AGENT: a `run:` unit
    )
    why: str = ""  # why the unit is in this state, in one sentence
    attempt: int = 0  # number of its newest attempt; the store rejects writes of older attempts
    spent: int = 0  # number of attempts that count against the limit
    bonus: int = 0  # number of extra attempts that a person granted
    not_before: datetime | None = None  # the time that it waits for
    cause: str = ""  # fingerprint of the card that it waits for
    submission: str = ""  # the commit in the factory repository that is judged next
    base: str = ""  # trunk commit that the submission is based on
    commit: str = ""  # its commit on trunk, once landed
    landed: datetime | None = None
    approved: tuple[str, ...] = ()  # kinds of cards that a person waived for this unit
    resume: bool = False  # the next attempt continues the last session if possible
    fresh: bool = False  # the next attempt starts from trunk, not from the previous tree
    conflicts: int = 0  # conflicts in a row; attempts that do not count do not end the row
    contested: tuple[str, ...] = ()  # the paths of these conflicts
    behind: tuple[str, ...] = ()  # units that were queued with these paths at the last conflict
    proven: str = ""  # trunk commit on which its accept commands failed; NO_PROOF if it has none


def advance(unit: Unit, to: UnitState, *, now: datetime, why: str = "") -> Unit:
    """Return the unit after the move; raise IllegalTransition if the table does not allow it."""
    if to not in LEADS_TO[unit.state]:
        raise IllegalTransition(unit.id, unit.state, to)
    return replace(unit, state=to, since=now, why=why)


def as_landed(unit: Unit, commit: str, *, now: datetime, landed: datetime) -> Unit:
    """Return the unit as landed, whatever its state: trunk holds its commit.

    This does not go through the table of moves. `landed` is the time at which trunk moved.
    """
    return replace(
        unit,
        state=UnitState.LANDED,
        since=now,
        why="",
        commit=commit,
        landed=landed,
        cause="",
    )
