"""Fault points: named brackets around every effect outside the store, where a test can kill us.

Invariant: every change in the world happens inside a bracket. effects.md names it, and says what
the next start does after a death there. Every commit of the store is one as well (`store.EVENT`).
So the tests try a kill between any two effects.

FACTORY_FAULT=NAME:before or NAME:after, with :N for the Nth passage, ends the process there by
SIGKILL. Only tests set it; without it a bracket does nothing.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import wraps
from inspect import iscoroutinefunction
from itertools import count
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

# The brackets around the running code; known only while a fault is armed.
OPEN = ContextVar[tuple[str, ...]]("open", default=())


def _armed(fault: str) -> Callable[..., AbstractContextManager[None]]:
    """Return the bracket for one setting of FACTORY_FAULT."""
    nothing = nullcontext()
    if not fault:
        return lambda *names: nothing
    name, wanted, passage, *_ = [*fault.split(":"), "1", "1"]  # one passage if none is named
    passages = count(1)

    def pass_by(names: tuple[str, ...], side: str) -> None:
        if side == wanted and name in names and next(passages) == int(passage):
            os.kill(os.getpid(), signal.SIGKILL)

    @contextmanager
    def bracket(*names: str) -> Iterator[None]:
        pass_by(names, "before")
        token = OPEN.set(OPEN.get() + names)
        try:
            yield
        finally:
            OPEN.reset(token)
        pass_by(names, "after")

    return bracket


step = _armed(os.environ.get("FACTORY_FAULT", ""))  # `with step(NAME):` brackets one effect


def during(name: str) -> Callable[[F], F]:
    """Bracket a whole function; without an armed fault, leave it as it is."""
    if not os.environ.get("FACTORY_FAULT"):
        return lambda function: function
    return _wrapped(name)


def _wrapped(name: str) -> Callable[[F], F]:
    def around(function: Any) -> Any:
        @wraps(function)
        async def asynchronous(*args: Any, **named: Any) -> Any:
            with step(name):
                return await function(*args, **named)

        @wraps(function)
        def synchronous(*args: Any, **named: Any) -> Any:
            with step(name):
                return function(*args, **named)

        return asynchronous if iscoroutinefunction(function) else synchronous

    return around
