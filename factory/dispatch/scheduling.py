"""Chooses the units that start next, and says what each other unit waits for.

Invariant: pure functions of (facts, now); each unit that does not start gets a sentence with the
reason.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from factory.dispatch.contested import Starts
from factory.ground.reserved import NO_AGENT
from factory.ground.scope import overlap
from factory.ground.times import as_of, clock
from factory.store.records import Hook
from factory.store.unit import Unit, UnitState, advance
from factory.store.waits import missing

AGE_STEP = timedelta(minutes=30)  # each such time raises the priority of a waiting unit by one


@dataclass(frozen=True, slots=True)
class Choice:
    """A ready unit, with its hook or the reason why it gets no hook."""

    unit: Unit
    hook: Hook | None
    why: str = ""
    proves: bool = False  # it would get one of the next hooks, but its accept commands go first


def rank(unit: Unit, now: datetime) -> tuple[int, datetime, str]:
    """Return the sort key of the unit: its priority, raised by age, then the time of its drop.

    Age raises a priority to 1 at most, so that an urgent new unit runs before any old unit.
    """
    waited = max(now - unit.accepted, timedelta())
    raised = max(unit.priority - waited // AGE_STEP, 1) if unit.priority else 0
    return raised, unit.accepted, unit.id


def choose(
    units: Iterable[Unit],
    hooks: Sequence[Hook],
    *,
    stopped: Callable[[Unit], str],
    homes: Mapping[str, str],
    starts: Starts,
    unproven: Collection[str] = (),
) -> list[Choice]:
    """Return the choice for each ready unit, in order of rank.

    `units`: all units that are not final. `stopped`: returns why a unit may not start now, or "".
    `homes`: the worker whose workspace has the session of a unit. `starts`: decides about units
    that conflicted, and has the time. `unproven`: units whose accept commands must run before they
    get a hook; until then, other units may start in their place. A unit that waits because of its
    scope also stops later units that overlap it; otherwise a unit with a wide scope might wait for
    ever.
    """
    free = [hook for hook in hooks if not hook.unit and hook.state == "idle"]
    workers = sum(hook.state in ("idle", "running") for hook in hooks)
    under_way, due = _sorted_out(units, starts.now)
    choices = []
    ahead = 0  # units that could start before this unit
    for unit in due:
        stop = stopped(unit)
        why = stop or _overlap(unit, under_way)
        if unit.id in unproven:
            choices.append(Choice(unit, None, why, proves=not why and ahead < workers))
            ahead += not why
            continue
        why = why or starts.why_not(unit)
        ahead += not why
        if not stop:
            under_way.append(unit)
        if not why and not free:
            why = "waits for a free worker"
        hook = None
        if not why:
            hook = _nearest(free, homes.get(unit.id))
            free.remove(hook)
        choices.append(Choice(unit, hook, why))
    return choices


def settle(units: Iterable[Unit], known: Mapping[str, UnitState], *, now: datetime) -> list[Unit]:
    """Return the waiting and ready units that must change, with the changes.

    `known`: the state of all units, final units too. A waiting unit becomes ready if nothing is
    missing, and held if a need was cancelled. A ready unit waits if something is missing. In other
    cases only its time changes, or it gets its first sentence about needs. Skips units with a
    shared cause.
    """
    changed = []
    for unit in units:
        if unit.cause or unit.state not in (UnitState.WAITING, UnitState.READY):
            continue
        settled = _settled(unit, known, now)
        if settled != unit:
            changed.append(settled)
    return changed


def next_time(units: Iterable[Unit], *, now: datetime) -> datetime | None:
    """Return when the next wait of a unit ends, so that no loop has to poll; None if none ends."""
    times = []
    for unit in units:
        if unit.state is UnitState.WAITING and not unit.cause and unit.not_before:
            times.append(unit.not_before)
    return min((time for time in times if time > now), default=None)


def circle(start: str, needs: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return the shortest circle of needs from the unit back to itself; () if there is none."""
    ways: list[tuple[str, ...]] = [(start,)]
    seen = set[str]()
    for way in ways:  # the list grows during the loop
        for need in needs.get(way[-1], ()):
            if need == start:
                return (*way, need)
            if need not in seen:
                seen.add(need)
                ways.append((*way, need))
    return ()


def _sorted_out(units: Iterable[Unit], now: datetime) -> tuple[list[Unit], list[Unit]]:
    """Return the units under way, and the units that may start now, in order of rank."""
    under_way = []
    due = []
    for unit in units:
        if unit.state in (UnitState.RUNNING, UnitState.QUEUED):
            under_way.append(unit)
        elif unit.state is UnitState.READY and (unit.not_before or now) <= now:
            due.append(unit)
    due.sort(key=lambda unit: rank(unit, now))
    return under_way, due


def _nearest(free: Sequence[Hook], home: str | None) -> Hook:
    """Return the hook of the worker `home` if it is free, else the first free hook."""
    for hook in free:
        if hook.worker == home:
            return hook
    return free[0]


def why_stopped(unit: Unit, agent: str, resting: Mapping[str, str], *, trunk_red: bool) -> str:
    """Return why a ready unit may not start now, or ""; `resting`: why each agent is paused."""
    if trunk_red and unit.priority > 0:
        return "trunk is red: until it is green again, only units with priority 0 start"
    if agent != NO_AGENT and agent in resting:
        return f"its agent {agent} {resting[agent]}"
    return ""


def _overlap(unit: Unit, others: Iterable[Unit]) -> str:
    """Return a unit whose scope overlaps, or ""; a unit without a scope overlaps none."""
    if not unit.scope:
        return ""
    for other in others:
        if overlap(unit.scope, other.scope):
            return f"its scope overlaps the scope of {other.id}, which goes first"
    return ""


def _settled(unit: Unit, known: Mapping[str, UnitState], now: datetime) -> Unit:
    if unit.not_before:
        since, until = as_of(unit.since, unit.not_before, now)
        told = until == unit.not_before and clock(until) in unit.why and not unit.needs
        unit = replace(unit, since=since, not_before=until)
        if told and until > now:  # `why` already says what the unit waits for
            return unit
    why = missing(unit.needs, unit.not_before, known, now=now, own=unit.id)
    if any(known.get(need) is UnitState.CANCELLED for need in unit.needs):
        return advance(unit, UnitState.HELD, now=now, why=why)
    if why and unit.state is UnitState.READY:
        return advance(unit, UnitState.WAITING, now=now, why=why)
    if not why and unit.state is UnitState.WAITING:
        return replace(advance(unit, UnitState.READY, now=now), not_before=None)
    # When whys.why shows the unit, it describes the needs; so only a time must be stored.
    is_said = unit.needs and unit.why
    if why and not is_said:
        return replace(unit, why=why)
    return unit
