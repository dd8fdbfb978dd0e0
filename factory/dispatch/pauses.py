"""Runtimes that rest: at their usage limit, or because one unit's agent after the other ends at once and did nothing.

Invariant: whatever goes wrong, no runtime is started in a tight loop; the longer it fails, the longer it rests.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from factory.agents.resets import FARTHEST
from factory.ground.reserved import NO_AGENT
from factory.ground.times import as_of, backoff, clock, from_stamp, stamp
from factory.people import line_cards
from factory.people.causes import agent_failing, agent_trouble
from factory.people.escalations import Escalations
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Attempt, Fact
from factory.store.unit import EndReason

LIMIT_PAUSE = timedelta(minutes=15)  # at most, where a limit names no reset
AT_ONCE = timedelta(seconds=30)
UNITS = 3  # in a row: then it is not the unit
NOTHING = frozenset(
    {EndReason.EMPTY, EndReason.CRASHED, EndReason.LOST, EndReason.LIMIT, EndReason.AUTH}
    | {EndReason.HANDED_BACK, EndReason.NO_PROGRESS}
)
NO_SIGN = frozenset({EndReason.SETUP_FAILED, EndReason.CANCELLED})
Pauses = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Rests:
    """The runtimes that rest at one moment."""

    until: Mapping[str, datetime]
    why: Mapping[str, str]  # until when, and why, to follow the name


def rests_at(store: Store, now: datetime) -> Rests:
    """The runtimes that rest now."""
    known = _known(store)
    until = {name: end for name, (_, end) in _spans(known, now).items() if end > now}
    why = {}
    for name, end in until.items():
        reason = known[name].get("why", "")
        said = f"rests until {clock(end)}"
        why[name] = f"{said}: {reason}" if reason else said
    return Rests(until, why)


def resting(store: Store, now: datetime) -> Mapping[str, datetime]:
    """Until when each runtime that rests now does."""
    return rests_at(store, now).until


def put_right(store: Store, now: datetime) -> None:
    """Write anew where the clock was set back: else a runtime would rest until that time comes again."""
    known = _known(store)
    fresh = {}
    for name, (since, until) in _spans(known, now).items():
        fresh[name] = {**known[name], "since": stamp(since), "until": stamp(until)}
    if fresh != known:
        _write(store, fresh, now)


def _spans(known: Pauses, now: datetime) -> dict[str, tuple[datetime, datetime]]:
    """From when until when each rests, by the clock of now."""
    spans = {}
    for name, row in known.items():
        since, until = as_of(from_stamp(row["since"]), from_stamp(row["until"]), now)
        spans[name] = since, min(until, since + FARTHEST)  # an earlier version believed any reset
    return spans


def note_end(
    store: Store,
    escalations: Escalations,
    attempt: Attempt,
    *,
    reset: datetime | None,
    now: datetime,
) -> datetime | None:
    """Take an attempt's end for what it says about its runtime; for a usage limit, until when its unit waits.

    A limit (or an overloaded server) that names no reset is tried again after 10 s, then after twice as long each time.
    """
    agent, limited = attempt.agent, attempt.reason is EndReason.LIMIT
    if agent == NO_AGENT or attempt.reason in NO_SIGN:
        return None
    if not limited and (attempt.tree or attempt.reason not in NOTHING):
        _worked(store, escalations, agent, now)
        return None
    if not limited and (attempt.end or now) - attempt.start >= AT_ONCE:
        return None  # neither: it took its time
    known, rests = _known(store), resting(store, now).get(agent, now)
    before = known.get(agent, {"row": 0, "units": []})
    row, units, until, card = int(before["row"]), list(before["units"]), rests, None
    if limited:
        row, until = _limited(row, reset, rests, now)
        if row > before["row"] and until - now == LIMIT_PAUSE:
            card = line_cards.runtime_limited(agent, attempt.detail, evidence=attempt.said)
    else:
        row, units = (
            row + 1,
            [*(each for each in units if each != attempt.unit), attempt.unit][-UNITS:],
        )
        if len(units) >= UNITS:
            until = now + timedelta(seconds=backoff(row - UNITS + 1))
            card = line_cards.runtime_failing(agent, attempt.detail, evidence=attempt.said)
    until = max(until, rests)
    why = attempt.detail if limited else "its attempts end at once and do nothing"
    known[agent] = {
        "since": stamp(now),
        "until": stamp(until),
        "row": row,
        "units": units,
        "why": why,
    }
    _write(store, known, now)
    if card and escalations.open_card(agent_trouble(agent)) is None:
        escalations.raise_card(card, now=now)
    return until if limited else None


def _limited(
    row: int, reset: datetime | None, rests: datetime, now: datetime
) -> tuple[int, datetime]:
    """How often it met a limit that names no reset, and until when it rests."""
    if reset is not None and reset > now:
        return row, reset
    row += rests <= now  # who meets it while it rests had been started before
    return row, now + timedelta(seconds=backoff(row, at_most=LIMIT_PAUSE.total_seconds()))


def lift(store: Store, agent: str, now: datetime) -> None:
    """A person wants the runtime to be tried at once."""
    known = _known(store)
    if known.pop(agent, None):
        _write(store, known, now)


def _worked(store: Store, escalations: Escalations, agent: str, now: datetime) -> None:
    lift(store, agent, now)
    for cause in (agent_failing(agent), agent_trouble(agent)):
        escalations.close(cause, now=now, why=f"an attempt of {agent} worked")


def _known(store: Store) -> dict[str, Mapping[str, Any]]:
    fact = store.get(Fact, "pauses")
    return dict(json.loads(fact.value)) if fact else {}


def _write(store: Store, pauses: Pauses, now: datetime) -> None:
    store.write(Event.FACT_CHANGED, Fact(name="pauses", value=json.dumps(pauses)), now=now)
