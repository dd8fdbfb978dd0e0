"""Runs pure work on many things in a thread, so that the event loop does not block.

Invariant: if there are few things, the usual case, the work runs directly and without a thread.
"""

from collections.abc import Callable
from typing import TypeVar

from anyio import to_thread

FEW = 1000  # for up to this many things, the event loop waits and no thread starts

T = TypeVar("T")


async def aside(many: int, call: Callable[[], T]) -> T:
    """Return the call's result. The call reads `many` things; nobody may change them meanwhile."""
    if many <= FEW:
        return call()
    return await to_thread.run_sync(call)
