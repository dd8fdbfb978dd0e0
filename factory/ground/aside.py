"""Runs pure work on many things in a thread, so that the event loop does not block.

Invariant: work on few things, the usual case, runs directly and without a thread.
"""

from collections.abc import Callable
from typing import TypeVar

from anyio import to_thread

FEW = 1000  # up to so many things, the event loop waits for the work

T = TypeVar("T")


async def aside(many: int, call: Callable[[], T]) -> T:
    """Return what the call returns. It works on `many` things; nobody may change them meanwhile."""
    if many <= FEW:
        return call()
    return await to_thread.run_sync(call)
