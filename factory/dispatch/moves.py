"""Decides which open units factoryd itself must move next, and how long that may take.

Invariant: pure. A unit that a person, a time or another unit moves next is not in the result.
"""

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from factory.dispatch.contested import turn
from factory.judging.retries import LONGEST_S
from factory.people.causes import DISK_FULL, TRUNK_GONE, TRUNK_RED, TRUNK_UNREADABLE, parse
from factory.repo.move import GIT_S
from factory.store.records import Card, Hook
from factory.store.unit import Unit, UnitState

STUCK = "stuck"  # name of the causes that this module leads to
RETRY_S = LONGEST_S + GIT_S  # the longest pause between two tries, and one git command
QUEUE, START = "queue", "start"
_NO_TRUNK = frozenset({TRUNK_GONE.name, TRUNK_UNREADABLE.name, "landing_unknown"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """The limits in force, in seconds."""

    setup: float = 0
    judging: float = 0
    proof: float = 0  # the longest proof of a ready unit
    agents: Mapping[str, float] = field(default_factory=dict)  # of each running unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The line at one moment."""

    at: datetime
    units: Sequence[Unit]  # open
    hooks: Sequence[Hook] = ()
    cards: Sequence[Card] = ()  # open
    needed: Mapping[str, UnitState] = field(default_factory=dict)  # finished; open units need these
    queue: Hashable = ""  # changes when the queue or trunk changes
    paused: bool = False
    resting: bool = False  # whether an agent is paused
    allowed: Allowed = Allowed()


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """A move that factoryd must make."""

    about: str  # "queue", "start" or the id of a unit
    units: tuple[Unit, ...]  # the units that wait for the move
    marks: Hashable  # changes with each move
    limits: Mapping[str, float]  # what the time consists of, in seconds
    missing: tuple[str, ...] = ()  # needs that do not exist

    @property
    def seconds(self) -> float:
        """The longest time without a move."""
        return sum(self.limits.values())


def expected(line: Line) -> list[Expected]:
    """Return the moves that factoryd itself must make next."""
    open_causes = {card.fingerprint for card in line.cards}
    if DISK_FULL.key in open_causes:
        return []
    asked = _asked(line.cards)
    units = [unit for unit in line.units if unit.id not in asked]
    names = {parse(key).name for key in open_causes}
    has_trunk = names.isdisjoint(_NO_TRUNK)
    found = list[Expected]()
    if has_trunk:
        found += _queue(units, line)
    for unit in units:
        if unit.state is UnitState.RUNNING:
            found.append(_running(unit, line))
    if has_trunk and not found:  # else ready units may wait for these moves
        found += _start(units, line, is_red=TRUNK_RED.key in open_causes)
    known = {unit.id: unit.state for unit in line.units} | dict(line.needed)
    for unit in units:
        is_waiting = unit.state is UnitState.WAITING and has_trunk  # without trunk, no unit starts
        if is_waiting or unit.state is UnitState.HELD:
            found += _standing(unit, known, open_causes, line.at)
    return found


def _asked(cards: Sequence[Card]) -> set[str]:
    """Return the units that a person moves next."""
    asked = set[str]()
    for card in cards:
        if parse(card.fingerprint).name != STUCK:
            asked.update(card.units)
    return asked


def _queue(units: Sequence[Unit], line: Line) -> Iterator[Expected]:
    waiting = [unit for unit in units if unit.state is UnitState.QUEUED]
    if not waiting:
        return
    waiting.sort(key=turn)
    queued = tuple(waiting)
    marks = (line.queue, queued)
    allowed = line.allowed
    limits = {"setup": allowed.setup, "gates": allowed.judging}
    yield _expected(QUEUE, queued, marks, limits)


def _running(unit: Unit, line: Line) -> Expected:
    hook = next((hook for hook in line.hooks if hook.unit == unit.id), None)
    marks = (unit.attempt, hook and (hook.phase, hook.since))
    limits = dict[str, float]()
    if hook:
        # If a daemon died as its agent began, the agent works although the hook says `preparing`.
        limits["agent"] = line.allowed.agents.get(unit.id, 0)
        limits["setup"] = 0 if hook.phase == "working" else line.allowed.setup
    return _expected(unit.id, (unit,), marks, limits)


def _start(units: Sequence[Unit], line: Line, *, is_red: bool) -> Iterator[Expected]:
    if line.paused or line.resting:
        return
    ready = []
    for unit in units:
        if unit.state is UnitState.READY and not (is_red and unit.priority):
            ready.append(unit)
    if ready:
        limits = {"accept": line.allowed.proof}
        if line.allowed.proof:
            limits["setup"] = line.allowed.setup
            limits["gates"] = line.allowed.judging  # accept gives way to the gates of trunk
        yield _expected(START, tuple(ready), tuple(line.units), limits)


def _standing(
    unit: Unit,
    known: Mapping[str, UnitState],
    open_causes: Collection[str],
    at: datetime,
) -> Iterator[Expected]:
    """Yield the move of a waiting or held unit, unless something else moves it next."""
    is_asked = unit.cause in open_causes
    is_early = unit.not_before is not None and unit.not_before > at
    states = [known.get(need) for need in unit.needs]
    is_behind = any(state is not None and _moves_on(state) for state in states)
    if unit.state is UnitState.WAITING and (is_asked or is_early or is_behind):
        return
    missing = tuple(need for need in unit.needs if need not in known)
    marks = (unit, tuple(states))
    yield _expected(unit.id, (unit,), marks, {}, missing=missing)


def _moves_on(state: UnitState) -> bool:
    return state not in (UnitState.LANDED, UnitState.CANCELLED)


def _expected(
    about: str,
    units: tuple[Unit, ...],
    marks: Hashable,
    limits: Mapping[str, float],
    *,
    missing: tuple[str, ...] = (),
) -> Expected:
    parts = {name: seconds for name, seconds in limits.items() if seconds}
    parts["retries"] = RETRY_S
    return Expected(about=about, units=units, marks=marks, limits=parts, missing=missing)
