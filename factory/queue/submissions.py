"""Submissions: commits that a person made become the work of a unit, which the merge queue lands.

Invariant: the factory repository keeps the work before a record names it. The work of a request
has an id and a nonce of its own, so a request that is carried out twice makes one unit.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from factory.attempt.outcomes import Outcomes
from factory.ground.errors import FactoryError, GitError, RefusedByState, StoreError
from factory.ground.reserved import PERSON
from factory.people.escalations import Escalations, landing_units
from factory.repo import elsewhere
from factory.repo.elsewhere import Work
from factory.repo.message import printable
from factory.repo.trunk import Trunk
from factory.store.fact_values import value_of
from factory.store.identity import UNKNOWN, recorded
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Attempt, Fact, Request
from factory.store.task_file import MAX_TITLE, free_id, slug
from factory.store.unit import FINAL, EndReason, Unit, UnitState, advance

KIND = "submit"
_COMMIT = re.compile("[0-9a-f]{40}([0-9a-f]{24})?")
PEOPLE = "submitters"  # the fact with the mail addresses of all authors of submitted work


class Hang(Protocol):
    """Makes a unit from a file name and a text. `unit` is the id that it gets."""

    def __call__(self, name: str, text: str, now: datetime, *, unit: str) -> str:
        """Return the id of the new unit."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """Work that the factory repository keeps, for one attempt of a unit."""

    unit: str
    number: int
    nonce: str
    work: Work
    commit: str


class Submissions:
    """The work of `factory submit`. `is_taken` returns whether an id is not free for a new unit."""

    def __init__(
        self,
        *,
        store: Store,
        trunk: Trunk,
        outcomes: Outcomes,
        escalations: Escalations,
        hang: Hang,
        is_taken: Callable[[str], bool],
    ) -> None:
        self._store = store
        self._trunk = trunk
        self._outcomes = outcomes
        self._escalations = escalations
        self._hang = hang
        self._is_taken = is_taken
        self._ready: dict[int, Ready | FactoryError] = {}
        trunk.people.update(value_of(store, PEOPLE, []))

    async def prepare(self) -> None:
        """Bring the work of each pending request into the factory repository."""
        for request in self._store.open(Request):
            if self.is_ready(request):
                continue
            try:
                self._ready[request.id] = await self._prepared(request)
            except (RefusedByState, GitError, LookupError, ValueError) as error:
                self._ready[request.id] = _refusal(error)

    def is_ready(self, request: Request) -> bool:
        """Whether the request can be carried out now; requests of other kinds always can."""
        return request.kind != KIND or request.id in self._ready

    def submit(self, request: Request, at: datetime) -> str:
        """Put the work of a request into the queue; return a sentence. Raises RefusedByState."""
        ready = self._ready.pop(request.id)
        if isinstance(ready, FactoryError):
            raise ready
        work = ready.work
        self._remember(work.author.email, at)
        unit = self._unit(ready, at)
        begun = replace(
            unit,
            attempt=ready.number,
            agent=PERSON,
            cause="",
            not_before=None,
            resume=False,
            fresh=False,
        )
        attempt = Attempt(
            unit=unit.id,
            number=ready.number,
            worker="",
            agent=PERSON,
            start=at,
            nonce=ready.nonce,
            base=work.base,
            summary=work.message,
            ref=elsewhere.ref_of(unit.id, ready.number),
            commit=ready.commit,
            tree=work.tree,
        )
        running = _running(begun, at)
        commits = "1 commit" if work.commits == 1 else f"{work.commits} commits"
        self._store.write(
            Event.UNIT_SUBMITTED,
            running,
            attempt,
            now=at,
            unit=unit.id,
            attempt=ready.number,
            why=commits,
        )
        self._outcomes.finish(replace(attempt, end=at, reason=EndReason.SUBMITTED), at=at)
        return f"{unit.id}: {commits} submitted; factoryd judges and lands the change as one commit"

    async def _prepared(self, request: Request) -> Ready:
        args: dict[str, Any] = json.loads(request.args)
        commit = str(args["commit"])
        if not _COMMIT.fullmatch(commit):
            raise RefusedByState(f"{commit[:100]!r} is not the id of a commit.")
        work = await elsewhere.work_in(self._trunk, commit, title=str(args.get("title", "")))
        known = recorded(self._store)
        nonce = f"{known.id if known else UNKNOWN}-{request.id:08x}"
        unit, number = self._place(str(args.get("name", "")) or work.subject, work.subject)
        own = self._trunk.own
        kept = await elsewhere.keep(own, work, unit=unit, number=number, nonce=nonce)
        return Ready(unit=unit, number=number, nonce=nonce, work=work, commit=kept)

    def _place(self, name: str, title: str) -> tuple[str, int]:
        """Return the unit and the number of the attempt that the work becomes.

        If an open unit has the name and was submitted too, the new work replaces its work.
        """
        known = self._store.get(Unit, slug(name))
        if known is None or known.state in FINAL or not self._was_submitted(known):
            return free_id(slug(name), self._is_taken, title=title), 1
        numbers = [attempt.number for attempt in self._store.select(Attempt, unit=known.id)]
        return known.id, 1 + max(known.attempt, *numbers, 0)

    def _was_submitted(self, unit: Unit) -> bool:
        if unit.agent == PERSON:
            return True
        attempts = self._store.select(Attempt, unit=unit.id)
        return any(attempt.agent == PERSON for attempt in attempts)

    def _unit(self, ready: Ready, at: datetime) -> Unit:
        """Return the new unit, or the open unit that gets new work. Raises RefusedByState."""
        unit = self._store.get(Unit, ready.unit)
        if unit is None:
            self._hang(f"{ready.unit}.md", _task(ready.work), at, unit=ready.unit)
            unit = self._store.get(Unit, ready.unit)
            assert unit is not None, "it was made just now"
            return unit
        if unit.state in FINAL:
            raise RefusedByState(f"{unit.id} is {unit.state} since a moment ago: submit again.")
        if unit.state is UnitState.RUNNING:
            raise RefusedByState(
                f"An agent works on {unit.id} now. To replace its work: "
                f"factory cancel {unit.id}, then submit again."
            )
        if unit.id in landing_units(self._store):
            raise RefusedByState(f"{unit.id} is landing at this moment: submit again after that.")
        self._replace(unit, at)
        return unit

    def _replace(self, unit: Unit, at: datetime) -> None:
        """Close the cards of a unit, and end its earlier submission, because new work came."""
        self._escalations.leave(unit.id, now=at, why=f"{unit.id} was submitted again")
        last = self._store.get(Attempt, unit.id, unit.attempt)
        if last is not None and last.reason is EndReason.SUBMITTED:
            ended = replace(
                last, reason=EndReason.CANCELLED, detail="a later submission replaced it"
            )
            self._store.write(Event.ATTEMPT_NOTED, ended, now=at, unit=unit.id, attempt=last.number)

    def _remember(self, email: str, at: datetime) -> None:
        """Record an author, so that a later start recognizes the commit on trunk."""
        if email in self._trunk.people:
            return
        self._trunk.people.add(email)
        value = json.dumps(sorted(self._trunk.people), ensure_ascii=False)
        self._store.write(Event.FACT_CHANGED, Fact(name=PEOPLE, value=value), now=at)


def _running(unit: Unit, at: datetime) -> Unit:
    """Return the unit as if a worker had just made its work."""
    if unit.state is not UnitState.READY:
        unit = advance(unit, UnitState.READY, now=at)
    return advance(unit, UnitState.RUNNING, now=at, why="work was submitted")


def _task(work: Work) -> str:
    """Return the task file of a unit whose work was made elsewhere."""
    title = " ".join(printable(work.subject).split())[:MAX_TITLE] or "Submitted work"
    head = f"---\ntitle: {json.dumps(title, ensure_ascii=False)}\nagent: {PERSON}\n---\n"
    return f"{head}A person committed this work, with this message:\n\n{work.message}\n"


def _refusal(error: Exception) -> FactoryError:
    if isinstance(error, RefusedByState | StoreError):
        return error
    return RefusedByState(f"git could not read the commits; nothing was submitted: {error}")
