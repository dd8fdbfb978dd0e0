"""What failed and is tried again later and later.

Invariant: times are those of the loop's clock, which nobody sets.
"""

from collections.abc import Collection

import anyio

LONGEST_S = 300.0


class Retries:
    """How often each name failed in a row, and when it may be tried again: after 2, 4, 8 … 300 seconds."""

    def __init__(self) -> None:
        self._failed: dict[str, tuple[int, float]] = {}

    def fail(self, name: str) -> int:
        """Note a failure; how many there are in a row."""
        failures = self.failures(name) + 1
        wait = min(LONGEST_S, 2.0**failures)
        self._failed[name] = failures, anyio.current_time() + wait
        return failures

    def failures(self, name: str) -> int:
        """How many there were in a row."""
        return self._failed.get(name, (0, 0.0))[0]

    def is_due(self, name: str) -> bool:
        """Whether it may be tried now."""
        return self._failed.get(name, (0, 0.0))[1] <= anyio.current_time()

    def forget(self, *names: str) -> None:
        """Let these begin anew."""
        for name in names:
            self._failed.pop(name, None)

    def keep(self, names: Collection[str]) -> None:
        """Forget all others."""
        self.forget(*(self._failed.keys() - set(names)))

    def waits(self) -> list[float]:
        """The seconds until each that is not due yet is."""
        now = anyio.current_time()
        return [when - now for _, when in self._failed.values() if when > now]
