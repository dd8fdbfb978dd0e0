"""A bell wakes one loop. Rung while nobody waits, it wakes the next wait at once, so no ring is lost."""

import anyio


class Bell:
    """One loop waits; anybody on the same event loop rings."""

    def __init__(self) -> None:
        self._rung = anyio.Event()

    def ring(self) -> None:
        """Wake the waiting loop, or its next wait."""
        self._rung.set()

    async def wait(self, seconds: float | None = None) -> bool:
        """Sleep until rung or for at most so many seconds; True if rung."""
        with anyio.move_on_after(seconds):
            await self._rung.wait()
        rung = self._rung.is_set()
        self._rung = anyio.Event()
        return rung
