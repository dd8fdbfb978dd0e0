"""Contested paths: paths on which units conflicted, and which of these units goes first.

A unit that conflicted changes its paths again. So its next attempt starts only when no other unit
with these paths is ahead, and other changes to these paths land only after it.

Invariant: pure; each wait ends, because all units follow one order and no unit keeps the others
waiting for longer than its `minutes` in one state.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from factory.store.unit import SPENDS, EndReason, Unit, UnitState
from factory.store.waits import behind

MOST_BYTES = 2048  # of the paths that a unit keeps
MOST_BEHIND = 20  # queued units that a unit waits for
TAKES = 2  # from so many conflicts in a row on, a unit goes before units with a better priority

Limit = Callable[[Unit], float]  # the minutes of an attempt


@dataclass(frozen=True, slots=True)
class Behind:
    """A wait for a unit that is ahead in the same file."""

    ahead: str  # the unit
    path: str

    @property
    def sentence(self) -> str:
        """What a person reads about the unit that waits."""
        return behind(self.ahead, self.path)


@dataclass(frozen=True, slots=True)
class Contest:
    """A conflict with trunk: its paths, and the queued units that change these paths too."""

    paths: tuple[str, ...]
    behind: tuple[str, ...] = ()


def noted(unit: Unit, contest: Contest) -> Unit:
    """Return the unit with one more conflict in a row."""
    paths = _first_bytes((*contest.paths, *unit.contested))
    conflicts = unit.conflicts + 1
    return replace(unit, conflicts=conflicts, contested=paths, behind=contest.behind)


def after(unit: Unit, reason: EndReason) -> Unit:
    """Return the unit after an attempt: an attempt that counts ends the row of conflicts."""
    if reason is EndReason.CONFLICT or not SPENDS[reason]:
        return unit
    return replace(unit, conflicts=0, contested=(), behind=())


def turn(unit: Unit) -> tuple[bool, int, bool, datetime, str]:
    """Return the sort key of a submitted unit: the order in which submitted units land."""
    is_contested = bool(unit.contested)
    since = unit.accepted if is_contested else unit.since
    return unit.conflicts < TAKES, unit.priority, not is_contested, since, unit.id


def holders(units: Iterable[Unit], limit: Limit, now: datetime) -> dict[str, Unit]:
    """Return each contested path with the unit whose present attempt changes it again.

    If several units do, return the unit that lands first.
    """
    found: dict[str, Unit] = {}
    for unit in units:
        if unit.state is not UnitState.RUNNING or not _is_within(limit(unit), unit, now):
            continue
        for path in unit.contested:
            if path not in found or turn(unit) < turn(found[path]):
                found[path] = unit
    return found


class Precedence:
    """Decides which units with contested paths may start now; knows all open units."""

    def __init__(self, units: Iterable[Unit], limit: Limit, now: datetime) -> None:
        self._limit = limit
        self.now = now
        self._queued: dict[str, Unit] = {}
        self._last: dict[str, str] = {}  # the last unit in line for each path
        for unit in units:
            is_under_way = unit.state in (UnitState.RUNNING, UnitState.QUEUED)
            if is_under_way and _is_within(limit(unit), unit, now):
                self._line_up(unit)
            if unit.state is UnitState.QUEUED:
                self._queued[unit.id] = unit

    def why_not(self, unit: Unit) -> str:
        """Return why the unit may not start now, or ""; put it in the line for its paths."""
        if not unit.contested:
            return ""
        why = self._behind_contested(unit) or self._behind_queued(unit)
        self._line_up(unit)
        return why

    def _behind_contested(self, unit: Unit) -> str:
        for path in unit.contested:
            if path in self._last:
                return behind(self._last[path], path)
        return ""

    def _behind_queued(self, unit: Unit) -> str:
        """Return whether a unit may still land that was queued when this unit conflicted."""
        if not _is_within(self._limit(unit), unit, self.now):
            return ""
        for name in unit.behind:
            other = self._queued.get(name)
            if other is not None and other.since <= unit.since:
                return behind(name, unit.contested[0])
        return ""

    def _line_up(self, unit: Unit) -> None:
        for path in unit.contested:
            self._last[path] = unit.id


def _is_within(minutes: float, unit: Unit, now: datetime) -> bool:
    """Return whether the unit has been in its state for less than `minutes`."""
    # The time is negative if somebody set the clock back.
    return abs((now - unit.since).total_seconds()) < minutes * 60


def _first_bytes(paths: Iterable[str]) -> tuple[str, ...]:
    """Return the paths without repetitions, as many as MOST_BYTES allows."""
    kept = []
    size = 0
    for path in dict.fromkeys(paths):
        size += len(path.encode(errors="replace"))
        if size > MOST_BYTES:
            break
        kept.append(path)
    return tuple(kept)
