"""Fault points: named brackets around every effect outside the store, where a test can let the process die.

Invariant: whatever this daemon changes in the world it changes inside a bracket that effects.md names, with what the
next start makes of a death there, and every commit of the store is one as well (`store.EVENT`); so a kill between any
two of its effects has been tried.

FACTORY_FAULT=NAME:before or NAME:after, with :N for the Nth passage, ends the process there by SIGKILL. Where it is
unset, as it is but in tests, a bracket does nothing.
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

OPEN = ContextVar[tuple[str, ...]](
    "open", default=()
)  # the brackets around what runs; kept while a fault is armed


def _armed(fault: str) -> Callable[..., AbstractContextManager[None]]:
    """The bracket for one setting of FACTORY_FAULT."""
    nothing = nullcontext()
    if not fault:
        return lambda *names: nothing
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
    """Bracket a whole function, which is left as it is while no fault is armed."""
    return _wrapped(name) if os.environ.get("FACTORY_FAULT") else lambda function: function


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
