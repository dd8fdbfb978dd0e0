"""Retries a write to the store while another program (such as a backup) locks the store.

Invariant: only a lock causes a wait; any other error is raised immediately.
"""

from collections.abc import Callable

import anyio

from factory.ground.errors import StoreError

AGAIN_S = 0.1  # between two tries; each try also waits for the store itself


async def once_unlocked(write: Callable[[], None], *, seconds: float) -> None:
    """Write when the store is not locked; raise StoreError if it stays locked for `seconds`."""
    deadline = anyio.current_time() + seconds
    while True:
        try:
            write()
        except StoreError as error:
            if "locked" not in str(error) or anyio.current_time() > deadline:
                raise
        else:
            return
        await anyio.sleep(AGAIN_S)
