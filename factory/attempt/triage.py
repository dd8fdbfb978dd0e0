"""The meaning of an attempt's end, and the next state of its unit: two pure functions.

Success is a tree that passes, never an exit code; so a changed tree goes to the judge, unless the
work was probably interrupted.
"""

from dataclasses import dataclass
from enum import StrEnum

from factory.ground.reserved import NO_AGENT
from factory.ground.times import backoff
from factory.store.unit import SPENDS, SPENT_CONFLICTS, EndReason, Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The facts that factoryd can see after all processes of the attempt have ended."""

    stopped: EndReason | None = None  # factoryd ended the attempt for this reason
    lost: bool = False  # no exit is on record
    handed_back: bool = False  # the process that ended it died before it recorded why
    clean: bool  # exit 0, and the output reports success at its end
    timed_out: bool = False
    overran: bool = False  # it used more memory, processes, CPU time or disk than allowed
    command_missing: bool = False
    unconfined: bool = False  # the sandbox did not start it
    limited: bool = False
    unauthorized: bool = False
    overspent: bool = False  # it used its whole reservation
    looping: bool = False  # it repeated the same steps until its end
    asked: bool = False  # question.md exists
    split: bool = False  # task files exist that can replace the unit
    reported: bool = False  # done.md exists
    changed: bool = False  # the tree differs from the tree at the start
    proof: bool = False  # the unit has accept commands, which catch half-done work
    scripted: bool = False  # a unit with `run`: only its exit code shows success


def classify(seen: Ending) -> EndReason:
    """Return why the attempt ended, by the first rule that applies."""
    rules = (
        (
            seen.stopped is EndReason.SILENT and seen.limited,
            EndReason.LIMIT,
        ),  # it waits silently for its provider
        (seen.stopped is not None, seen.stopped),
        (seen.timed_out, EndReason.TIMED_OUT),
        (seen.overran, EndReason.CRASHED),
        (seen.unconfined, EndReason.SETUP_FAILED),
        (seen.asked, EndReason.ASKED),
        (seen.split and seen.clean, EndReason.SPLIT),
        (seen.command_missing, EndReason.HANDED_BACK),
        (seen.limited and not seen.clean, EndReason.LIMIT),
        (seen.unauthorized and not seen.clean, EndReason.AUTH),
        (seen.overspent and not seen.clean, EndReason.OVER_BUDGET),
        (seen.handed_back, EndReason.HANDED_BACK),
        (seen.lost and not (seen.changed and seen.reported), EndReason.LOST),
        (seen.looping and not seen.clean, EndReason.NO_PROGRESS),
        (seen.scripted and not seen.clean, EndReason.CRASHED),
        (not seen.clean and not seen.changed, EndReason.CRASHED),
        (not seen.clean and not (seen.reported or seen.proof), EndReason.CRASHED),
        (not seen.changed, EndReason.EMPTY),
    )
    return next((reason for applies, reason in rules if applies and reason), EndReason.SUBMITTED)


class Next(StrEnum):
    """The next step of the unit."""

    QUEUE = "queue"
    RETRY = "retry"
    WAIT = "wait"  # the unit waits for a cause that it shares
    HOLD = "hold"  # a card asks
    DONE = "done"  # the unit is final already


@dataclass(frozen=True, slots=True)
class Move:
    """The next state of a unit whose attempt ended; `delay` in seconds before a retry."""

    next: Next
    delay: float = 0
    fresh: bool = False  # start from trunk, not from the tree of the last attempt


WAITS = frozenset({EndReason.LIMIT, EndReason.AUTH, EndReason.SETUP_FAILED})
HOLDS = frozenset({EndReason.ASKED, EndReason.GUARD, EndReason.OUT_OF_SCOPE})
BACKS_OFF = frozenset(
    {
        EndReason.CRASHED,
        EndReason.SILENT,
        EndReason.LOST,
        EndReason.TIMED_OUT,
        EndReason.NO_PROGRESS,
    }
)
DETERMINISTIC = frozenset(
    {EndReason.CRASHED, EndReason.EMPTY, EndReason.GATE_RED, EndReason.NOT_PROVEN}
)
FRESH = frozenset({EndReason.EMPTY, EndReason.GUARD})
LOST_IN_A_ROW = 3


def next_move(
    reason: EndReason,
    unit: Unit,
    *,
    limit: int,
    lost_in_a_row: int = 0,
) -> Move:
    """Return the next move of `unit`; its `spent` includes this attempt, `limit` is the most.

    A unit with `run` is not repeated if its command must give the same result again.
    """
    if reason is EndReason.SUBMITTED:
        return Move(Next.QUEUE)
    if reason in (EndReason.CANCELLED, EndReason.SPLIT):
        return Move(Next.DONE)
    # True at every third attempt in a row, not at each later one: the answer "try again" allows
    # three more attempts.
    loops = reason is EndReason.LOST and lost_in_a_row > 0 and lost_in_a_row % LOST_IN_A_ROW == 0
    if reason in HOLDS or loops:
        return Move(Next.HOLD)
    if reason in WAITS:
        return Move(Next.WAIT)
    exhausted = unit.spent >= limit + unit.bonus or (
        unit.agent == NO_AGENT and reason in DETERMINISTIC
    )
    is_spent = SPENDS[reason]
    if reason is EndReason.CONFLICT:
        is_spent = unit.conflicts >= SPENT_CONFLICTS
    if is_spent and exhausted:
        return Move(Next.HOLD)
    delay = backoff(max(1, unit.spent)) if reason in BACKS_OFF else 0
    return Move(Next.RETRY, delay=delay, fresh=reason in FRESH)
