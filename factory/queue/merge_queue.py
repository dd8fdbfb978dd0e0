"""The merge queue: candidates are checked, rehearsed, judged on benches, and landed in order.

Invariant: trunk moves only to a commit whose exact tree was judged green by the gates of the commit
below it, or which a person let pass.
"""

import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from anyio.abc import TaskGroup

from factory.attempt.outcomes import Outcomes
from factory.ground.daemon_state import DaemonState, Stopping, now
from factory.ground.log import LANDING_REFUSED, TRUNK_PUT_BACK, log
from factory.judging.retries import Retries
from factory.judging.trunk_judge import TrunkJudge
from factory.people import cards as words
from factory.people import line_cards
from factory.people.causes import TRUNK_GONE, UNCONFINED
from factory.people.escalations import Escalations
from factory.queue import chain
from factory.queue.candidate import Candidate
from factory.queue.candidates import Candidates
from factory.queue.chain import Link, Standing
from factory.queue.in_the_way import InTheWay, Look
from factory.queue.judgings import Judgings
from factory.queue.landings import Landings, asks
from factory.queue.setbacks import Setbacks
from factory.queue.trunk_watch import TrunkWatch
from factory.repo.landing_plan import Blocked, Landed, Moved, Outcome
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import CardKind, Fact
from factory.store.unit import EndReason, Unit, UnitState

TICK_SECONDS = 30.0
LOOK_SECONDS = 1.0  # how often files that block a landing are looked at


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
        self._store = store
        self._state = state
        self.landings = landings
        self._trunk = landings.trunk
        self._trunk_judge = trunk_judge
        self._escalations = escalations
        self._outcomes = outcomes
        self.watch = TrunkWatch(store=store, trunk=landings.trunk, escalations=escalations)
        self._tip = ""
        self._failed = Retries()  # units that could not be landed
        self._setbacks = Setbacks(store=store, state=state, outcomes=outcomes)
        self.judgings = Judgings(state=state, trunk_judge=trunk_judge, setbacks=self._setbacks)
        self._candidates = Candidates(
            store=store,
            state=state,
            trunk=landings.trunk,
            judgings=self.judgings,
            outcomes=outcomes,
            setbacks=self._setbacks,
        )
        self._aside = self._candidates.aside
        # Units whose landing is under way: trunk and open steps are its business.
        self._landing: frozenset[str] = frozenset()
        self._passed_over = False  # something was left alone meanwhile
        self._in_the_way = InTheWay()
        # What has to succeed before trunk is looked at.
        self.before_trunk: Callable[[datetime], Awaitable[None]] | None = None

    async def run(self, group: TaskGroup) -> None:
        """Tick whenever something changed, and at the latest every 30 seconds."""
        while True:
            # Before the pass: what changes while it runs is noticed after it.
            seen = self._in_the_way.look()
            moved = await self._state.guarded("queue", self.tick, group, now())
            self._withdraw_warnings()
            if not moved:
                await self._rest(seen)

    async def _rest(self, before: Look) -> None:
        """Wait for a signal, or a change of a file that blocks a landing; at most 30 seconds."""
        patience = max(0.05, min([TICK_SECONDS, *self._waits()]))
        looks = 1
        if self._in_the_way:
            looks = max(1, int(patience / LOOK_SECONDS))
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
        if not self.judgings.running and not self._setbacks.retries.waits():
            self._state.mended("judge")
        if not self._trunk_judge.is_judging and not self._trunk_judge.breaks.retries.waits():
            self._state.mended("judge trunk")

    async def tick(self, group: TaskGroup, at: datetime) -> bool:
        """One pass: look at trunk, rehearse, judge, land or blame; True if another should follow.

        While a landing is under way it only judges on along the chain; a later pass does the rest.
        """
        if self._state.stopping in (Stopping.HAND_BACK, Stopping.LEAVE) or self._state.no_room():
            return False
        landing = bool(self._landing)
        self._passed_over = landing
        if not landing:
            # As long as one is open, nothing else lands.
            landing = not await self.landings.finish_open(at)
            if not (landing and self._tip) and not await self.look_at_trunk(group, at):
                return False
        for name in self._setbacks.count(self._tip, at):
            self._aside[name] = "judging it broke: judged alone"
        linked, apart = await self._rehearsed(at)
        self.judgings.keep({each.commit for each in (*linked, *apart)})
        await self._trunk_judge.judge.end_unwanted({each.tree for each in (*linked, *apart)})
        moves = chain.plan(
            [Link(each.unit.id, each.standing) for each in linked],
            free=self.judgings.free_benches,
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
            elif not known:
                # The store lost what it knew of trunk, while trunk was not there to be read.
                await self.watch.recognize(at)
            self._tip = tip
            self._candidates.forget_rehearsals()
            self._state.wake_all()
        await self._trunk_judge.look(tip, group)
        return True

    async def _moved_from_outside(self, known: str, tip: str, at: datetime) -> None:
        # Not by what was fetched last: our landing may have been taken back before it was fetched.
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
        queued = []
        for unit in self._store.open(Unit):
            if unit.state is UnitState.QUEUED and unit.id not in unknown:
                queued.append(unit)
        names = {unit.id for unit in queued}
        self._candidates.keep(names)
        self._failed.keep(names)
        self._setbacks.retries.keep(names)
        self._in_the_way.keep(names)
        queued.sort(key=lambda unit: (unit.priority, unit.since, unit.id))
        await self._candidates.compare(queued)  # what follows finds them at hand
        there = [unit for unit in queued if unit.id in self._aside or self._is_due(unit.id)]
        return await self._candidates.admitted(there, self._tip, at)

    async def _rehearsed(self, at: datetime) -> tuple[list[Candidate], list[Candidate]]:
        """The candidates of the chain, and those apart from it, each on trunk alone."""
        queue = await self._admitted(at)
        line = [unit for unit in queue if unit.id not in self._aside]
        linked = await self._candidates.chain(line, self._tip, at)
        apart: list[Candidate] = []
        for unit in queue:
            if unit.id in self._aside:
                apart += await self._candidates.chain([unit], self._tip, at)
        return linked, apart

    def _is_due(self, unit: str) -> bool:
        return self._failed.is_due(unit) and self._setbacks.retries.is_due(unit)

    # ── judging ──

    def _start(self, candidate: Candidate, group: TaskGroup) -> None:
        accept = self._candidates.spec(candidate.unit).accept
        self.judgings.start(candidate, accept, group)

    async def _settle_apart(
        self, apart: Sequence[Candidate], group: TaskGroup, at: datetime
    ) -> bool:
        free = self.judgings.free_benches
        for each in apart:
            if each.standing is Standing.RED:
                self._aside.pop(each.unit.id)
                return await self._send_back(each, group, at)
            is_due = self._setbacks.retries.is_due(each.unit.id)
            if each.standing is Standing.UNKNOWN and free > 0 and is_due:
                self._start(each, group)
                free -= 1
        choices = []
        for each in apart:
            if each.standing is Standing.GREEN and self._failed.is_due(each.unit.id):
                choices.append([each])
        self._begin_landing(choices, group, at)
        return False

    async def _send_back(self, candidate: Candidate, group: TaskGroup, at: datetime) -> bool:
        """A unit that is red on trunk alone: blamed, unless trunk is red in the same way."""
        unit = candidate.unit
        ruled = self.judgings.ruled(candidate.commit)
        assert ruled is not None, "only what was ruled is red"
        if ruled.setup is not None:
            trunk = self._trunk_judge.ruled(self._tip)
            # Where trunk's own environment can be made, the unit broke it.
            made = trunk is not None and trunk.ok
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
            landing = set[str]()
            for green in choices:
                landing.update(each.unit.id for each in green)
            self._landing = frozenset(landing)
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
        """Land as many of the first choice's as may, or of the next's; True if anything changed."""
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
            asks_for_it = self._candidates.spec(each.unit).review == "required"
            if asks_for_it and CardKind.REVIEW not in each.unit.approved:
                attempt = self._candidates.attempt(each.unit)
                ask = words.review(each.unit, said=attempt.summary or attempt.said)
                self._outcomes.hold(each.unit, ask, at)
                return green[:position]
        return green

    async def _move(self, ready: Sequence[Candidate], at: datetime) -> Outcome:
        units = [(each.unit, each.commit) for each in ready]
        return await self.landings.land(units, parent=ready[0].parent, at=at)

    async def _outcome(self, outcome: Outcome, ready: Sequence[Candidate], at: datetime) -> bool:
        match outcome:
            case Landed(commit):
                self._tip = commit
                ruled = self.judgings.ruled(commit)
                await self._trunk_judge.landed(commit, ruled, parent=ready[-1].parent)
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
        """Ask about a landing that is blocked; True where that is new: no other waits for it."""
        if blocked.is_open or not self.landings.still_queued(unit):
            return True  # its card is another, or a person took it back while we looked
        if blocked.kind in ("failed", "refused"):  # not again at once
            self._failed.fail(unit.id)
        self._escalations.raise_card(asks(unit, blocked), now=at, unit=unit)
        first_line = blocked.reason.splitlines()[0]
        self._outcomes.note(unit, f"green, but landing is blocked: {first_line}", at)
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
        rows = []
        for place, each in enumerate((*linked, *apart), 1):
            state = self._shown(each, judged_now)
            rows.append({"unit": each.unit.id, "position": place, "state": state})
        value = json.dumps(rows)
        known = self._store.get(Fact, "queue")
        if value != (known.value if known else "[]"):
            self._store.write(Event.FACT_CHANGED, Fact(name="queue", value=value), now=at)

    def _shown(self, candidate: Candidate, judged_now: Sequence[str]) -> str:
        if candidate.unit.id in self._landing:
            return "landing"
        if candidate.unit.id in judged_now:
            return Standing.JUDGING
        if candidate.standing is Standing.RED:
            return Standing.UNKNOWN
        return candidate.standing
