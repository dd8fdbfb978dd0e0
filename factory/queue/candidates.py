"""Turns queued units into candidates: checks them against the rules, and rehearses them as a chain.

Invariant: an error in a step of one unit stops no other unit.
"""

from collections import deque
from collections.abc import Awaitable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import TypeVar

import anyio

from factory.attempt.outcomes import Outcomes, Refusal
from factory.dispatch.contested import Behind
from factory.ground.daemon_state import DaemonState
from factory.ground.errors import GitError
from factory.ground.log import TICK_BROKE, log
from factory.ground.reserved import PERSON
from factory.inference.rules import Rules
from factory.judging.guards import AGENTS, GATES
from factory.judging.retries import sentence_of, trace_of
from factory.people import cards as words
from factory.people.clashes import clashes_of, conflicting
from factory.queue.candidate import Candidate
from factory.queue.change import Facts, facts_of
from factory.queue.judgings import Judgings
from factory.queue.setbacks import Setbacks
from factory.queue.turns import Turns
from factory.repo.branch import AGENT_EMAIL
from factory.repo.git import Person
from factory.repo.meanwhile import OnTrunk
from factory.repo.message import AGENT, ATTEMPT, RUN, UNIT, compose
from factory.repo.trunk import Conflict, Nothing, Rehearsed, Trunk
from factory.store.accepted import NoMarkdown, NoSpec, body_of, spec_of
from factory.store.ports import Store
from factory.store.records import Attempt, CardKind
from factory.store.spec import Spec
from factory.store.unit import EndReason, Unit

T = TypeVar("T")
Check = tuple[str, str, str, Rules, frozenset[tuple[str, str]]]

CHECKS_KEPT = 8  # for each unit: the submitted change, and the merged change in some places


class Candidates:
    """Queued units, as they would land."""

    def __init__(
        self,
        *,
        store: Store,
        state: DaemonState,
        trunk: Trunk,
        judgings: Judgings,
        outcomes: Outcomes,
        setbacks: Setbacks,
    ) -> None:
        self.aside: dict[str, str] = {}  # units outside of the chain, each with the reason
        # units that wait for an attempt at the same path
        self.behind: Mapping[str, Behind] = {}
        self._store = store
        self._state = state
        self.trunk = trunk
        self._judgings = judgings
        self._outcomes = outcomes
        self._setbacks = setbacks
        self._turns = Turns(store=store, state=state, own=trunk.own)
        self._rulings = judgings.rulings
        self._specs: dict[str, Spec] = {}  # specs of queued units, which do not change
        # changes that break no current rule, the newest ones of each queued unit
        self._checked: dict[str, deque[Check]] = {}
        # base and submission of each unit in the last pass
        self._compared: set[tuple[str, str]] = set()
        self._rehearsals: dict[tuple[str, str], Rehearsed | Conflict | Nothing] = {}

    def keep(self, units: Collection[str]) -> None:
        """Forget all units except these."""
        for name in self.aside.keys() - units:
            del self.aside[name]
        for name in self._specs.keys() - units:
            del self._specs[name]
        for name in self._checked.keys() - units:
            del self._checked[name]

    def forget_rehearsals(self) -> None:
        """Forget all rehearsals, because trunk moved."""
        self._rehearsals.clear()

    async def forget_missing(self) -> None:
        """Forget rehearsals whose commits somebody removed from the factory repository.

        No ref holds a rehearsed commit, so `git gc` by hand removes it.
        """
        made = set[str]()
        for rehearsed in self._rehearsals.values():
            if isinstance(rehearsed, Rehearsed):
                made.add(rehearsed.commit)
        missing = await self.trunk.own.missing(made)
        for key, rehearsed in list(self._rehearsals.items()):
            if isinstance(rehearsed, Rehearsed) and rehearsed.commit in missing:
                del self._rehearsals[key]

    def spec(self, unit: Unit) -> Spec:
        """Return what the task of a queued unit asks for; raise NoSpec if that is unknown."""
        if unit.id not in self._specs:
            self._specs[unit.id] = spec_of(self._store, unit.id)
        return self._specs[unit.id]

    def attempt(self, unit: Unit) -> Attempt:
        """Return the attempt that submitted the unit."""
        found = self._store.get(Attempt, unit.id, unit.attempt)
        assert found is not None, f"no attempt submitted {unit.id}"
        return found

    async def compare(self, units: Sequence[Unit]) -> None:
        """Compare all new submissions with their bases concurrently."""
        async with anyio.create_task_group() as together:
            for unit in units:
                if (unit.base, unit.submission) not in self._compared:
                    together.start_soon(self._compare, unit)
        self._compared = {(unit.base, unit.submission) for unit in units}

    async def admitted(self, units: Sequence[Unit], tip: str, at: datetime) -> list[Unit]:
        """Return the units whose submitted change breaks no rule."""
        found = []
        for unit in units:
            step = self._admit(unit, unit.base, unit.submission, tip, at)
            if await self._tried(unit, step, at):
                found.append(unit)
        return found

    async def in_turn(self, units: Sequence[Unit], tip: str, at: datetime) -> list[Unit]:
        """Return the units without those that wait for an attempt at the same path."""
        self.behind = await self._turns.waiting(units, tip, at)
        for unit in units:
            if unit.id in self.behind:
                # If it already conflicts with trunk, it goes back now.
                await self.chain([unit], tip, at)
        return [unit for unit in units if unit.id not in self.behind]

    async def chain(self, units: Sequence[Unit], tip: str, at: datetime) -> list[Candidate]:
        """Rehearse the units on top of each other; return the candidates.

        A unit that conflicts with trunk goes back; a unit that conflicts with others waits.
        """
        links: list[Candidate] = []
        for unit in units:
            if links and self._may_change_rules(links[-1].unit):
                break  # changed rules must land before they can judge or guard another unit
            parent = links[-1].commit if links else tip
            rehearsed = await self._tried(unit, self.rehearse(unit, parent), at)
            if isinstance(rehearsed, Rehearsed):
                # Check the merged change too, because the merge may move it to paths that trunk
                # renamed.
                step = self._admit(unit, parent, rehearsed.commit, tip, at)
                if await self._tried(unit, step, at):
                    links.append(self._candidate(unit, parent, rehearsed))
            elif rehearsed is not None and not links:
                await self._refuse(unit, rehearsed, tip, at)
        return links

    def _candidate(self, unit: Unit, parent: str, rehearsed: Rehearsed) -> Candidate:
        return Candidate(
            unit=unit,
            parent=parent,
            commit=rehearsed.commit,
            tree=rehearsed.tree,
            standing=self._judgings.standing(unit, rehearsed.commit),
        )

    async def _compare(self, unit: Unit) -> None:
        with suppress(GitError):  # the next caller gets the same error and handles it
            await self.trunk.own.changed(unit.base, unit.submission)

    async def _tried(self, unit: Unit, step: Awaitable[T], at: datetime) -> T | None:
        """Return the result of a step for one unit; None if the step failed and will run again."""
        try:
            return await step
        except (GitError, NoSpec) as error:
            if self._state.is_full(error):
                raise  # a full disk is not a problem of this unit
            log.exception(TICK_BROKE, loop="queue", unit=unit.id)
            self.aside.pop(unit.id, None)
            said = sentence_of(error)
            ask = words.unjudged(unit.id, said, unit=unit, evidence=trace_of(error))
            if isinstance(error, NoSpec):
                ask = words.unreadable(unit, str(error))
            self._setbacks.later(unit, str(error), ask, at)
            await self.forget_missing()
            return None

    async def _admit(self, unit: Unit, before: str, after: str, tip: str, at: datetime) -> bool:
        """Return whether the change breaks no rule; if it breaks one, refuse the unit."""
        ruling = await self._rulings.of(tip)
        own = await self._rulings.of(unit.base)
        spec = self.spec(unit)
        rules = ruling.rules
        reached = {**own.reached, **ruling.reached}
        key = (before, after, ",".join(unit.approved), rules, frozenset(reached.items()))
        checked = self._checked.setdefault(unit.id, deque(maxlen=CHECKS_KEPT))
        if key in checked:
            return True
        change = await facts_of(self.trunk.own, before, after, ruling.conventions.folder)
        change = await change.compared(self.trunk.own, (rules, own.rules))
        passed = CardKind.GUARD in unit.approved
        refuse = partial(
            Facts.refused,
            # Trunk's current rules count too: they may have a newer gate that runs these files.
            rules=(rules, own.rules),
            allow=(*spec.allow, GATES, AGENTS) if passed else spec.allow,
            scope=() if CardKind.OUT_OF_SCOPE in unit.approved else spec.scope,
            reached=reached,
            theirs=ruling.layout.theirs,
            passed=passed,
        )
        refused = await refuse(change)
        if (
            refused is None
            and change.is_let_through
            and not await self._infers_alike(before, after)
        ):
            refused = await refuse(change.inferring)
        if refused is None:
            checked.append(key)
            return True
        stops = bool(change.larger and (await self._rulings.of(after)).unread)
        ask = words.guard(
            unit,
            CardKind(refused.kind),
            refused.sentence,
            refused.evidence or refused.paths,
            liftable=refused.liftable,
            stops=stops,
        )
        self._outcomes.send_back(unit, Refusal(refused.kind, refused.sentence, ask=ask), at)
        return False

    async def _infers_alike(self, before: str, after: str) -> bool:
        """Whether the same gates and the same setup are read from both commits.

        Even a requirement can add a gate: if a project starts to require pytest, pytest judges.
        """
        old = (await self._rulings.of(before, advisory=True)).rules
        new = (await self._rulings.of(after, advisory=True)).rules
        gates = [gate.digest for gate in old.gates]
        return gates == [gate.digest for gate in new.gates] and old.setup.digest == new.setup.digest

    def _may_change_rules(self, unit: Unit) -> bool:
        return CardKind.GUARD in unit.approved or GATES in self.spec(unit).allow

    async def rehearse(self, unit: Unit, parent: str) -> Rehearsed | Conflict | Nothing:
        """Merge the unit's change onto a commit of trunk or of the chain."""
        key = (parent, unit.submission)
        if key not in self._rehearsals:
            attempt = self.attempt(unit)
            self._rehearsals[key] = await self.trunk.rehearse(
                base=parent,
                submission=unit.submission,
                submission_base=unit.base,
                text=self._message(unit, attempt),
                author=await self._author(attempt),
            )
        return self._rehearsals[key]

    async def _author(self, attempt: Attempt) -> Person:
        """Return the author of the commit that lands: the agent, or who committed the work."""
        if attempt.agent == PERSON:
            return await self.trunk.own.author(attempt.commit)
        return Person(attempt.agent, AGENT_EMAIL)

    def _message(self, unit: Unit, attempt: Attempt) -> str:
        asked = self.spec(unit).title
        with suppress(NoMarkdown):  # the text is gone: the summary counts less
            asked = f"{asked}\n{body_of(self._store, unit.id)}"
        trailers = {
            UNIT: unit.id,
            ATTEMPT: str(unit.attempt),
            AGENT: attempt.agent,
            RUN: attempt.nonce,
        }
        return compose(attempt.summary, title=unit.title, trailers=trailers, task=asked)

    async def _refuse(self, unit: Unit, why: Conflict | Nothing, tip: str, at: datetime) -> None:
        if isinstance(why, Nothing):
            detail = "trunk already has this change: merged onto the newest trunk, it is empty"
            self._outcomes.send_back(unit, Refusal(EndReason.EMPTY, detail), at)
            return
        changers = list[OnTrunk]()
        with suppress(GitError):  # the names only help
            changers = await self.trunk.changers(unit.base, tip, unit.submission, why.paths)
        clashes = clashes_of(self._store, changers)
        detail = f"conflicts with {conflicting(clashes)} in {', '.join(why.paths[:5])}"
        contest = await self._turns.contest(unit, why.paths)
        refusal = Refusal(EndReason.CONFLICT, detail, contest=contest, clashes=clashes)
        self._outcomes.send_back(unit, refusal, at)
