"""The state that can change while the daemon runs: settings, pause, stopping, signals, trouble."""

import math
import time
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

import anyio

from factory.ground import disk
from factory.ground.errors import StoreError, TooLong, causes, first_of
from factory.ground.log import TICK_BROKE, log
from factory.ground.places import Places
from factory.ground.settings import Settings
from factory.ground.signal import Signal

T = TypeVar("T")
DRAIN_SECONDS = 60.0  # how long a plain stop waits for running attempts
BROKEN_SECONDS = 5.0  # the pause after a pass failed
# After a failed write, a disk counts as full for this long. The daemon tries to write again
# earlier.
FULL_SECONDS = 2 * BROKEN_SECONDS
# Simulations replace this clock.
CLOCK = ContextVar[Callable[[], datetime]]("clock", default=lambda: datetime.now(UTC))


class Stopping(StrEnum):
    """How the daemon stops."""

    NO = "no"
    DRAIN = "drain"  # accepts no new work and waits for running attempts
    HAND_BACK = "hand back"  # ends attempts and keeps their trees; these attempts do not count
    LEAVE = "leave"  # exits at once and lets agents go on; the next daemon adopts them


class DaemonState:
    """The changing state of one daemon. `environ`: the environment at its start."""

    def __init__(self, *, settings: Settings, places: Places, environ: Mapping[str, str]) -> None:
        self.settings = settings
        self.places = places
        self.environ = environ
        self.paused = False
        self.stopping = Stopping.NO
        self.pool = Signal()  # units, hooks or runtimes changed
        self.queue = Signal()  # a unit was submitted, judged or approved
        self.leaving = Signal()  # `stopping` has changed, or a hook became empty
        self.requests = Signal()  # a command made a request, or somebody dropped a task file
        # pass → a sentence about its failure, which `status` shows
        self.broken: dict[str, str] = {}
        self._full_at = datetime.min.replace(tzinfo=UTC)  # when a disk was full last
        self._failed_at = -math.inf  # when a write failed last, by a clock that does not jump

    @property
    def takes_work(self) -> bool:
        """Whether a free worker may get a unit."""
        return not self.paused and self.stopping is Stopping.NO

    def no_room(self) -> str:
        """Return the folder whose disk lacks room; "" if there is enough."""
        where = self.places
        found = disk.lacking((where.home, where.work, where.common_dir))
        if found:
            self._full_at = now()
        return found

    def cramped(self) -> str:
        """Return what `no_room` returns, or factoryd's folder if a write just failed (a quota)."""
        found = self.no_room()
        if not found and time.monotonic() - self._failed_at < FULL_SECONDS:
            return str(self.places.home)
        return found

    def is_full(self, error: Exception) -> bool:
        """Return whether the cause of the error is a full disk."""
        if disk.full(error):
            self._full_at = now()
            self._failed_at = time.monotonic()
            return True
        return bool(self.no_room())

    def is_passing(self, error: BaseException) -> bool:
        """Return whether the error has nothing to do with the unit.

        The cause of such an error is a full disk, a failed store, or a stop of the daemon that
        ended git.
        """
        if isinstance(error, Exception) and self.is_full(error):
            return True
        reasons: tuple[type[BaseException], ...] = (StoreError,)
        if self.stopping in (Stopping.HAND_BACK, Stopping.LEAVE):
            reasons = (StoreError, TooLong)
        return any(isinstance(each, reasons) for each in causes(error))

    def was_full(self, since: datetime) -> bool:
        """Return whether a disk was full at any time since that moment."""
        return bool(self.no_room()) or self._full_at >= since

    def wake_all(self) -> None:
        """Wake every loop."""
        for signal in (self.pool, self.queue, self.requests, self.leaving):
            signal.send()

    async def guarded(
        self,
        name: str,
        call: Callable[..., Awaitable[T]],
        *args: Any,
        broke: Callable[[Exception], None] | None = None,
    ) -> T | None:
        """Run one pass or judging. If it fails, log and show the error, wait, and return None.

        If the error may concern the judged unit, `broke` gets the error immediately.
        """
        try:
            done = await call(*args)
        except Exception as error:  # noqa: BLE001 - one service failed; the others go on
            log.exception(TICK_BROKE, loop=name)
            self.broken[name] = _about(name, first_of(error))
            self.requests.send()
            if broke and not self.is_passing(error):
                broke(error)
            if self.is_full(error):
                self.pool.send()
            await anyio.sleep(BROKEN_SECONDS)
            return None
        self.mended(name)
        return done

    def mended(self, name: str) -> None:
        """Remove the warning about a pass, because the pass works again or is no longer needed."""
        if self.broken.pop(name, None) is not None:
            self.requests.send()  # so that status no longer shows the warning


_PASSES = {  # the passes by the names that people see
    "desk": "Taking requests and task files",
    "judge": "Judging a unit",
    "judge trunk": "Judging trunk",
    "keeper": "Cleaning up",
    "landing": "Landing",
    "leftovers": "Ending what an earlier daemon left",
    "pair": "Looking for the landed unit that a red unit does not fit",
    "pool": "Starting units",
    "prove": "Running accept commands",
    "queue": "The merge queue",
    "standstill": "Looking for units that stand still",
}


def _about(name: str, error: BaseException) -> str:
    said = str(error) or type(error).__name__
    first = said.splitlines()[0][:200]
    what = _PASSES.get(name, name.capitalize())
    return f"{what} failed and is tried again: {first} (traceback in .factory/daemon.log)"


def now() -> datetime:
    """Return the present time in UTC. The clock may jump, so use the loop's clock for durations."""
    return CLOCK.get()()
