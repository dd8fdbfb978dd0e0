"""Pauses of runtimes: at a usage limit, or if attempts of several units ended at once.

Invariant: factoryd starts no runtime in a tight loop; each further failure makes the pause longer.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from factory.agents.resets import FARTHEST
from factory.ground.reserved import NO_AGENT
from factory.ground.times import as_of, backoff, clock, from_stamp, stamp
from factory.people import line_cards
from factory.people.causes import Ask, agent_failing, agent_trouble
from factory.people.escalations import Escalations
from factory.store.fact_values import value_of
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Attempt, Fact
from factory.store.unit import EndReason

LIMIT_PAUSE = timedelta(minutes=15)  # the longest pause for a limit without a reset time
AT_ONCE = timedelta(seconds=30)
UNITS = 3  # if attempts of so many units in a row end at once, the runtime is to blame
NOTHING = frozenset(
    {EndReason.EMPTY, EndReason.CRASHED, EndReason.LOST, EndReason.LIMIT, EndReason.AUTH}
    | {EndReason.HANDED_BACK, EndReason.NO_PROGRESS}
)
NO_SIGN = frozenset({EndReason.SETUP_FAILED, EndReason.CANCELLED})
Pauses = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Rests:
    """The runtimes that are paused at a given time."""

    until: Mapping[str, datetime]
    why: Mapping[str, str]  # end and reason of the pause, as words after the name


def rests_at(store: Store, now: datetime) -> Rests:
    """Return the runtimes that are paused now."""
    known = _known(store)
    until = {name: end for name, (_, end) in _spans(known, now).items() if end > now}
    why = {}
    for name, end in until.items():
        reason = known[name].get("why", "")
        said = f"is paused until {clock(end)}"
        why[name] = f"{said}: {reason}" if reason else said
    return Rests(until, why)


def resting(store: Store, now: datetime) -> Mapping[str, datetime]:
    """Return the end of the pause of each runtime that is paused now."""
    return rests_at(store, now).until


def put_right(store: Store, now: datetime) -> None:
    """Rewrite the pauses if the clock was set back; otherwise they would last too long."""
    known = _known(store)
    fresh = {}
    for name, (since, until) in _spans(known, now).items():
        fresh[name] = {**known[name], "since": stamp(since), "until": stamp(until)}
    if fresh != known:
        _write(store, fresh, now)


def _spans(known: Pauses, now: datetime) -> dict[str, tuple[datetime, datetime]]:
    """Return the start and end of each pause, corrected if the clock was set back."""
    spans = {}
    for name, row in known.items():
        since, until = as_of(from_stamp(row["since"]), from_stamp(row["until"]), now)
        # an earlier version accepted any reset time
        spans[name] = (since, min(until, since + FARTHEST))
    return spans


def note_end(
    store: Store,
    escalations: Escalations,
    attempt: Attempt,
    *,
    reset: datetime | None,
    now: datetime,
) -> datetime | None:
    """Record what the end of an attempt says about its runtime; return when its unit may go on.

    The result is None if no limit stopped the attempt. After a limit (or an overloaded server)
    without a reset time, factoryd tries again after 10 s, then after twice the time, and so on.
    """
    agent = attempt.agent
    is_limited = attempt.reason is EndReason.LIMIT
    if agent == NO_AGENT or attempt.reason in NO_SIGN:
        return None
    if not is_limited and (attempt.tree or attempt.reason not in NOTHING):
        _worked(store, escalations, agent, now)
        return None
    if not is_limited and (attempt.end or now) - attempt.start >= AT_ONCE:
        return None  # it ran long enough, so it did not end at once
    known = _known(store)
    before = known.get(agent, {"row": 0, "units": []})
    rests = resting(store, now).get(agent, now)
    if is_limited:
        found = _limited(attempt, before, reset, rests, now)
    else:
        found = _failed(attempt, before, now)
    until = max(found.until, rests)
    known[agent] = {
        "since": stamp(now),
        "until": stamp(until),
        "row": found.row,
        "units": found.units,
        "why": found.why,
    }
    _write(store, known, now)
    if found.ask and escalations.open_card(agent_trouble(agent)) is None:
        escalations.raise_card(found.ask, now=now)
    return until if is_limited else None


@dataclass(frozen=True, slots=True)
class _Found:
    """What the end of one attempt changes in the record of its runtime."""

    row: int  # the number of failures in a row
    units: Sequence[str]  # the last units whose attempts ended at once
    until: datetime
    why: str
    ask: Ask | None


def _limited(
    attempt: Attempt,
    before: Mapping[str, Any],
    reset: datetime | None,
    rests: datetime,
    now: datetime,
) -> _Found:
    """Return the pause for a limit; without a reset time, count one failure for each pause."""
    row = int(before["row"])
    units = before["units"]
    if reset is not None and reset > now:
        return _Found(row, units, reset, attempt.detail, None)
    is_new = rests <= now  # if False, the attempt started before the present pause
    if is_new:
        row += 1
    pause = timedelta(seconds=backoff(row, at_most=LIMIT_PAUSE.total_seconds()))
    ask = None
    if is_new and pause == LIMIT_PAUSE:
        ask = line_cards.runtime_limited(attempt.agent, attempt.detail, evidence=attempt.said)
    return _Found(row, units, now + pause, attempt.detail, ask)


def _failed(attempt: Attempt, before: Mapping[str, Any], now: datetime) -> _Found:
    """Return the pause for an attempt that did nothing; no pause before several units failed."""
    row = int(before["row"]) + 1
    others = [each for each in before["units"] if each != attempt.unit]
    units = [*others, attempt.unit][-UNITS:]
    why = "its attempts end at once and do nothing"
    if len(units) < UNITS:
        return _Found(row, units, now, why, None)
    until = now + timedelta(seconds=backoff(row - UNITS + 1))
    ask = line_cards.runtime_failing(attempt.agent, attempt.detail, evidence=attempt.said)
    return _Found(row, units, until, why, ask)


def lift(store: Store, agent: str, now: datetime) -> None:
    """End the pause of a runtime, e.g. because a person wants to try it at once."""
    known = _known(store)
    if known.pop(agent, None):
        _write(store, known, now)


def _worked(store: Store, escalations: Escalations, agent: str, now: datetime) -> None:
    lift(store, agent, now)
    for cause in (agent_failing(agent), agent_trouble(agent)):
        escalations.close(cause, now=now, why=f"an attempt of {agent} worked")


def _known(store: Store) -> dict[str, Mapping[str, Any]]:
    return dict(value_of(store, "pauses", {}))


def _write(store: Store, pauses: Pauses, now: datetime) -> None:
    store.write(Event.FACT_CHANGED, Fact(name="pauses", value=json.dumps(pauses)), now=now)
