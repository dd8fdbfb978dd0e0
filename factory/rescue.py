"""The start-up reconcile: what a dead daemon left open is found in the world, and the records are brought up to it.

Attempts are not here: a full hook is picked up by its worker, which adopts what still runs (worker.py).
"""

import json
from dataclasses import replace
from datetime import datetime

from factory.gates import Gates
from factory.journal import Event
from factory.log import LANDING_REFUSED, log
from factory.merge_queue import MergeQueue
from factory.ports import Store
from factory.records import Attempt, Hook, Step
from factory.trunk import Landed, LandingPlan, Trunk
from factory.unit import EndReason


class Rescue:
    """Runs once, before any loop."""

    def __init__(self, *, store: Store, trunk: Trunk, gates: Gates, queue: MergeQueue) -> None:
        self._store, self._trunk, self._gates, self._queue = store, trunk, gates, queue

    async def run(self, at: datetime) -> None:
        """End what gates left running, finish or undo open landings, close attempts that no hook holds."""
        await self._gates.end_leftovers()
        for step in self._store.open(Step):
            await self._landing(step, at)
        held = {(hook.unit, hook.attempt) for hook in self._store.select(Hook) if hook.unit}
        for attempt in self._store.open(Attempt):
            if (attempt.unit, attempt.number) not in held:
                lost = replace(attempt, end=at, reason=EndReason.LOST, detail="no hook holds it")
                self._store.write(Event.ATTEMPT_ENDED, lost, now=at, unit=attempt.unit, attempt=attempt.number)

    async def _landing(self, step: Step, at: datetime) -> None:
        data = json.loads(step.data)
        plan = LandingPlan.of(data["plan"])

        def started(running: LandingPlan) -> None:
            noted = replace(step, data=json.dumps({**data, "plan": running.data()}))
            self._store.write(Event.LANDING_OPENED, noted, now=at, to=running.to, pid=running.pid)

        outcome = await self._trunk.recover(plan, started, now=at)
        if isinstance(outcome, Landed):
            self._queue.record_landed(step, [(unit, commit) for unit, commit in data["units"]])
            return
        log.info(LANDING_REFUSED, outcome=repr(outcome), at_start=True)
        # Nothing moved, or it was taken back: the units are queued still, and land in their turn.
        self._store.write(Event.LANDING_CLOSED, replace(step, done=True), now=at, outcome=type(outcome).__name__)
