"""The merge queue: checks, rehearses and judges candidates, and lands them in order.

Invariant: trunk moves only to a commit whose exact tree passed the gates of the commit below it, or
to a commit that a person let land.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from anyio.abc import TaskGroup

from factory.attempt.outcomes import Outcomes
from factory.dispatch import contested
from factory.ground.daemon_state import DaemonState, Stopping, now
from factory.judging.trunk_judge import TrunkJudge
from factory.people import line_cards
from factory.people.causes import TRUNK_GONE
from factory.people.escalations import Escalations, landing_units
from factory.queue import chain, places
from factory.queue.blame import Blame
from factory.queue.candidate import Candidate
from factory.queue.candidates import Candidates
from factory.queue.chain import Link, Standing
from factory.queue.in_the_way import Look
from factory.queue.judgings import Judgings
from factory.queue.lander import Lander
from factory.queue.landings import Landings
from factory.queue.pairs import Pairs
from factory.queue.setbacks import Setbacks
from factory.queue.trunk_watch import TrunkWatch
from factory.store.fact_values import value_of
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.spec import Spec
from factory.store.unit import Unit, UnitState

TICK_SECONDS = 30.0
LOOK_SECONDS = 1.0  # seconds between checks of files that block a landing


class MergeQueue:
    """The queue of one line; nothing else in the daemon moves trunk."""

    # A call that must succeed before the queue reads trunk for the first time.
    before_trunk: Callable[[datetime], Awaitable[None]] | None = None

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
        self.watch = TrunkWatch(store=store, trunk=landings.trunk, escalations=escalations)
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
        self.pairs = Pairs(
            store=store,
            state=state,
            candidates=self._candidates,
            judge=trunk_judge.judge,
            outcomes=outcomes,
        )
        self._blame = Blame(
            trunk_judge=trunk_judge,
            outcomes=outcomes,
            setbacks=self._setbacks,
            pairs=self.pairs,
        )
        self.lander = Lander(
            state=state,
            landings=landings,
            candidates=self._candidates,
            judgings=self.judgings,
            trunk_judge=trunk_judge,
            outcomes=outcomes,
        )

    async def run(self, group: TaskGroup) -> None:
        """Tick whenever something changed, and at the latest every 30 seconds."""
        while True:
            # Read before the pass, so that a change during the pass is noticed afterwards.
            seen = self.lander.in_the_way.look()
            moved = await self._state.guarded("queue", self.tick, group, now())
            self._withdraw_warnings()
            if not moved:
                await self._rest(seen)

    async def _rest(self, before: Look) -> None:
        """Wait for a signal, or a change of a file that blocks a landing; at most 30 seconds."""
        patience = max(0.05, min([TICK_SECONDS, *self._waits()]))
        looks = 1
        if self.lander.in_the_way:
            looks = max(1, int(patience / LOOK_SECONDS))
        for _ in range(looks):
            signalled = await self._state.queue.wait(patience / looks)
            if self._noticed(before) or signalled:
                return

    def _waits(self) -> Iterator[float]:
        """Yield the seconds until each failed step is tried again."""
        for retries in (
            self.lander.failed,
            self._setbacks.retries,
            self.landings.looks,
            self._trunk_judge.breaks.retries,
            self._trunk_judge.setups,
        ):
            yield from retries.waits()

    def _noticed(self, before: Look) -> bool:
        """Return whether a blocking file has changed; let the blocked units try again."""
        changed = self.lander.in_the_way.changed(before)
        self.lander.failed.forget(*changed)
        return bool(changed)

    def _withdraw_warnings(self) -> None:
        """Remove warnings about failed landings and judgings that will not be tried again."""
        if not self.lander.units:
            self._state.mended("landing")
        if not self.pairs.held:
            self._state.mended("pair")
        if not self.judgings.running and not self._setbacks.retries.waits():
            self._state.mended("judge")
        if not self._trunk_judge.is_judging and not self._trunk_judge.breaks.retries.waits():
            self._state.mended("judge trunk")

    async def tick(self, group: TaskGroup, at: datetime) -> bool:
        """Do one pass: look at trunk, rehearse, judge, land or blame; return whether to run again.

        During a landing, a pass only starts judgings in the chain; a later pass does the rest.
        """
        if self._state.stopping in (Stopping.HAND_BACK, Stopping.LEAVE) or self._state.no_room():
            return False
        landing = bool(self.lander.units)
        self.lander.passed_over = landing
        if not landing:
            # Nothing else lands while an interrupted landing is not settled.
            landing = not await self.landings.finish_open(at)
            if not (landing and self.lander.tip) and not await self.look_at_trunk(group, at):
                places.show(self._store, [], {}, at)  # nothing is judged without trunk
                return False
        await self._note_broken(at)
        linked, apart = await self._rehearsed(at)
        self.judgings.keep({each.commit for each in (*linked, *apart)})
        trees = {each.tree for each in (*linked, *apart)}
        accepts = partial(_accepts, self._store)
        await self._trunk_judge.judge.end_unwanted(trees, accepts)
        moves = chain.plan(
            [Link(each.unit.id, each.standing) for each in linked],
            free=self.judgings.free_benches,
            window=self._state.settings.gates.benches,
        )
        shown = places.places(
            linked,
            apart,
            window=self._state.settings.gates.benches,
            on_bench=self.judgings.on_bench,
            landing=self.lander.units,
            later=[each.unit.id for each in apart if not self._is_due(each.unit.id)],
        )
        places.show(self._store, shown, self._candidates.behind, at)
        for each in linked:
            if each.unit.id in moves.judge:
                self._start(each, group)
        again = not landing and await self._move_on(linked, apart, moves, group, at)
        if not again:
            self.pairs.go_on(self.judgings.idle((*linked, *apart)), group, at)
        return again

    async def _note_broken(self, at: datetime) -> None:
        """Set aside the units whose judging failed with an error."""
        broken = list(self._setbacks.count(self.lander.tip, at))
        for name in broken:
            self._aside[name] = "its judging failed with an error: judged alone"
        if broken:
            await self._candidates.forget_missing()

    async def _move_on(
        self,
        linked: Sequence[Candidate],
        apart: Sequence[Candidate],
        moves: chain.Moves,
        group: TaskGroup,
        at: datetime,
    ) -> bool:
        if moves.land:
            self.lander.begin([linked[: len(moves.land)]], group, at)
            return False
        if moves.blame:
            return self._send_back(linked[0], group, at)
        for unit in moves.aside:
            self._aside[unit] = "red behind others: judged alone"
        return await self._settle_apart(apart, group, at) or bool(moves.aside)

    # ── trunk ──

    async def look_at_trunk(self, group: TaskGroup, at: datetime) -> bool:
        """Notice changes of trunk by others; return False if there is no trunk to land on."""
        tip = await self.landings.refresh(at, first=self.before_trunk)
        if tip is None:
            return False
        self.before_trunk = None
        if not tip:
            self._escalations.raise_card(line_cards.trunk_gone(self._trunk.branch), now=at)
            return False
        self._escalations.close(TRUNK_GONE, now=at, why="the branch exists again")
        if tip != self.lander.tip:
            known = str(self._known_trunk().get("commit", ""))
            if known and known != tip and not await self._is_ours(tip, since=known):
                await self._moved_from_outside(known, tip, at)
            elif not known:
                # The store lost its record of trunk while trunk could not be read.
                await self.watch.recognize(at)
            self.lander.tip = tip
            self._candidates.forget_rehearsals()
            self._state.wake_all()
        await self._trunk_judge.look(tip, group)
        return True

    async def _moved_from_outside(self, known: str, tip: str, at: datetime) -> None:
        # Do not compare with the last fetch: a person may have undone our landing before it.
        rewritten = not await self._trunk.own.contains(tip, known)
        self._store.write(Event.TRUNK_MOVED, now=at, was=known, to=tip, rewritten=rewritten)
        await self.watch.recognize(at)
        if rewritten or self._known_trunk().get("missing"):
            self._trunk_judge.missing = await self.watch.follow(at)

    async def _is_ours(self, tip: str, *, since: str) -> bool:
        """Return whether a landing of this daemon, which is on record, moved trunk."""
        landed = self._store.select(Unit, commit=tip)
        return bool(landed) and await self._trunk.own.contains(tip, since)

    def _known_trunk(self) -> dict[str, Any]:
        return dict(value_of(self._store, "trunk", {}))

    # ── candidates ──

    async def _admitted(self, at: datetime) -> list[Unit]:
        """Return the queued units, in order, whose change breaks no rule."""
        unknown = set[str]() if self.lander.units else landing_units(self._store)
        queued = []
        for unit in self._store.select(Unit, state=UnitState.QUEUED):
            if unit.id not in unknown:
                queued.append(unit)
        names = {unit.id for unit in queued}
        self._candidates.keep(names)
        self.lander.failed.keep(names)
        self._setbacks.retries.keep(names)
        self.lander.in_the_way.keep(names)
        held = self.pairs.held
        queued = [unit for unit in queued if unit.id not in held]
        queued.sort(key=contested.turn)
        await self._candidates.compare(queued)  # the next step reads the comparisons from the cache
        there = [unit for unit in queued if unit.id in self._aside or self._is_due(unit.id)]
        return await self._candidates.admitted(there, self.lander.tip, at)

    async def _rehearsed(self, at: datetime) -> tuple[list[Candidate], list[Candidate]]:
        """Return the candidates of the chain, and the candidates outside of it, each on trunk."""
        admitted = await self._admitted(at)
        queue = await self._candidates.in_turn(admitted, self.lander.tip, at)
        line = [unit for unit in queue if unit.id not in self._aside]
        linked = await self._candidates.chain(line, self.lander.tip, at)
        apart: list[Candidate] = []
        for unit in queue:
            if unit.id in self._aside:
                apart += await self._candidates.chain([unit], self.lander.tip, at)
        return linked, apart

    def _is_due(self, unit: str) -> bool:
        return self.lander.failed.is_due(unit) and self._setbacks.retries.is_due(unit)

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
                return self._send_back(each, group, at)
            is_due = self._setbacks.retries.is_due(each.unit.id)
            if each.standing is Standing.UNKNOWN and free > 0 and is_due:
                self._start(each, group)
                free -= 1
        choices = []
        for each in apart:
            if each.standing is Standing.GREEN and self.lander.failed.is_due(each.unit.id):
                choices.append([each])
        self.lander.begin(choices, group, at)
        return False

    def _send_back(self, candidate: Candidate, group: TaskGroup, at: datetime) -> bool:
        ruled = self.judgings.ruled(candidate.commit)
        if ruled is None:  # the rules have just changed, so the next pass judges it again
            return True
        return self._blame.settle(candidate, ruled, self.lander.tip, group, at)


def _accepts(store: Store) -> set[tuple[str, ...]]:
    """Return the accept commands of the units that may have to prove something on trunk."""
    units = store.select(Unit, state=frozenset({UnitState.READY, UnitState.QUEUED}))
    names = frozenset(unit.id for unit in units)
    return {spec.accept for spec in store.select(Spec, unit=names) if spec.accept}
