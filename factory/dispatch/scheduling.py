"""Chooses the units that start next, and moves units whose wait begins or ends.

Invariant: pure functions of (facts, now).
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from factory.dispatch.contested import Precedence
from factory.ground.claims import Claims
from factory.ground.times import as_of, clock
from factory.store.records import Hook
from factory.store.starts import rank
from factory.store.unit import Unit, UnitState, advance
from factory.store.waits import is_missing, missing


@dataclass(frozen=True, slots=True)
class Choice:
    """A ready unit, with the hook that it gets.

    Without a hook, the unit waits for `why`, or its accept commands must run first.
    """

    unit: Unit
    hook: Hook | None
    why: str = ""  # why a unit with contested paths waits


def choose(
    units: Iterable[Unit],
    hooks: Sequence[Hook],
    *,
    is_stopped: Callable[[Unit], bool],
    homes: Mapping[str, str],
    precedence: Precedence,
    unproven: Collection[str] = (),
) -> list[Choice]:
    """Return the units that start next, in order of rank; look at no more units than needed.

    `units`: all units that are not final. `is_stopped`: returns whether a unit may not start now.
    `homes`: the worker whose workspace has the session of a unit. `precedence`: decides about units
    that conflicted, and has the time. `unproven`: units whose accept commands must run before they
    get a hook; until then, other units may start in their place. A unit that waits because of its
    scope also stops later units that overlap it; otherwise a unit with a wide scope might wait for
    ever. store/starts.py has the same rules and says why the other units wait.
    """
    free = [hook for hook in hooks if not hook.unit and hook.state == "idle"]
    workers = sum(hook.state in ("idle", "running") for hook in hooks)
    claims = Claims()
    choices = []
    ahead = 0  # units that could start before this unit
    for unit in _due(units, claims, precedence.now):
        if not free and ahead >= workers:
            break
        if is_stopped(unit):
            continue
        is_proven = unit.id not in unproven
        if _is_claimed(unit, claims, adds=is_proven):
            continue
        why = precedence.why_not(unit) if is_proven else ""
        if why:
            choices.append(Choice(unit, None, why))
            continue
        ahead += 1
        if is_proven and free:
            choices.append(Choice(unit, _take(free, homes.get(unit.id))))
        elif not is_proven and ahead <= workers:
            choices.append(Choice(unit, None))
    return choices


def _due(units: Iterable[Unit], claims: Claims, now: datetime) -> list[Unit]:
    """Return the ready units in order of rank; add the scopes of units under way to the claims."""
    due = []
    for unit in units:
        if unit.state in (UnitState.RUNNING, UnitState.QUEUED):
            claims.add(unit.id, unit.scope)
        elif unit.state is UnitState.READY and (unit.not_before or now) <= now:
            due.append(unit)
    due.sort(key=lambda unit: rank(unit.priority, unit.accepted, unit.id, now))
    return due


def _is_claimed(unit: Unit, claims: Claims, *, adds: bool) -> bool:
    """Return whether another unit claims paths of the unit's scope; `adds`: claim them now."""
    owner = claims.owner(unit.scope)
    if adds:
        claims.add(unit.id, unit.scope)
    return bool(owner)


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


def _take(free: list[Hook], home: str | None) -> Hook:
    """Remove and return the hook of the worker `home` if it is free, else the first free hook."""
    taken = free[0]
    for hook in free:
        if hook.worker == home:
            taken = hook
    free.remove(taken)
    return taken


def _settled(unit: Unit, known: Mapping[str, UnitState], now: datetime) -> Unit:
    if unit.not_before:
        since, until = as_of(unit.since, unit.not_before, now)
        told = until == unit.not_before and clock(until) in unit.why and not unit.needs
        unit = replace(unit, since=since, not_before=until)
        if told and until > now:  # `why` already says what the unit waits for
            return unit
    waits = is_missing(unit.needs, unit.not_before, known, now=now)
    if not waits and unit.state is UnitState.WAITING:
        return replace(advance(unit, UnitState.READY, now=now), not_before=None)
    is_cancelled = any(known.get(need) is UnitState.CANCELLED for need in unit.needs)
    # When whys.why shows the unit, it describes the needs; so only a time must be stored.
    is_said = unit.state is UnitState.WAITING and unit.needs and unit.why
    if not waits or (is_said and not is_cancelled):
        return unit
    why = missing(unit.needs, unit.not_before, known, now=now, own=unit.id)
    if is_cancelled:
        return advance(unit, UnitState.HELD, now=now, why=why)
    if unit.state is UnitState.READY:
        return advance(unit, UnitState.WAITING, now=now, why=why)
    return replace(unit, why=why)
