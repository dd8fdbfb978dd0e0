"""Landings: an open step in the journal, trunk moved, what became of it written down.

Invariant: the step is durable before anything moves, and `landed` is recorded after trunk was seen to hold the commit.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

import anyio

from factory.escalations import Escalations
from factory.journal import Event
from factory.live import now
from factory.log import LANDING_REFUSED, log
from factory.ports import Store
from factory.records import Step
from factory.trunk import Blocked, Landed, LandingPlan, Moved, Outcome, Trunk
from factory.unit import Unit, UnitState

LANDING_SECONDS = 600.0  # git is never broken off; this bounds what comes around it


class Landings:
    """Moves trunk, one landing at a time, for the merge queue."""

    def __init__(self, *, store: Store, trunk: Trunk, escalations: Escalations) -> None:
        self._store, self.trunk, self._escalations = store, trunk, escalations

    async def land(self, ready: Sequence[tuple[Unit, str]], *, parent: str, at: datetime) -> Outcome:
        """Land units, each with its commit, the first of them on `parent`; the last commit is where trunk goes."""
        to = ready[-1][1]
        plan = await self.trunk.plan_landing(to, now=at)
        if not isinstance(plan, LandingPlan):
            return plan
        if plan.base != parent:  # a person took commits back meanwhile: they are not brought back by the way
            return Moved(plan.base)
        if not all(self.still_queued(unit) for unit, _ in ready):  # a person took one back while we looked
            return Moved(parent)
        units = [(unit.id, commit) for unit, commit in ready]
        step = Step(id=f"landing:{to}", kind="landing", data=_data(plan, units), at=at)
        # The open step is durable before anything moves: the start-up reconcile finds out what became of it.
        self._store.write(Event.LANDING_OPENED, step, now=at, to=to, units=[unit for unit, _ in units])
        # A stop in between would leave trunk moved and nothing on record until the next start.
        with anyio.fail_after(LANDING_SECONDS, shield=True):
            outcome = await self.trunk.land(plan, self._started(step, units))
            self._record(outcome, step, units)
        return outcome

    def still_queued(self, unit: Unit) -> bool:
        """Whether the unit stands in the queue with the same submission."""
        fresh = self._store.get(Unit, unit.id)
        return fresh is not None and fresh.state is UnitState.QUEUED and fresh.submission == unit.submission

    async def finish_open(self, at: datetime) -> bool:
        """Finish, or undo, each landing that was broken off; False while what becomes of one cannot be said.

        Not at the start alone: where its record failed (disk full), trunk holds units that are queued still.
        """
        return all([await self._recover(step, at) for step in self._store.open(Step)])

    async def _recover(self, step: Step, at: datetime) -> bool:
        data = json.loads(step.data)
        with anyio.fail_after(LANDING_SECONDS, shield=True):
            started = self._started(step, data["units"])
            outcome = await self.trunk.recover(LandingPlan.of(data["plan"]), started, now=at)
            return self._record(outcome, step, data["units"])

    def _started(self, step: Step, units: Sequence[Sequence[str]]) -> Callable[[LandingPlan], None]:
        def started(running: LandingPlan) -> None:
            noted = replace(step, data=_data(running, units))
            self._store.write(Event.LANDING_OPENED, noted, now=now(), to=running.to, pid=running.pid)

        return started

    def _record(self, outcome: Outcome, step: Step, units: Sequence[Sequence[str]]) -> bool:
        """Write down what became of a landing; False where that is still to be found out."""
        if isinstance(outcome, Landed):
            self._record_landed(step, units)
            return True
        log.info(LANDING_REFUSED, outcome=repr(outcome))
        if isinstance(outcome, Blocked) and outcome.kind == "running":
            return False
        # Nothing moved, or it was taken back: the units are queued still, and land in their turn.
        self._store.write(Event.LANDING_CLOSED, replace(step, done=True), now=now(), outcome=repr(outcome))
        return True

    def _record_landed(self, step: Step, units: Sequence[Sequence[str]]) -> None:
        at = now()
        with self._store.transaction():
            for name, commit in units:
                unit = self._store.get(Unit, name)
                if unit is None or unit.state is UnitState.LANDED:
                    continue
                # Not through the table: trunk holds the commit, and no state of the record can undo that.
                landed = replace(unit, state=UnitState.LANDED, since=at, why="", commit=commit, landed=at, cause="")
                self._store.write(Event.UNIT_LANDED, landed, now=at, unit=name, attempt=unit.attempt, commit=commit)
                self._escalations.leave(name, now=at, why=f"{name} has landed")
            self._store.write(Event.LANDING_CLOSED, replace(step, done=True), now=at, outcome="Landed")


def _data(plan: LandingPlan, units: Sequence[Sequence[str]]) -> str:
    return json.dumps({"plan": plan.data(), "units": units})
