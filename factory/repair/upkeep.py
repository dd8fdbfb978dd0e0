"""Keeps the store and the factory repository small while the line is idle.

Invariant: each step takes about a second at most and is complete, so a kill between two steps, or
in one, loses nothing. A busy line has to accept steps only after BUSY_DAYS or MOST_LOOSE objects.
"""

from datetime import UTC, datetime, timedelta

import anyio

from factory.ground.daemon_state import DaemonState
from factory.ground.errors import GitError
from factory.ground.log import TICK_BROKE, log
from factory.repo.packing import Packing
from factory.store.ports import Store
from factory.store.records import Hook
from factory.store.unit import Unit, UnitState

BUSY_DAYS = timedelta(days=3)
MOST_LOOSE = 10_000  # more loose objects are packed at once, even if the line is busy
IDLE_LOOSE = 1000  # more loose objects are packed when the line is idle
FEW_LOOSE = 256  # fewer loose objects are never packed
ROUND_SECONDS = 20.0  # the keeper has other work, so a round ends then
REST_SECONDS = 0.02  # the least pause between two steps
AFTER_FAILURE = timedelta(hours=6)
_AT_WORK = frozenset({UnitState.RUNNING, UnitState.QUEUED})


class Upkeep:
    """Decides when steps are due, and takes them."""

    def __init__(self, *, store: Store, state: DaemonState, packing: Packing) -> None:
        self._store = store
        self._state = state
        self._packing = packing
        self._begun = False  # whether a round of packing has begun and is not finished
        self._not_before = datetime.min.replace(tzinfo=UTC)

    async def tick(self, at: datetime) -> None:
        """Take the steps that are due, for ROUND_SECONDS at most."""
        end = anyio.current_time() + ROUND_SECONDS
        took = 0.0
        while anyio.current_time() + took < end:
            began = anyio.current_time()
            if not await self._step(at):
                return
            took = anyio.current_time() - began
            # the line and other programs get at least half of the time
            await anyio.sleep(max(REST_SECONDS, took))

    async def _step(self, at: datetime) -> bool:
        """Take one step; return whether another one may be due."""
        is_idle = self._is_idle()
        if self._compact(at, is_idle=is_idle):
            return True
        if self._wants_packing(at, is_idle=is_idle):
            return await self._pack(at)
        return False

    def _is_idle(self) -> bool:
        if any(hook.unit for hook in self._store.select(Hook)):
            return False
        return not self._store.select(Unit, state=_AT_WORK)

    # ── the store ──

    def _compact(self, at: datetime, *, is_idle: bool) -> bool:
        """Compact some entries of days that are `keep.days` ago; return whether there were any."""
        days = self._state.settings.keep.days
        if not days:
            return False
        before = at - timedelta(days=days)
        if not is_idle:
            before -= BUSY_DAYS
        # Whole days, so that a quiet minute costs no transaction.
        before = before.replace(hour=0, minute=0, second=0, microsecond=0)
        return bool(self._store.compact(before=before, now=at))

    # ── the factory repository ──

    def _wants_packing(self, at: datetime, *, is_idle: bool) -> bool:
        loose = self._packing.loose()
        if loose < FEW_LOOSE or at < self._not_before:
            return False
        if loose >= MOST_LOOSE:
            return True
        if is_idle and (self._begun or loose >= IDLE_LOOSE):
            return True
        return at.timestamp() - self._packing.last() >= BUSY_DAYS.total_seconds()

    async def _pack(self, at: datetime) -> bool:
        try:
            has_packed = await self._packing.pack()
            self._begun = has_packed and self._packing.loose() >= FEW_LOOSE
            if not self._begun:
                await self._packing.merge()
        except GitError:
            # The line works without packs, so a damaged object must not stop the keeper.
            log.exception(TICK_BROKE, loop="keeper")
            self._not_before = at + AFTER_FAILURE
            self._begun = False
        return self._begun
