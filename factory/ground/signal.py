"""A signal that wakes one loop. A signal to a busy loop ends its next wait."""

import anyio


class Signal:
    """One loop waits for it. Any code on the same event loop may send it."""

    def __init__(self) -> None:
        self._sent = anyio.Event()

    def send(self) -> None:
        """Wake the waiting loop, or end its next wait at once."""
        self._sent.set()

    async def wait(self, seconds: float | None = None) -> bool:
        """Sleep until somebody sends the signal, or so many seconds; return whether it was sent."""
        with anyio.move_on_after(seconds):
            await self._sent.wait()
        sent = self._sent.is_set()
        self._sent = anyio.Event()
        return sent
