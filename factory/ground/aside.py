"""Pure work on many things, done in a thread so that the event loop turns meanwhile.

Invariant: few things are done at once, without a thread: that is the usual case.
"""

from collections.abc import Callable
from typing import TypeVar

from anyio import to_thread

FEW = 1000  # things that are gone through while the event loop waits

T = TypeVar("T")


async def aside(many: int, call: Callable[[], T]) -> T:
    """Return what the call returns; it goes through `many` things that nobody changes meanwhile."""
    if many <= FEW:
        return call()
    return await to_thread.run_sync(call)
