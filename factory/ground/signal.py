"""A signal that wakes one loop. If the loop is busy, the signal ends its next wait."""

import anyio


class Signal:
    """A signal for one loop. Any code on the same event loop may send the signal."""

    def __init__(self) -> None:
        self._sent = anyio.Event()

    def send(self) -> None:
        """Wake the loop. If it is not waiting now, end its next wait immediately."""
        self._sent.set()

    async def wait(self, seconds: float | None = None) -> bool:
        """Sleep until the signal comes or the seconds are over; return whether the signal came."""
        with anyio.move_on_after(seconds):
            await self._sent.wait()
        sent = self._sent.is_set()
        self._sent = anyio.Event()
        return sent
