"""Landings: write an open step to the journal, move trunk, then record the outcome.

Invariant: the step is durable before trunk moves, and `landed` is recorded only after trunk holds
the commit. A step with an unknown outcome stays open; until it is settled nothing else lands, but
other work continues.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime

import anyio
from anyio import to_thread

from factory.ground import disk
from factory.ground.daemon_state import now
from factory.ground.errors import GitError
from factory.ground.log import LANDING_REFUSED, log
from factory.judging.retries import Retries
from factory.people import cards as words
from factory.people import line_cards
from factory.people.causes import TRUNK_UNREADABLE, Ask, landing_unknown
from factory.people.escalations import Escalations
from factory.repo.access import first_unusable, me
from factory.repo.landing_plan import Blocked, Landed, LandingPlan, Moved, Outcome
from factory.repo.trunk import Trunk
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Step
from factory.store.unit import Unit, UnitState, as_landed

LANDING_SECONDS = 1800.0  # limit for the whole landing; each git command also has its own limit
TRIES = 3  # factoryd checks a running git, or an unreadable trunk, so often before a card asks
TRUNK = "trunk"
Units = Sequence[Sequence[str]]  # the units of a landing, each with its commit


class Landings:
    """Moves trunk, one landing at a time, for the merge queue."""

    def __init__(self, *, store: Store, trunk: Trunk, escalations: Escalations) -> None:
        self._store = store
        self.trunk = trunk
        self._escalations = escalations
        self.looks = Retries()  # failed checks of trunk and of open steps

    async def land(
        self, ready: Sequence[tuple[Unit, str]], *, parent: str, at: datetime
    ) -> Outcome:
        """Land units: move trunk from `parent` over their commits to the last commit.

        Returns Blocked if git refuses before it changed anything. Raises OSError or GitError if a
        disk is full.
        """
        to = ready[-1][1]
        try:
            plan = await self.trunk.plan_landing(to, now=at)
        except (GitError, OSError) as error:
            return await self._refused(error)
        if not isinstance(plan, LandingPlan):
            return plan
        if plan.base != parent:
            return Moved(plan.base)  # do not land commits that a person removed from trunk
        units = []
        for unit, commit in ready:
            if not self.still_queued(unit):
                return Moved(parent)  # a person took it out of the queue meanwhile
            units.append((unit.id, commit))
        step = Step(id=f"landing:{to}", kind="landing", data=_data(plan, units), at=at)
        # The open step is durable before trunk moves, so that the next start can find the outcome.
        self._store.write(
            Event.LANDING_OPENED, step, now=at, to=to, units=[unit for unit, _ in units]
        )
        # The shield is for a stop of the daemon: without it, trunk could move without a record
        # until the next start.
        with anyio.fail_after(LANDING_SECONDS, shield=True):
            outcome = await self._outcome(step, self.trunk.land(plan, self._started(step, units)))
            self._record(outcome, step, units)
        return outcome

    def ask(self, unit: Unit, blocked: Blocked, at: datetime) -> None:
        """Raise the card about a unit that cannot land."""
        self._escalations.raise_card(_asks(unit, blocked), now=at, unit=unit)

    def still_queued(self, unit: Unit) -> bool:
        """Return whether the unit is still in the queue with the same submission."""
        fresh = self._store.get(Unit, unit.id)
        return (
            fresh is not None
            and fresh.state is UnitState.QUEUED
            and fresh.submission == unit.submission
        )

    async def finish_open(self, at: datetime) -> bool:
        """Finish or undo each interrupted landing; return False while one is not settled.

        Each pass of the queue needs this, not only the start: if the disk is full, factoryd cannot
        record a landing, and trunk holds units that are still queued.
        """
        settled = True
        for step in self._store.open(Step):
            due = self.looks.is_due(step.id)
            settled = due and await self._recover(step, at) and settled
        return settled

    async def _recover(self, step: Step, at: datetime) -> bool:
        data = json.loads(step.data)
        units, plan = data["units"], LandingPlan.of(data["plan"])
        with anyio.fail_after(LANDING_SECONDS, shield=True):
            found = self.trunk.recover(plan, self._started(step, units), now=at)
            outcome = await self._outcome(step, found)
            if self._record(outcome, step, units):
                self.looks.forget(step.id, _running(step))
                return True
        # A running git is checked in each pass, with a separate count.
        is_running = isinstance(outcome, Blocked) and outcome.kind == "running"
        self.looks.fail(_running(step) if is_running else step.id)
        return False

    async def _outcome(self, step: Step, landing: Awaitable[Outcome]) -> Outcome:
        """Return the outcome; a refusal after git began to move trunk is of kind `unknown`."""
        try:
            return await landing
        except (GitError, OSError) as error:
            refused = await self._refused(error)
        noted = self._store.get(Step, step.id)
        began = noted is not None and LandingPlan.of(json.loads(noted.data)["plan"]).pid
        return replace(refused, kind="unknown") if began else refused

    async def refresh(
        self, at: datetime, *, first: Callable[[datetime], Awaitable[None]] | None = None
    ) -> str | None:
        """Fetch trunk and return its commit; "" if the branch is gone; None if git cannot read it.

        Runs `first` before that, and treats errors of `first` in the same way. Raises a card after
        repeated errors.
        """
        try:
            if first is not None:
                await first(at)
            tip = await self.trunk.refresh()
        except (GitError, OSError) as error:
            refused = await self._refused(error)
            if self.looks.fail(TRUNK) >= TRIES:
                asked = line_cards.trunk_unreadable(self.trunk.branch, refused.reason, refused.mend)
                self._escalations.raise_card(asked, now=at)
            return None
        self.looks.forget(TRUNK)
        self._escalations.close(TRUNK_UNREADABLE, now=at, why="trunk can be read again")
        return tip

    async def _refused(self, error: GitError | OSError) -> Blocked:
        """Return the refusal, with a known fix if there is one; reraise if a disk is full."""
        if disk.full(error):
            raise error
        log.info(LANDING_REFUSED, error=str(error))
        found = await to_thread.run_sync(first_unusable, self.trunk.common_dir, me())
        if found is None:
            return Blocked("refused", str(error))
        return Blocked(
            "refused",
            f"{error}\n{found.path} {found.trouble}.",
            look=(found.path,),
            mend=found.mend,
        )

    def _started(self, step: Step, units: Units) -> Callable[[LandingPlan], None]:
        def started(running: LandingPlan) -> None:
            noted = replace(step, data=_data(running, units))
            self._store.write(
                Event.LANDING_OPENED, noted, now=now(), to=running.to, pid=running.pid
            )

        return started

    def _record(self, outcome: Outcome, step: Step, units: Units) -> bool:
        """Record the outcome of a landing; return False if the outcome is still unknown."""
        if isinstance(outcome, Landed):
            self._record_landed(step, units)
            return True
        log.info(LANDING_REFUSED, outcome=repr(outcome))
        if isinstance(outcome, Blocked) and outcome.is_open:
            self._ask(outcome, step, units)
            return False
        # Trunk did not move, or moved back. The units are still queued and land later.
        with self._store.transaction():
            closed = replace(step, done=True)
            self._store.write(Event.LANDING_CLOSED, closed, now=now(), outcome=repr(outcome))
            self._escalations.close(landing_unknown(step.id), now=now(), why="trunk has not moved")
        return True

    def _ask(self, outcome: Blocked, step: Step, units: Units) -> None:
        """Raise a card about a landing with an unknown outcome; if git still runs, wait first."""
        if outcome.kind == "running" and self.looks.failures(_running(step)) < TRIES - 1:
            return
        for name, _ in units:
            if unit := self._store.get(Unit, name):
                asked = words.landing_unknown(units[0][0], step.id, outcome.reason, outcome.mend)
                card = self._escalations.raise_card(asked, now=now(), unit=unit)
                waits = replace(unit, why=f"waits for {card.id}: its landing was interrupted")
                if waits != unit:
                    self._store.write(Event.UNIT_QUEUED, waits, now=now(), unit=name)

    def _record_landed(self, step: Step, units: Units) -> None:
        at = now()
        with self._store.transaction():
            for name, commit in units:
                unit = self._store.get(Unit, name)
                if unit is None or unit.state is UnitState.LANDED:
                    continue
                landed = as_landed(unit, commit, now=at, landed=at)
                self._store.write(
                    Event.UNIT_LANDED,
                    landed,
                    now=at,
                    unit=name,
                    attempt=unit.attempt,
                    commit=commit,
                )
                self._escalations.leave(name, now=at, why=f"{name} has landed")
            self._store.write(
                Event.LANDING_CLOSED, replace(step, done=True), now=at, outcome="Landed"
            )


def _running(step: Step) -> str:
    return f"{step.id} running"


def _asks(unit: Unit, blocked: Blocked) -> Ask:
    if blocked.kind == "refused":
        return words.landing_refused(unit, blocked.reason, blocked.mend)
    return words.landing_blocked(unit, blocked.reason, blocked.paths)


def _data(plan: LandingPlan, units: Units) -> str:
    return json.dumps({"plan": plan.data(), "units": units})
