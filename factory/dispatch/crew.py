"""The crew: as many workers as the settings say, each with one hook.

Invariant: a run is under way for each full hook; `check` starts a missing run.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

from anyio.abc import TaskGroup

from factory.ground.log import HOOK_OVERDUE, log
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Hook

OVERDUE = timedelta(seconds=2)  # after this time, `check` wakes an idle worker with a full hook


class Runs(Protocol):
    """The part of a worker that the crew uses (worker.Worker; a scripted worker in tests)."""

    async def run(self) -> None:
        """Work on the units on the hook until the hook is gone."""
        ...

    def wake(self) -> None:
        """Look at the hook again."""
        ...

    @property
    def busy(self) -> bool:
        """Return whether a run is under way."""
        ...


class Crew:
    """The workers of this daemon, by name."""

    def __init__(self, *, store: Store, make_worker: Callable[[str], Runs]) -> None:
        self._store = store
        self._make_worker = make_worker
        self._workers: dict[str, Runs] = {}

    def resize(self, size: int, group: TaskGroup, at: datetime) -> None:
        """Change the number of workers; a busy worker finishes its unit first."""
        wanted = {f"w{number}": number for number in range(1, size + 1)}
        hooks = {hook.worker: hook for hook in self._store.select(Hook)}
        for name, number in wanted.items():
            self._join(name, number, hooks.get(name), at)
            if name not in self._workers:
                self._start(name, group)
        for hook in hooks.values():
            if hook.worker not in wanted and hook.state != "gone":
                self._shrink(hook, group, at)

    def wake(self, name: str) -> None:
        """Let the worker look at its hook."""
        self._workers[name].wake()

    def check(self, hooks: Sequence[Hook], at: datetime) -> None:
        """Wake each worker that does nothing although its hook is full."""
        for hook in hooks:
            worker = self._workers.get(hook.worker)
            if not hook.unit or hook.since is None or worker is None or worker.busy:
                continue
            if abs(at - hook.since) > OVERDUE:  # abs: somebody may set the clock back
                log.info(HOOK_OVERDUE, worker=hook.worker, unit=hook.unit)
                worker.wake()

    def _join(self, name: str, number: int, hook: Hook | None, at: datetime) -> None:
        if hook is None:
            back = Hook(worker=name, index=number, since=at, workspace=name)
        elif hook.state in ("gone", "draining"):
            back = replace(hook, state="running" if hook.unit else "idle")
        else:
            return
        self._store.write(Event.WORKER_JOINED, back, now=at, worker=name)

    def _start(self, name: str, group: TaskGroup) -> None:
        worker = self._make_worker(name)
        self._workers[name] = worker
        group.start_soon(worker.run, name=name)

    def _shrink(self, hook: Hook, group: TaskGroup, at: datetime) -> None:
        """Drain a full hook, or remove an empty one."""
        name = hook.worker
        if hook.unit and name not in self._workers:  # an earlier daemon died while it drained
            self._start(name, group)
        state = "draining" if hook.unit else "gone"
        if hook.state != state:
            left = replace(hook, state=state, since=at)
            self._store.write(Event.WORKER_LEFT, left, now=at, worker=name)
        if state == "gone" and name in self._workers:
            self._workers.pop(name).wake()
