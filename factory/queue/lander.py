"""The lander: lands green candidates while the merge queue continues its passes.

Invariant: one landing at a time; during a landing, no other code uses trunk or the open steps.
"""

from collections.abc import Sequence
from datetime import datetime

from anyio.abc import TaskGroup

from factory.attempt.outcomes import Outcomes
from factory.ground.daemon_state import DaemonState, now
from factory.ground.log import LANDING_REFUSED, TRUNK_PUT_BACK, log
from factory.judging.retries import Retries
from factory.judging.trunk_judge import TrunkJudge
from factory.people import cards as words
from factory.queue.candidate import Candidate
from factory.queue.candidates import Candidates
from factory.queue.in_the_way import InTheWay
from factory.queue.judgings import Judgings
from factory.queue.landings import Landings
from factory.repo.landing_plan import Blocked, Landed, Moved, Outcome
from factory.store.records import CardKind
from factory.store.unit import Unit

Choices = Sequence[Sequence[Candidate]]


class Lander:
    """Lands candidates; `tip` is the commit of trunk at the last check or landing."""

    def __init__(
        self,
        *,
        state: DaemonState,
        landings: Landings,
        candidates: Candidates,
        judgings: Judgings,
        trunk_judge: TrunkJudge,
        outcomes: Outcomes,
    ) -> None:
        self._state = state
        self._landings = landings
        self._candidates = candidates
        self._judgings = judgings
        self._trunk_judge = trunk_judge
        self._outcomes = outcomes
        self.tip = ""
        self.units: frozenset[str] = frozenset()  # units whose landing is under way
        self.passed_over = False  # whether a pass skipped work because of a landing
        self.failed = Retries()  # units that could not be landed
        self.in_the_way = InTheWay()

    def begin(self, choices: Choices, group: TaskGroup, at: datetime) -> None:
        """Begin to land the first choice that can land."""
        if not choices:
            return
        landing = set[str]()
        for green in choices:
            landing.update(each.unit.id for each in green)
        self.units = frozenset(landing)
        group.start_soon(self._see_landed, choices, at, name="landing")

    async def _see_landed(self, choices: Choices, at: datetime) -> None:
        changed = True
        try:
            changed = await self._state.guarded("landing", self._land, choices, at) is not False
        finally:
            self.units = frozenset()
            if changed or self.passed_over:
                self._state.queue.send()

    async def _land(self, choices: Choices, at: datetime) -> bool:
        """Land units of the first choice that can land; return whether anything changed."""
        for green in choices:
            ready = self._reviewed(green, at)
            if not ready:
                return len(ready) < len(green)
            outcome = await self._move(ready, at)
            if isinstance(outcome, Blocked) and not outcome.is_open and len(ready) > 1:
                ready = ready[:1]
                outcome = await self._move(ready, at)
            if await self._record(outcome, ready, now()):
                return True
        return False

    def _reviewed(self, green: Sequence[Candidate], at: datetime) -> Sequence[Candidate]:
        """Return the leading candidates that need no further review; hold the next one."""
        for position, each in enumerate(green):
            needs_review = self._candidates.spec(each.unit).review == "required"
            if needs_review and CardKind.REVIEW not in each.unit.approved:
                attempt = self._candidates.attempt(each.unit)
                ask = words.review(each.unit, said=attempt.summary or attempt.said)
                self._outcomes.hold(each.unit, ask, at)
                return green[:position]
        return green

    async def _move(self, ready: Sequence[Candidate], at: datetime) -> Outcome:
        units = [(each.unit, each.commit) for each in ready]
        return await self._landings.land(units, parent=ready[0].parent, at=at)

    async def _record(self, outcome: Outcome, ready: Sequence[Candidate], at: datetime) -> bool:
        """Act on the outcome of the landing; return whether anything changed."""
        match outcome:
            case Landed(commit):
                self.tip = commit
                ruled = self._judgings.ruled(commit)
                await self._trunk_judge.landed(commit, ruled, parent=ready[-1].parent)
                for each in ready:
                    self._candidates.aside.pop(each.unit.id, None)
                    self.failed.forget(each.unit.id)
                self._state.wake_all()
                return True
            case Moved(tip, said):
                log.info(TRUNK_PUT_BACK if said else LANDING_REFUSED, tip=tip, said=said)
                if said:
                    self._outcomes.note(ready[0].unit, said, at)
                return bool(said) or tip != self.tip
            case Blocked():
                return self._step_aside(outcome, ready[0].unit, at)

    def _step_aside(self, blocked: Blocked, unit: Unit, at: datetime) -> bool:
        """Raise a card about a blocked landing and set its unit aside; return whether it is new."""
        if blocked.is_open or not self._landings.still_queued(unit):
            return True  # it has another card, or a person took it out of the queue
        if blocked.kind in ("failed", "refused"):  # wait before the next try
            self.failed.fail(unit.id)
        self._landings.ask(unit, blocked, at)
        first_line = blocked.reason.splitlines()[0]
        self._outcomes.note(unit, f"green, but landing is blocked: {first_line}", at)
        self.in_the_way.put(unit.id, blocked.look)
        first = unit.id not in self._candidates.aside
        self._candidates.aside[unit.id] = blocked.reason
        return first
