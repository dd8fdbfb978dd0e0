"""A daemon that writes down what each long turn of its loop cost: `python turns.py ROOT FILE`.

A turn is all that the loop runs between two looks at what is ready; its cost is the CPU time of the loop's own thread.
"""

import asyncio
import json
import sys
import time
from asyncio import base_events, events
from collections.abc import Callable
from pathlib import Path
from typing import Any

from factory import daemon

LEAST_S = 0.01  # shorter turns are not written down


class Turns:
    """Measures each turn of the loop, and which step of it cost most."""

    def __init__(self, file: Path) -> None:
        self._out = file.open("a", buffering=1)
        self._longest, self._step = 0.0, ""

    def turn(self, run_once: Callable[[Any], None]) -> Callable[[Any], None]:
        """The loop's turn, measured."""

        def measured(loop: Any) -> None:
            self._longest, self._step = 0.0, ""
            began = time.thread_time()
            run_once(loop)
            cpu = time.thread_time() - began
            if cpu >= LEAST_S:
                told = {
                    "at": time.time(),
                    "cpu": cpu,
                    "step": self._step,
                    "step_cpu": self._longest,
                }
                self._out.write(json.dumps(told) + "\n")

        return measured

    def step(self, run: Callable[[Any], None]) -> Callable[[Any], None]:
        """One step of a turn, measured."""

        def measured(handle: Any) -> None:
            began = time.thread_time()
            run(handle)
            cpu = time.thread_time() - began
            if cpu > self._longest:
                self._longest, self._step = cpu, _what(handle)

        return measured


def _what(handle: Any) -> str:
    """The coroutine or function that the step ran."""
    task = getattr(getattr(handle, "_callback", None), "__self__", None)
    if not isinstance(task, asyncio.Task):
        return repr(handle)[:200]
    inner: Any = task.get_coro()
    names = list[str]()
    while inner is not None and len(names) < 20:
        names.append(getattr(inner, "__qualname__", ""))
        inner = getattr(inner, "cr_await", None)
    return " > ".join([name for name in names if name[:1].isupper() and "Backend" not in name][:4])


if __name__ == "__main__":
    root, file = sys.argv[1:3]
    turns = Turns(Path(file))
    loop: Any = base_events.BaseEventLoop
    handle: Any = events.Handle
    loop._run_once = turns.turn(loop._run_once)
    handle._run = turns.step(handle._run)
    sys.exit(daemon.main([root]))
