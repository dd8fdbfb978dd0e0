"""A signal wakes one loop, or its next wait: none is lost."""

import anyio


class Signal:
    """One loop waits; anybody on the same event loop sends."""

    def __init__(self) -> None:
        self._sent = anyio.Event()

    def send(self) -> None:
        """Wake the waiting loop, or its next wait."""
        self._sent.set()

    async def wait(self, seconds: float | None = None) -> bool:
        """Sleep until it is sent, or for at most so many seconds; True if it was sent."""
        with anyio.move_on_after(seconds):
            await self._sent.wait()
        sent = self._sent.is_set()
        self._sent = anyio.Event()
        return sent
