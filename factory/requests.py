"""Carries out the requests of commands; the effect and the outcome of each are one transaction.

Invariant: each request is done or refused exactly once, in the order of the requests.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from factory.attempt.outcomes import Outcomes
from factory.dispatch.pauses import lift
from factory.ground.daemon_state import DaemonState
from factory.ground.errors import FactoryError, NotYet, RefusedByState, StoreError, UsageError
from factory.ground.reserved import NO_AGENT, PERSON
from factory.ground.times import stamp
from factory.people.effects import taken_over
from factory.people.escalations import Escalations, landing_units
from factory.queue.submissions import KIND, Submissions
from factory.store.fact_values import value_of
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Attempt, Card, CardKind, Fact, Request, Task
from factory.store.spec import Spec
from factory.store.states import PRIORITIES
from factory.store.unit import FINAL, Unit, UnitState, advance

AT_ONCE = 50  # requests in one turn of the event loop


class Requests:
    """The requests that commands wrote into the store."""

    def __init__(
        self,
        *,
        store: Store,
        state: DaemonState,
        escalations: Escalations,
        outcomes: Outcomes,
        submissions: Submissions,
        hang: Callable[[str, str, datetime], str],
    ) -> None:
        """Take `hang`, which makes a unit from a file name and a text and returns its id."""
        self._store = store
        self._state = state
        self._escalations = escalations
        self._outcomes = outcomes
        self._submissions = submissions
        self._hang = hang
        self._do = {
            "answer": self._answer,
            "tell": self._tell,
            "retry": self._retry,
            "cancel": self._cancel,
            "priority": self._priority,
            "pause": self._pause,
            "resume": self._resume,
        }

    def tick(self, at: datetime) -> int:
        """Carry out the first pending requests; return their number.

        If there are very many, the next pass does the others, so that no turn of the event loop
        takes long. Raises StoreError if the store fails; the requests then stay pending.
        """
        pending = self._store.open(Request)[:AT_ONCE]
        paused = self._state.paused
        for request in pending:
            if not self._submissions.is_ready(request):
                break  # its commits are fetched first; later requests wait, to keep the order
            try:
                with self._store.transaction():
                    outcome = self._act(request, at)
                    self._close(request, "done", outcome, at)
                paused = self._state.paused
            except StoreError:
                self._state.paused = paused
                raise
            except FactoryError as error:  # first roll back, then refuse the request
                self._close(request, "refused", str(error), at)
        if pending:
            self._state.wake_all()
        return len(pending)

    async def prepare(self) -> None:
        """Fetch the commits that requests submit, before `tick` records them."""
        await self._submissions.prepare()

    def _act(self, request: Request, at: datetime) -> str:
        if request.kind == KIND:
            return self._submissions.submit(request, at)
        do = self._do.get(request.kind)
        if do is None:
            raise NotYet(f"this daemon is older than the command {request.kind}: restart it")
        try:
            return do(dict(json.loads(request.args)), at)
        except (KeyError, TypeError, ValueError) as error:
            # A request that fails must not block later requests.
            asked = f"{request.kind} {request.args[:200]}"
            raise UsageError(f"{asked} was not understood: {error!r}") from error

    def _close(self, request: Request, state: str, outcome: str, at: datetime) -> None:
        closed = replace(request, state=state, outcome=outcome)
        self._store.write(
            Event.REQUEST_DONE,
            closed,
            now=at,
            request=request.id,
            kind=request.kind,
            outcome=outcome,
        )

    def _answer(self, args: dict[str, Any], at: datetime) -> str:
        choice = str(args.get("option") or args.get("text") or "")
        return self._escalations.answer(str(args["card"]), choice, now=at)

    def _tell(self, args: dict[str, Any], at: datetime) -> str:
        unit = self._open_unit(args)
        if unit.agent == NO_AGENT:
            raise RefusedByState(
                f"{unit.id} is a shell command (run:): no agent reads your message."
            )
        if unit.agent == PERSON:
            raise RefusedByState(
                f"{unit.id} was submitted: no agent reads your message. "
                "Change the branch and submit it again."
            )
        if unit.id in landing_units(self._store):
            raise RefusedByState(
                f"{unit.id} is landing at this moment, so no agent reads your message. "
                "Add a new task for what is left to do."
            )
        self._escalations.remark(unit.id, "tell", str(args["text"]), now=at)
        if unit.state is UnitState.QUEUED or (unit.state is UnitState.WAITING and unit.submission):
            self._outcomes.tell(unit, at=at)
            return f"{unit.id}: taken out of the queue; its agent first works on your message"
        if unit.state is UnitState.RUNNING:
            return f"{unit.id}: its agent reads this before its work is submitted"
        next_attempt = f"{unit.id}: its next attempt reads this"
        if unit.state is UnitState.HELD:
            return f"{next_attempt}. If your answer lets it land unchanged, no agent reads this"
        return next_attempt

    def _retry(self, args: dict[str, Any], at: datetime) -> str:
        over = self._store.get(Unit, str(args["unit"]))
        if over is not None and self._may_begin_anew(over):
            return self._begin_anew(over, at)
        unit = self._open_unit(args)
        if unit.state in (UnitState.RUNNING, UnitState.QUEUED):
            raise RefusedByState(f"{unit.id} is {unit.state}: it is being worked on already")
        for card in self._store.open(Card):
            if card.kind is CardKind.BUDGET and unit.id in card.units:
                raise RefusedByState(
                    f"{unit.id} waits for budget, which a retry cannot add: answer {card.id}"
                )
        bonus = max(unit.spent, unit.bonus)
        again = replace(
            unit,
            bonus=bonus,
            submission="",
            cause="",
            not_before=None,
            agent=taken_over(unit.agent),
        )
        if unit.state is not UnitState.READY:
            again = advance(again, UnitState.READY, now=at, why="retried by hand")
        self._store.write(Event.UNIT_RETRIED, again, now=at, unit=unit.id)
        if last := self._store.get(Attempt, unit.id, unit.attempt):
            lift(self._store, last.agent, at)
        self._escalations.leave(unit.id, now=at, why=f"{unit.id} was retried by hand")
        return f"{unit.id} is tried again"

    def _may_begin_anew(self, unit: Unit) -> bool:
        """Return whether the unit was cancelled, or landed in a commit that trunk has lost."""
        if unit.state is UnitState.CANCELLED:
            return True
        missing = value_of(self._store, "trunk", {}).get("missing", [])
        return unit.state is UnitState.LANDED and unit.id in missing

    def _begin_anew(self, over: Unit, at: datetime) -> str:
        spec = self._store.get(Spec, over.id)
        task = self._store.get(Task, over.id)
        if spec is None or task is None or not task.text:
            raise RefusedByState(
                f"The task file of {over.id} is not on record any more: drop it again."
            )
        fresh = self._hang(spec.name, task.text, at)
        return f"{over.id} is {over.state}; a new unit of the same text: {fresh}"

    def _cancel(self, args: dict[str, Any], at: datetime) -> str:
        unit = self._open_unit(args)
        if unit.id in landing_units(self._store):
            raise RefusedByState(
                f"{unit.id} is landing at this moment: it cannot be cancelled any more"
            )
        was = unit.state
        cancelled = advance(unit, UnitState.CANCELLED, now=at, why="cancelled by hand")
        self._store.write(Event.UNIT_CANCELLED, cancelled, now=at, unit=unit.id)
        self._escalations.leave(unit.id, now=at, why=f"{unit.id} was cancelled")
        if was is UnitState.RUNNING:
            return f"{unit.id} is cancelled; factoryd ends its agent and keeps its work"
        return f"{unit.id} is cancelled"

    def _priority(self, args: dict[str, Any], at: datetime) -> str:
        unit = self._open_unit(args)
        number = int(args["priority"])
        if unit.attempt:
            raise RefusedByState(
                f"The first attempt of {unit.id} has begun, so its priority stays {unit.priority}."
            )
        if number not in PRIORITIES:
            raise UsageError(f"There is no priority {number}.")
        changed = replace(unit, priority=number)
        self._store.write(
            Event.UNIT_PRIORITIZED,
            changed,
            now=at,
            unit=unit.id,
            was=str(unit.priority),
            priority=number,
        )
        return f"{unit.id} has priority {number} now"

    def _pause(self, _: dict[str, Any], at: datetime) -> str:
        if self._state.paused:
            raise RefusedByState("The line is paused already.")
        self._state.paused = True
        fact = Fact(name="paused", value=json.dumps({"by": "you", "since": stamp(at)}))
        self._store.write(Event.LINE_PAUSED, fact, now=at)
        return "paused: nothing new starts; running attempts continue, and green units land"

    def _resume(self, _: dict[str, Any], at: datetime) -> str:
        if not self._state.paused:
            raise RefusedByState("The line is not paused.")
        self._state.paused = False
        self._store.write(Event.LINE_RESUMED, Fact(name="paused", value="null"), now=at)
        return "resumed"

    def _open_unit(self, args: dict[str, Any]) -> Unit:
        name = str(args["unit"])
        unit = self._store.get(Unit, name)
        if unit is None:
            raise RefusedByState(f"There is no unit {name}.")
        if unit.state in FINAL:
            raise RefusedByState(f"{name} is {unit.state}: nothing more happens to it.")
        return unit
