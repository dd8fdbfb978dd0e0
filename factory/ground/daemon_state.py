"""What may change while the daemon runs: the settings in force, whether the line is paused, how it is stopping."""

import math
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

import anyio

from factory.ground import disk
from factory.ground.errors import StoreError, TooLong, first_of
from factory.ground.log import TICK_BROKE, log
from factory.ground.places import Places
from factory.ground.settings import Settings
from factory.ground.signal import Signal

T = TypeVar("T")
DRAIN_SECONDS = 60.0  # how long a plain stop waits for what runs
BROKEN_SECONDS = 5.0  # how long what broke is left alone
FULL_SECONDS = (
    2 * BROKEN_SECONDS
)  # how long a disk counts as full after a write failed: meanwhile it is tried again
CLOCK = ContextVar[Callable[[], datetime]](
    "clock", default=lambda: datetime.now(UTC)
)  # another one in simulations


class Stopping(StrEnum):
    """How the daemon is leaving."""

    NO = "no"
    DRAIN = "drain"  # takes no more, waits for what runs
    HAND_BACK = "hand back"  # ends what runs, keeps its tree, uncounted
    LEAVE = "leave"  # goes at once and lets agents run on: a restart adopts them


class DaemonState:
    """One daemon's changing circumstances; `environ` is the environment as captured at start."""

    def __init__(self, *, settings: Settings, places: Places, environ: Mapping[str, str]) -> None:
        self.settings = settings
        self.places = places
        self.environ = environ
        self.paused = False
        self.stopping = Stopping.NO
        self.pool = Signal()  # units, hooks or runtimes changed
        self.queue = Signal()  # something was submitted, judged or approved
        self.leaving = Signal()  # how the daemon stops has changed, or a hook was emptied
        self.requests = Signal()  # a command asked for something, or a task file was dropped
        self.broken: dict[str, str] = {}  # passes that break, and how: status warns of them
        self._full_at = datetime.min.replace(tzinfo=UTC)  # when there was last no room, or said so
        self._failed_at = -math.inf  # the same, said by a write; by a clock that does not jump

    @property
    def takes_work(self) -> bool:
        """Whether a free worker may be given a unit."""
        return not self.paused and self.stopping is Stopping.NO

    def no_room(self) -> str:
        """The folder on whose disk there is too little room, empty where there is enough."""
        where = self.places
        if found := disk.lacking((where.home, where.work, where.common_dir)):
            self._full_at = now()
        return found

    def cramped(self) -> str:
        """The same, also where writing failed just now although there seems to be room (a quota)."""
        lately = time.monotonic() - self._failed_at < FULL_SECONDS
        return self.no_room() or (str(self.places.home) if lately else "")

    def is_full(self, error: Exception) -> bool:
        """Whether something broke for want of room."""
        if said := disk.full(error):
            self._full_at, self._failed_at = now(), time.monotonic()
        return said or bool(self.no_room())

    def is_passing(self, error: BaseException) -> bool:
        """Whether something broke for a reason that says nothing about the unit, so that nothing is given up.

        There is no room, the store could not do its work, or git was ended because the daemon goes.
        """
        if isinstance(error, Exception) and self.is_full(error):
            return True
        goes = self.stopping in (Stopping.HAND_BACK, Stopping.LEAVE)
        reasons = (StoreError, TooLong) if goes else (StoreError,)
        return any(isinstance(each, reasons) for each in _causes(error))

    def was_full(self, since: datetime) -> bool:
        """Whether a disk had no room at some time since then."""
        return bool(self.no_room()) or self._full_at >= since

    def wake_all(self) -> None:
        """Let every loop look again."""
        for signal in (self.pool, self.queue, self.requests, self.leaving):
            signal.send()

    async def guarded(
        self,
        name: str,
        call: Callable[..., Awaitable[T]],
        *args: Any,
        broke: Callable[[Exception], None] | None = None,
    ) -> T | None:
        """Run one pass of a loop, or one judging; what breaks in it is logged and said, and a little later is None.

        `broke` gets it at once, where it says something about what was judged.
        """
        try:
            done = await call(*args)
        except Exception as error:  # noqa: BLE001 - a service's pass: the others go on, and it is tried again
            log.exception(TICK_BROKE, loop=name)
            one = first_of(error)
            first = (str(one) or type(one).__name__).splitlines()[0]
            what = _PASSES.get(name, name.capitalize())
            self.broken[name] = (
                f"{what} failed and is tried again: {first[:200]} (traceback in .factory/daemon.log)"
            )
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
        """Withdraw the warning about a pass that works again, or that nobody waits for any more."""
        if self.broken.pop(name, None) is not None:
            self.requests.send()  # so that status drops it at once


_PASSES = {  # as a person knows them
    "desk": "Taking requests and task files",
    "judge": "Judging a unit",
    "judge trunk": "Judging trunk",
    "keeper": "Cleaning up",
    "landing": "Landing",
    "leftovers": "Ending what an earlier daemon left",
    "pool": "Starting units",
    "prove": "Running accept commands",
    "queue": "The merge queue",
}


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, those in a group of them, and what each came of."""
    yield error
    below = (*getattr(error, "exceptions", ()), error.__cause__, error.__context__)
    for each in below:
        if each is not None:
            yield from _causes(each)


def now() -> datetime:
    """The present time, aware UTC. It may jump (a clock that is set right): what lasts is measured by the loop's."""
    return CLOCK.get()()
