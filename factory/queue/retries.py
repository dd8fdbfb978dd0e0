"""What failed and is tried again later and later.

Invariant: times are those of the loop's clock, which nobody sets.
"""

from collections.abc import Collection
from dataclasses import dataclass

import anyio

LONGEST_S = 300.0


@dataclass(slots=True)
class _Failures:
    """How often in a row, and when it may be tried again."""

    count: int = 0
    due: float = 0.0


class Retries:
    """What failed, by name. It is tried again after 2, 4, 8 … 300 seconds."""

    def __init__(self) -> None:
        self._failed: dict[str, _Failures] = {}

    def fail(self, name: str) -> int:
        """Note a failure; how many there are in a row."""
        failed = self._failed.setdefault(name, _Failures())
        failed.count += 1
        failed.due = anyio.current_time() + min(LONGEST_S, 2.0**failed.count)
        return failed.count

    def failures(self, name: str) -> int:
        """How many there were in a row."""
        return self._failed.get(name, _Failures()).count

    def is_due(self, name: str) -> bool:
        """Whether it may be tried now."""
        return self._failed.get(name, _Failures()).due <= anyio.current_time()

    def forget(self, *names: str) -> None:
        """Let these begin anew."""
        for name in names:
            self._failed.pop(name, None)

    def keep(self, names: Collection[str]) -> None:
        """Forget all others."""
        others = self._failed.keys() - set(names)
        self.forget(*others)

    def waits(self) -> list[float]:
        """The seconds until each that is not due yet is."""
        now = anyio.current_time()
        waits = []
        for failed in self._failed.values():
            if failed.due > now:
                waits.append(failed.due - now)
        return waits
