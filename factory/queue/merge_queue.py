"""The merge queue: candidates are checked, rehearsed as a chain, judged on benches, and landed in order.

Invariant: trunk moves only to a commit whose exact tree was judged green by the gates of the commit below it, or which
a person let pass.
"""

import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import anyio
from anyio.abc import TaskGroup

from factory.attempt.outcomes import Outcomes
from factory.ground.daemon_state import DaemonState, Stopping, now
from factory.ground.errors import GitError
from factory.ground.log import LANDING_REFUSED, TICK_BROKE, TRUNK_PUT_BACK, log
from factory.inference.rules import Rules
from factory.judging.guards import AGENTS, GATES
from factory.judging.retries import Retries
from factory.judging.ruled import Ruled
from factory.judging.trunk_judge import TrunkJudge
from factory.people import cards as words
from factory.people import line_cards
from factory.people.causes import TRUNK_GONE, UNCONFINED
from factory.people.escalations import Escalations
from factory.queue import chain
from factory.queue.candidate import Candidate
from factory.queue.chain import Link, Standing
from factory.queue.change import facts_of
from factory.queue.in_the_way import InTheWay, Look
from factory.queue.landings import Landings, asks
from factory.queue.setbacks import Setbacks
from factory.queue.trunk_watch import TrunkWatch
from factory.repo.branch import AGENT_EMAIL
from factory.repo.git import Person
from factory.repo.landing_plan import Blocked, Landed, Moved, Outcome
from factory.repo.message import AGENT, ATTEMPT, RUN, UNIT, compose
from factory.repo.trunk import Conflict, Nothing, Rehearsed
from factory.store.accepted import NoMarkdown, NoSpec, body_of, spec_of
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Attempt, CardKind, Fact
from factory.store.spec import Spec
from factory.store.unit import EndReason, Unit, UnitState

TICK_SECONDS = 30.0
LOOK_SECONDS = 1.0  # how often files that block a landing are looked at

T = TypeVar("T")


class MergeQueue:
    """One lane: nothing else moves trunk."""

    def __init__(
        self,
        *,
        store: Store,
        state: DaemonState,
        landings: Landings,
        trunk_judge: TrunkJudge,
        escalations: Escalations,
        outcomes: Outcomes,
    ) -> None:
        self._store, self._state, self.landings, self._trunk = (
            store,
            state,
            landings,
            landings.trunk,
        )
        self._trunk_judge = trunk_judge
        self._judge = trunk_judge.judge
        self._escalations = escalations
        self._outcomes = outcomes
        self.watch = TrunkWatch(store=store, trunk=landings.trunk, escalations=escalations)
        self._tip = ""
        self._specs: dict[str, Spec] = {}  # of those that are queued: nobody writes them anew
        self._checked: set[tuple[str, str, str, Rules, frozenset[tuple[str, str]]]] = (
            set()
        )  # changes that break no rule, as things stand
        self._compared = set[
            tuple[str, str]
        ]()  # base and submission of those that were queued at the last pass
        self._rehearsals: dict[tuple[str, str], Rehearsed | Conflict | Nothing] = {}
        self._ruled: dict[str, Ruled] = {}
        self._running: dict[str, anyio.CancelScope] = {}
        self._aside: dict[str, str] = {}  # unit → why it is judged and landed apart from the chain
        self._failed = Retries()  # units that could not be landed
        self._setbacks = Setbacks(store=store, state=state, outcomes=outcomes)
        self._landing = frozenset[
            str
        ]()  # units whose landing is under way: trunk and open steps are its business
        self._passed_over = False  # something was left alone meanwhile
        self._in_the_way = InTheWay()
        self.before_trunk: Callable[[datetime], Awaitable[None]] | None = (
            None  # what has to succeed first
        )

    async def run(self, group: TaskGroup) -> None:
        """Tick whenever something changed, and at the latest every 30 seconds."""
        while True:
            seen = (
                self._in_the_way.look()
            )  # before the pass: what changes while it runs is noticed after it
            moved = await self._state.guarded("queue", self.tick, group, now())
            self._withdraw_warnings()
            if not moved:
                await self._rest(seen)

    async def _rest(self, before: Look) -> None:
        """Wait until a signal, or until files that block a landing have changed; at the latest half a minute."""
        patience = max(0.05, min([TICK_SECONDS, *self._waits()]))
        looks = int(patience / LOOK_SECONDS) or 1 if self._in_the_way else 1
        for _ in range(looks):
            signalled = await self._state.queue.wait(patience / looks)
            if self._noticed(before) or signalled:
                return

    def _waits(self) -> Iterator[float]:
        """The seconds until something that failed is tried again."""
        for retries in (
            self._failed,
            self._setbacks.retries,
            self.landings.looks,
            self._trunk_judge.breaks.retries,
        ):
            yield from retries.waits()

    def _noticed(self, before: Look) -> bool:
        """Whether files that block a landing have changed; those units are tried again at once."""
        changed = self._in_the_way.changed(before)
        self._failed.forget(*changed)
        return bool(changed)

    def _withdraw_warnings(self) -> None:
        """Drop what was said of a landing or a judging that failed, once it is not tried again."""
        if not self._landing:
            self._state.mended("landing")
        if not self._running and not self._setbacks.retries.waits():
            self._state.mended("judge")
        if not self._trunk_judge.is_judging and not self._trunk_judge.breaks.retries.waits():
            self._state.mended("judge trunk")

    async def tick(self, group: TaskGroup, at: datetime) -> bool:
        """One pass: look at trunk, rehearse, judge, then land or blame; True if it should be followed by another.

        While a landing is under way it only judges on along the chain; what that leaves out is made good afterwards.
        """
        if self._state.stopping in (Stopping.HAND_BACK, Stopping.LEAVE) or self._state.no_room():
            return False
        landing = self._passed_over = bool(self._landing)
        if not landing:
            landing = not await self.landings.finish_open(
                at
            )  # as long as one is open, nothing else lands
            if not (landing and self._tip) and not await self.look_at_trunk(group, at):
                return False
        for unit in self._setbacks.count(self._tip, at):
            self._aside[unit] = "judging it broke: judged alone"
        queue = await self._admitted(at)
        line = [unit for unit in queue if unit.id not in self._aside]
        linked = await self._chain(line, at)
        apart = [
            one for unit in queue if unit.id in self._aside for one in await self._chain([unit], at)
        ]
        self._end_useless({each.commit for each in (*linked, *apart)})
        await self._judge.end_unwanted({each.tree for each in (*linked, *apart)})
        free = self._state.settings.gates.benches - len(self._running)
        moves = chain.plan(
            [Link(each.unit.id, each.standing) for each in linked],
            free=free,
            window=self._state.settings.gates.benches,
        )
        self._show(linked, apart, moves.judge, at)
        for each in linked:
            if each.unit.id in moves.judge:
                self._start(each, group)
        return not landing and await self._move_on(linked, apart, moves, group, at)

    async def _move_on(
        self,
        linked: Sequence[Candidate],
        apart: Sequence[Candidate],
        moves: chain.Moves,
        group: TaskGroup,
        at: datetime,
    ) -> bool:
        if moves.land:
            self._begin_landing([linked[: len(moves.land)]], group, at)
            return False
        if moves.blame:
            return await self._send_back(linked[0], group, at)
        for unit in moves.aside:
            self._aside[unit] = "red behind others: judged alone"
        return await self._settle_apart(apart, group, at) or bool(moves.aside)

    # ── trunk ──

    async def look_at_trunk(self, group: TaskGroup, at: datetime) -> bool:
        """Notice what others did to trunk; False when there is none to land on."""
        tip = await self.landings.refresh(at, first=self.before_trunk)
        if tip is None:
            return False
        self.before_trunk = None
        if not tip:
            self._escalations.raise_card(line_cards.trunk_gone(self._trunk.branch), now=at)
            return False
        self._escalations.close(TRUNK_GONE, now=at, why="the branch is there again")
        if tip != self._tip:
            known = str(self._known_trunk().get("commit", ""))
            if known and known != tip and not await self._is_ours(tip, since=known):
                await self._moved_from_outside(known, tip, at)
            elif (
                not known
            ):  # a store that lost what it knew of trunk, while trunk was not there to be read
                await self.watch.recognize(at)
            self._tip = tip
            self._rehearsals.clear()
            self._state.wake_all()
        await self._trunk_judge.look(tip, group)
        return True

    async def _moved_from_outside(self, known: str, tip: str, at: datetime) -> None:
        # Not by what was fetched last: our own landing may have been taken back before it was ever fetched.
        rewritten = not await self._trunk.own.contains(tip, known)
        self._store.write(Event.TRUNK_MOVED, now=at, was=known, to=tip, rewritten=rewritten)
        await self.watch.recognize(at)
        if rewritten or self._known_trunk().get("missing"):
            self._trunk_judge.missing = await self.watch.follow(at)

    async def _is_ours(self, tip: str, *, since: str) -> bool:
        """Whether trunk moved on by a landing of ours that was only just written down."""
        landed = self._store.select(Unit, commit=tip)
        return bool(landed) and await self._trunk.own.contains(tip, since)

    def _known_trunk(self) -> dict[str, Any]:
        fact = self._store.get(Fact, "trunk")
        return json.loads(fact.value) if fact else {}

    # ── candidates ──

    async def _admitted(self, at: datetime) -> list[Unit]:
        """The queued units, in order, whose diff breaks no rule."""
        unknown = set[str]() if self._landing else self.landings.open_units()
        units = [unit for unit in self._store.open(Unit) if unit.id not in unknown]
        queued = [unit for unit in units if unit.state is UnitState.QUEUED]
        names = {unit.id for unit in queued}
        self._aside = {name: why for name, why in self._aside.items() if name in names}
        self._specs = {name: spec for name, spec in self._specs.items() if name in names}
        self._failed.keep(names)
        self._setbacks.retries.keep(names)
        self._in_the_way.keep(names)
        ordered = sorted(queued, key=lambda unit: (unit.priority, unit.since, unit.id))
        async with anyio.create_task_group() as together:  # what follows finds them at hand
            for unit in ordered:
                if (unit.base, unit.submission) not in self._compared:
                    together.start_soon(self._compare, unit)
        self._compared = {(unit.base, unit.submission) for unit in ordered}
        there = [unit for unit in ordered if unit.id in self._aside or self._is_due(unit.id)]
        return [
            unit
            for unit in there
            if await self._tried(unit, self._admit(unit, unit.base, unit.submission, at), at)
        ]

    def _is_due(self, unit: str) -> bool:
        return self._failed.is_due(unit) and self._setbacks.retries.is_due(unit)

    async def _compare(self, unit: Unit) -> None:
        with suppress(GitError):  # whoever asks next meets it
            await self._trunk.own.changed(unit.base, unit.submission)

    async def _tried(self, unit: Unit, step: Awaitable[T], at: datetime) -> T | None:
        """What a step about one unit gives; None where it breaks: that unit is tried again later, the others go on."""
        try:
            return await step
        except (GitError, NoSpec) as error:
            if self._state.is_full(error):
                raise  # which is not about this unit
            log.exception(TICK_BROKE, loop="queue", unit=unit.id)
            self._aside.pop(unit.id, None)
            self._setbacks.later(unit, str(error), words.unreadable(unit, str(error)), at)
            return None

    async def _admit(self, unit: Unit, before: str, after: str, at: datetime) -> bool:
        """Whether what differs between the two commits breaks no rule; else the unit goes back."""
        ruling, own = (
            await self._judge.rulings.of(self._tip),
            await self._judge.rulings.of(unit.base),
        )
        spec = self._spec(unit)
        rules, reached = ruling.rules, {**own.reached, **ruling.reached}
        key = (before, after, ",".join(unit.approved), rules, frozenset(reached.items()))
        if key in self._checked:
            return True
        change = await facts_of(self._trunk.own, before, after, ruling.conventions.folder)
        passed = CardKind.GUARD in unit.approved
        refused = await change.refused(
            # What trunk judges by now counts too: the unit may be older than a gate that runs what it changes.
            (rules, own.rules),
            allow=(*spec.allow, *([GATES, AGENTS] if passed else [])),
            scope=() if CardKind.OUT_OF_SCOPE in unit.approved else spec.scope,
            reached=reached,
            theirs=ruling.layout.theirs,
            passed=passed,
        )
        if refused is None:
            self._checked.add(key)
            return True
        evidence = refused.evidence or refused.paths
        stops = bool(change.larger and (await self._judge.rulings.of(after)).unread)
        kind, liftable = CardKind(refused.kind), refused.liftable
        ask = words.guard(unit, kind, refused.sentence, evidence, liftable=liftable, stops=stops)
        self._outcomes.send_back(unit, refused.kind, detail=refused.sentence, at=at, ask=ask)
        return False

    async def _chain(self, units: Sequence[Unit], at: datetime) -> list[Candidate]:
        """Rehearse units one on the other; one that conflicts with trunk itself goes back, with others it waits."""
        links: list[Candidate] = []
        for unit in units:
            if links and self._may_change_rules(links[-1].unit):
                break  # nobody is judged, or guarded, by rules that have not landed
            parent = links[-1].commit if links else self._tip
            rehearsed = await self._tried(unit, self._rehearse(unit, parent), at)
            if isinstance(rehearsed, Rehearsed):
                # Again for what would land: a merge follows what trunk renamed meanwhile.
                if not await self._tried(unit, self._admit(unit, parent, rehearsed.commit, at), at):
                    continue
                standing = self._standing(unit, rehearsed.commit)
                links.append(
                    Candidate(
                        unit=unit,
                        parent=parent,
                        commit=rehearsed.commit,
                        tree=rehearsed.tree,
                        standing=standing,
                    )
                )
            elif rehearsed is not None and not links:
                self._refuse(unit, rehearsed, at)
        return links

    def _may_change_rules(self, unit: Unit) -> bool:
        return CardKind.GUARD in unit.approved or GATES in self._spec(unit).allow

    async def _rehearse(self, unit: Unit, parent: str) -> Rehearsed | Conflict | Nothing:
        key = (parent, unit.submission)
        if key not in self._rehearsals:
            attempt = self._attempt(unit)
            asked = self._spec(unit).title
            with suppress(NoMarkdown):  # then less of what the agent said is taken over
                asked = f"{asked}\n{body_of(self._store, unit.id)}"
            trailers = {
                UNIT: unit.id,
                ATTEMPT: str(unit.attempt),
                AGENT: attempt.agent,
                RUN: attempt.nonce,
            }
            text = compose(attempt.summary, title=unit.title, trailers=trailers, task=asked)
            self._rehearsals[key] = await self._trunk.rehearse(
                base=parent,
                submission=unit.submission,
                submission_base=unit.base,
                text=text,
                author=Person(attempt.agent, AGENT_EMAIL),
            )
        return self._rehearsals[key]

    def _refuse(self, unit: Unit, why: Conflict | Nothing, at: datetime) -> None:
        if isinstance(why, Nothing):
            detail = "merged onto newest trunk the change is empty: trunk has it already"
            self._outcomes.send_back(unit, EndReason.EMPTY, detail=detail, at=at)
            return
        detail = f"conflicts with trunk in {', '.join(why.paths[:5])}"
        self._outcomes.send_back(unit, EndReason.CONFLICT, detail=detail, at=at)

    def _standing(self, unit: Unit, commit: str) -> Standing:
        ruled = self._ruled.get(commit)
        if ruled is None:
            return Standing.JUDGING if commit in self._running else Standing.UNKNOWN
        if ruled.ok or self._trunk_judge.excused(ruled, unit):
            return Standing.GREEN
        return Standing.RED

    # ── judging ──

    def _start(self, candidate: Candidate, group: TaskGroup) -> None:
        scope = anyio.CancelScope()
        self._running[candidate.commit] = scope
        group.start_soon(
            self._judge_one, candidate, scope, group, name=f"judge {candidate.unit.id}"
        )

    async def _judge_one(
        self, candidate: Candidate, scope: anyio.CancelScope, group: TaskGroup
    ) -> None:
        try:
            with scope:
                broke = partial(self._setbacks.judging_broke, candidate)
                ruled = await self._state.guarded("judge", self._ruling_on, candidate, broke=broke)
                if ruled is not None:  # None: it was broken off, and is asked again
                    self._ruled[candidate.commit] = ruled
        finally:
            self._running.pop(candidate.commit, None)
            self._state.queue.send()

    async def _ruling_on(self, candidate: Candidate) -> Ruled | None:
        accept = self._spec(candidate.unit).accept
        return await self._judge.judge(
            candidate.commit, parent=candidate.parent, unit=candidate.unit, accept=accept
        )

    def _end_useless(self, wanted: set[str]) -> None:
        for commit in self._running.keys() - wanted:
            self._running[commit].cancel()
        self._ruled = {commit: ruled for commit, ruled in self._ruled.items() if commit in wanted}

    async def _settle_apart(
        self, apart: Sequence[Candidate], group: TaskGroup, at: datetime
    ) -> bool:
        free = self._state.settings.gates.benches - len(self._running)
        for each in apart:
            if each.standing is Standing.RED:
                self._aside.pop(each.unit.id)
                return await self._send_back(each, group, at)
            if (
                each.standing is Standing.UNKNOWN
                and free > 0
                and self._setbacks.retries.is_due(each.unit.id)
            ):
                self._start(each, group)
                free -= 1
        green = [
            each
            for each in apart
            if each.standing is Standing.GREEN and self._failed.is_due(each.unit.id)
        ]
        self._begin_landing([[each] for each in green], group, at)
        return False

    async def _send_back(self, candidate: Candidate, group: TaskGroup, at: datetime) -> bool:
        """A unit that is red on trunk alone: blamed, unless trunk is red in the same way."""
        ruled, unit = self._ruled[candidate.commit], candidate.unit
        if ruled.setup is not None:
            trunk = self._trunk_judge.ruled(self._tip)
            made = (
                trunk is not None and trunk.ok
            )  # where trunk's own environment can be made, the unit broke it
            if made and ruled.setup.cause != UNCONFINED:
                evidence = f"{ruled.setup.question}\n\n{ruled.setup.evidence}"
                self._outcomes.send_back(
                    unit, EndReason.GATE_RED, detail="its setup fails", at=at, said=evidence
                )
            else:
                self._outcomes.wait(unit, ruled.setup, at)
            return True
        if ruled.passed_before:
            self._outcomes.hold(unit, words.already_accepted(unit, ruled.passed_before), at)
            return True
        if ruled.red and not ruled.not_proven:
            trunk = self._trunk_judge.ruled(self._tip)
            cause = trunk.setup if trunk is not None else self._trunk_judge.breaks.card
            if cause is not None:
                self._outcomes.wait(unit, cause, at)
                return True
            if trunk is None:
                self._trunk_judge.start(group)
                return False
            if {verdict.gate for verdict in ruled.red} <= {verdict.gate for verdict in trunk.red}:
                self._outcomes.wait(unit, self._trunk_judge.card(trunk), at)
                return True
        reason = EndReason.NOT_PROVEN if ruled.not_proven else EndReason.GATE_RED
        self._outcomes.send_back(unit, reason, detail=ruled.sentence, at=at, red=ruled.red)
        return True

    # ── landing ──

    def _begin_landing(
        self, choices: Sequence[Sequence[Candidate]], group: TaskGroup, at: datetime
    ) -> None:
        """Land the first of the choices that may, beside the passes of this queue."""
        if choices:
            self._landing = frozenset(each.unit.id for green in choices for each in green)
            group.start_soon(self._see_landed, choices, at, name="landing")

    async def _see_landed(self, choices: Sequence[Sequence[Candidate]], at: datetime) -> None:
        changed = True
        try:
            changed = await self._state.guarded("landing", self._land, choices, at) is not False
        finally:
            self._landing = frozenset()
            if changed or self._passed_over:
                self._state.queue.send()

    async def _land(self, choices: Sequence[Sequence[Candidate]], at: datetime) -> bool:
        """Land as many of the first choice's as may; where none may, the next one's; True if anything changed."""
        for green in choices:
            ready = self._reviewed(green, at)
            if not ready:
                return len(ready) < len(green)
            outcome = await self._move(ready, at)
            if isinstance(outcome, Blocked) and not outcome.is_open and len(ready) > 1:
                ready = ready[:1]
                outcome = await self._move(ready, at)
            if await self._outcome(outcome, ready, now()):
                return True
        return False

    def _reviewed(self, green: Sequence[Candidate], at: datetime) -> Sequence[Candidate]:
        """The leading ones that need no reader, or have had one."""
        for position, each in enumerate(green):
            if (
                self._spec(each.unit).review == "required"
                and CardKind.REVIEW not in each.unit.approved
            ):
                attempt = self._attempt(each.unit)
                self._outcomes.hold(
                    each.unit, words.review(each.unit, said=attempt.summary or attempt.said), at
                )
                return green[:position]
        return green

    async def _move(self, ready: Sequence[Candidate], at: datetime) -> Outcome:
        units = [(each.unit, each.commit) for each in ready]
        return await self.landings.land(units, parent=ready[0].parent, at=at)

    async def _outcome(self, outcome: Outcome, ready: Sequence[Candidate], at: datetime) -> bool:
        match outcome:
            case Landed(commit):
                self._tip = commit
                await self._trunk_judge.landed(
                    commit, self._ruled.get(commit), parent=ready[-1].parent
                )
                for each in ready:
                    self._aside.pop(each.unit.id, None)
                    self._failed.forget(each.unit.id)
                self._state.wake_all()
                return True
            case Moved(tip, said):
                log.info(TRUNK_PUT_BACK if said else LANDING_REFUSED, tip=tip, said=said)
                if said:
                    self._outcomes.note(ready[0].unit, said, at)
                return bool(said) or tip != self._tip
            case Blocked():
                return self._step_aside(outcome, ready[0].unit, at)

    def _step_aside(self, blocked: Blocked, unit: Unit, at: datetime) -> bool:
        """Ask about a landing that is blocked; True where that is new: those behind it do not wait."""
        if blocked.is_open or not self.landings.still_queued(
            unit
        ):  # a person took it back while we looked
            return True
        if blocked.kind in ("failed", "refused"):  # not again at once
            self._failed.fail(unit.id)
        self._escalations.raise_card(asks(unit, blocked), now=at, unit=unit)
        self._outcomes.note(
            unit, f"green, but landing is blocked: {blocked.reason.splitlines()[0]}", at
        )
        self._in_the_way.put(unit.id, blocked.look)
        first = unit.id not in self._aside
        self._aside[unit.id] = blocked.reason
        return first

    # ── showing ──

    def _show(
        self,
        linked: Sequence[Candidate],
        apart: Sequence[Candidate],
        judged_now: Sequence[str],
        at: datetime,
    ) -> None:
        rows = [
            {"unit": each.unit.id, "position": place, "state": self._shown(each, judged_now)}
            for place, each in enumerate((*linked, *apart), 1)
        ]
        value = json.dumps(rows)
        known = self._store.get(Fact, "queue")
        if value != (known.value if known else "[]"):
            self._store.write(Event.FACT_CHANGED, Fact(name="queue", value=value), now=at)

    def _shown(self, candidate: Candidate, judged_now: Sequence[str]) -> str:
        if candidate.unit.id in self._landing:
            return "landing"
        if candidate.unit.id in judged_now:
            return Standing.JUDGING
        return Standing.UNKNOWN if candidate.standing is Standing.RED else candidate.standing

    def _attempt(self, unit: Unit) -> Attempt:
        found = self._store.get(Attempt, unit.id, unit.attempt)
        assert found is not None, f"{unit.id} was submitted by no attempt"
        return found

    def _spec(self, unit: Unit) -> Spec:
        if unit.id not in self._specs:
            self._specs[unit.id] = spec_of(self._store, unit.id)
        return self._specs[unit.id]
