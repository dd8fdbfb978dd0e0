"""Virtual time: an event loop that never sleeps but goes on at once to the next moment at which something is due.

Two clocks, as a machine has them: the loop's, which only goes forward, and the wall's, which a person may set.
"""

import asyncio
import selectors
from datetime import UTC, datetime, timedelta
from typing import Any

START = datetime(2026, 1, 5, 12, tzinfo=UTC)
MOST_TURNS = 20_000  # of the loop while its clock stands still: more is a loop that spins


class SpinsForEver(Exception):
    """Something is done over and over in no time."""


class Clock:
    """How late it is."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        self._set_by = timedelta()
        self._turns = 0

    def wall(self) -> datetime:
        """What the wall clock shows."""
        return START + timedelta(seconds=self.elapsed) + self._set_by

    def jump(self, seconds: float) -> None:
        """Somebody sets the wall clock."""
        self._set_by += timedelta(seconds=seconds)

    def loop(self) -> asyncio.AbstractEventLoop:
        """An event loop that lives by this clock."""
        return _Loop(self)

    def pass_by(self, seconds: float | None) -> None:
        """What the loop would sleep for."""
        if seconds is None:
            raise SpinsForEver("nothing is due, ever")
        self._turns = 0 if seconds > 0 else self._turns + 1
        self.elapsed += max(0.0, seconds)
        if self._turns > MOST_TURNS:
            raise SpinsForEver(f"{MOST_TURNS} turns at {self.elapsed:.3f} s")


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        super().__init__(_Selector(clock))

    def time(self) -> float:
        return self._clock.elapsed


class _Selector(selectors.SelectSelector):
    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[Any]:
        self._clock.pass_by(timeout)
        return []
