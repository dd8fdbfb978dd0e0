"""Which ready units start next, and why each other ready unit waits.

Invariant: pure. The pool starts units by these rules, and `factory status` derives its sentences
from them, so that no unit is rewritten only because another unit started or landed.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from factory.ground.claims import Claims
from factory.ground.reserved import NO_AGENT
from factory.ground.times import from_stamp
from factory.store.rows import Row
from factory.store.states import UnitState
from factory.store.waits import NO_DAEMON

TYPE_CHECKING = False  # importing typing would cost more time than a query
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

AGE_STEP = timedelta(minutes=30)  # each such time raises the priority of a waiting unit by one
_ON_THE_WAY = (UnitState.RUNNING, UnitState.QUEUED, UnitState.READY)
_NEITHER = {"model": False, "accept": False}
# Short, because `status` shows it on a line of 80 columns.
TURN = "accept runs on trunk shortly before the unit starts"
TRUNK_IS_RED = "trunk is red: until it is green again, only units with priority 0 start"
FACT = "starts"  # the name of the fact with the pool's last `Conditions`
# The name of the fact about units whose accept commands run on trunk or wait for a bench: the
# sentence of each.
PROOFS = "proofs"


class Conditions(Row):
    """What the pool knows about starts, apart from units and hooks."""

    agent: str = ""
    """The agent of units whose task names none."""

    deputy: str = ""
    """The agent that stands in for that agent now."""

    paused: Mapping[str, str] = {}
    """Why each paused agent is paused."""

    trunk_red: bool = False
    """Whether trunk is red."""

    short: bool = False
    """Whether the rest of today's budget is reserved for running attempts."""

    told: Sequence[str] = ()
    """The units whose records say why they wait: for accept commands that broke, or for a path."""

    def agent_for(self, named: str, *, has_model: bool) -> str:
        """Return the agent for a unit; `named`: the agent that its task names, or ""."""
        if named:
            return named
        # The deputy may not know a model that the task names.
        if self.deputy and not has_model:
            return self.deputy
        return self.agent

    def why_stopped(self, agent: str, priority: int) -> str:
        """Return why a ready unit with this agent and priority may not start now, or ""."""
        if self.trunk_red and priority > 0:
            return TRUNK_IS_RED
        if agent != NO_AGENT and agent in self.paused:
            return f"its agent {agent} {self.paused[agent]}"
        return ""


class Contender(Row):
    """A running, queued or ready unit, with the values that decide when it starts."""

    id: str
    """The unit's id."""

    state: UnitState
    """The unit's state."""

    priority: int
    """The unit's priority."""

    accepted: datetime
    """When factoryd accepted the unit."""

    scope: Sequence[str]
    """The unit's globs."""

    agent: str
    """The agent that would work on it."""

    is_proven: bool
    """Whether its accept commands, if it has any, need not run before it starts."""


def contenders(
    rows: Iterable[Mapping[str, Any]],
    conditions: Conditions,
    asked: Mapping[str, Mapping[str, Any]],
) -> list[Contender]:
    """Return what these rows of units say about starts.

    `asked`: whether the task of a unit has the keys `model` and `accept`; no entry if neither.
    """
    found = []
    for row in rows:
        if row["state"] not in _ON_THE_WAY:
            continue
        has = asked.get(row["id"], _NEITHER)
        contender = Contender(
            id=row["id"],
            state=row["state"],
            priority=row["priority"],
            accepted=from_stamp(row["accepted"]),
            scope=row["scope"],
            agent=conditions.agent_for(row["agent"], has_model=bool(has["model"])),
            is_proven=bool(row["proven"]) or "accept" in row["approved"] or not has["accept"],
        )
        found.append(contender)
    return found


def rank(priority: int, accepted: datetime, name: str, now: datetime) -> tuple[int, datetime, str]:
    """Return a unit's sort key: its priority, raised by age, then the time of its drop.

    Age raises a priority to 1 at most, so that an urgent new unit runs before any old unit.
    """
    waited = max(now - accepted, timedelta())
    raised = max(priority - waited // AGE_STEP, 1) if priority else 0
    return raised, accepted, name


def reasons(
    units: Iterable[Contender],
    conditions: Conditions,
    *,
    is_free: bool,
    proofs: Mapping[str, str] | None,
    now: datetime,
) -> dict[str, str]:
    """Return, for each ready unit, why it does not start yet; no entry if it can start.

    `is_free`: whether a worker is free. `proofs`: the fact PROOFS; None without a daemon, because
    then no accept commands run.
    """
    claims = Claims()
    ready = []
    for unit in units:
        if unit.state is UnitState.READY:
            ready.append(unit)
        else:
            claims.add(unit.id, unit.scope)
    ready.sort(key=lambda unit: rank(unit.priority, unit.accepted, unit.id, now))
    found = {}
    for unit in ready:
        why = conditions.why_stopped(unit.agent, unit.priority)
        if not why:
            why = _overlap(claims.owner(unit.scope))
            if unit.is_proven:
                claims.add(unit.id, unit.scope)
        why = why or _turn(unit, conditions, proofs, is_free=is_free)
        if why:
            found[unit.id] = why
    return found


def _turn(
    unit: Contender, conditions: Conditions, proofs: Mapping[str, str] | None, *, is_free: bool
) -> str:
    """Return what a unit waits for that nothing stops; "" if its record says it."""
    if unit.id in conditions.told:
        return ""
    if not unit.is_proven:
        return NO_DAEMON if proofs is None else proofs.get(unit.id, TURN)
    if conditions.short:
        return "the rest of today's budget is reserved for running attempts"
    return "" if is_free else "waits for a free worker"


def _overlap(other: str) -> str:
    return f"its scope overlaps the scope of {other}, which goes first" if other else ""
