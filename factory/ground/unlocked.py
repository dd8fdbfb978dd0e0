"""A write to the store that waits until another program (such as a backup) unlocks it.

Invariant: it waits only for a lock, and raises any other error at once.
"""

from collections.abc import Callable

import anyio

from factory.ground.errors import StoreError

AGAIN_S = 0.1  # between two tries; each try also waits for the store itself


async def once_unlocked(write: Callable[[], None], *, seconds: float) -> None:
    """Write once the store is unlocked; raise StoreError if it stays locked for so many seconds."""
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
