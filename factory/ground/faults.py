"""Fault points: named brackets around each effect outside the store. Tests kill the process there.

Invariant: every change outside the store happens between two fault points. effects.md lists the
pairs, and says what the next start does if the daemon was killed between them. Every commit of
the store is a fault point too (`store.EVENT`). So tests can kill the process between any two
effects.

FACTORY_FAULT=NAME:before or NAME:after, with :N for the Nth passage, kills the process there with
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

# The names of the brackets that the running code is in; used only while a fault is armed.
OPEN = ContextVar[tuple[str, ...]]("open", default=())


def _armed(fault: str) -> Callable[..., AbstractContextManager[None]]:
    """Return the bracket function for one value of FACTORY_FAULT."""
    nothing = nullcontext()
    if not fault:
        return lambda *names: nothing
    # without a number, the first passage counts
    name, wanted, passage, *_ = [*fault.split(":"), "1", "1"]
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
    """Put a bracket around a function. If no fault is armed, return the function unchanged."""
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
