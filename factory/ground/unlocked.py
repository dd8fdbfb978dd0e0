"""A write of the store that waits for another program (a backup, a database browser) to let go.

Invariant: only a lock is waited for; any other failure is raised at once.
"""

from collections.abc import Callable

import anyio

from factory.ground.errors import StoreError

AGAIN_S = 0.1  # between two tries; each of them waits for the store by itself too


async def once_unlocked(write: Callable[[], None], *, seconds: float) -> None:
    """Write as soon as the store is not locked; raise StoreError if it still is after so long."""
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
