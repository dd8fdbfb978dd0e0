"""What an action does to the unit of its card: pure functions.

Invariant: only `advance` changes the state of a unit.
"""

from dataclasses import replace
from datetime import datetime
from typing import assert_never

from factory.ground.reserved import PERSON
from factory.people.actions import (
    Afresh,
    Answer,
    Approve,
    Cancel,
    Judge,
    Rerun,
    Retry,
    Simplify,
    Split,
    UnitAction,
    Unneed,
)
from factory.store.journal import Event
from factory.store.records import Card, CardKind
from factory.store.unit import Unit, UnitState, advance

Moved = tuple[Event, Unit]


def moved(action: UnitAction, unit: Unit, card: Card, *, now: datetime) -> Moved:
    """Return the event for the journal, and the unit after the action."""
    match action:
        case Retry() | Rerun() | Simplify():
            return _retry(unit, card, now)
        case Split() | Afresh():
            return _retry(replace(unit, fresh=True), card, now)
        case Answer():
            resumed = replace(unit, resume=True)
            return _to_ready(resumed, f"{card.id} was answered", now)
        case Approve():
            return _approve(unit, card, now)
        case Judge():
            freed = replace(unit, cause="")
            why = f"{card.id} was answered: judge the kept files"
            return Event.UNIT_QUEUED, advance(freed, UnitState.QUEUED, now=now, why=why)
        case Unneed():
            dropped = card.evidence.split("\n")
            rest = tuple(need for need in unit.needs if need not in dropped)
            why = f"{card.id} was answered: continue without it"
            return _to_ready(replace(unit, needs=rest), why, now)
        case Cancel():
            why = f"cancelled by the answer to {card.id}"
            return Event.UNIT_CANCELLED, advance(unit, UnitState.CANCELLED, now=now, why=why)
        case _:
            assert_never(action)


def done(action: UnitAction) -> str:  # noqa: C901 - one flat case an action
    """Return what happened to the units, as words to write after their names."""
    match action:
        case Retry():
            return "tried again"
        case Rerun():
            return "run again"
        case Split():
            return "a new attempt writes smaller tasks"
        case Simplify():
            return "a new attempt makes the change smaller"
        case Afresh():
            return "tried again from trunk"
        case Answer():
            return "continues with your answer"
        case Judge():
            return "is judged"
        case Approve() | Unneed():
            return "continues"
        case Cancel():
            return "cancelled"
        case _:
            assert_never(action)


def _retry(unit: Unit, card: Card, now: datetime) -> Moved:
    again = replace(
        unit,
        bonus=max(unit.spent, unit.bonus),
        fresh=unit.fresh or card.kind in (CardKind.GUARD, CardKind.OUT_OF_SCOPE),
        submission="",
        cause="",
        agent=taken_over(unit.agent),
    )
    why = f"{card.id} was answered: try again"
    return Event.UNIT_RETRIED, advance(again, UnitState.READY, now=now, why=why)


def taken_over(agent: str) -> str:
    """Return who makes the next attempt; after a person, that is the configured agent."""
    return "" if agent == PERSON else agent


def _approve(unit: Unit, card: Card, now: datetime) -> Moved:
    approved = replace(unit, approved=(*unit.approved, str(card.kind)), cause="")
    why = f"{card.id} was answered: continue"
    to = UnitState.QUEUED if unit.submission else UnitState.READY
    if unit.state is to:
        return Event.UNIT_QUEUED, replace(approved, why=why)
    event = Event.UNIT_QUEUED if unit.submission else Event.UNIT_READY
    return event, advance(approved, to, now=now, why=why)


def _to_ready(unit: Unit, why: str, now: datetime) -> Moved:
    return Event.UNIT_READY, advance(unit, UnitState.READY, now=now, why=why)
