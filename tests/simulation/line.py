"""One daemon over a simulated world: the real pool, workers' records, judge, queue, endings, cards, requests, rescue.

Only what touches the world is replaced: what an agent does, git, benches and the store's file.
"""

import atexit
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar, cast

import anyio

from factory.attempt import triage
from factory.attempt.hook_records import HookRecords
from factory.attempt.left import Left, ending, how_it_ended
from factory.attempt.outbox import Outbox, Question
from factory.attempt.outcomes import Outcomes
from factory.attempt.parts import parts_of
from factory.attempt.remarks import newest
from factory.attempt.run import NotStarted, Run
from factory.attempt.worker import Worker
from factory.child.process import Exit
from factory.dispatch.agents import Agents, shell_runtime
from factory.dispatch.pool import Pool
from factory.dispatch.standstill import Standstill
from factory.ground.conventions import read_shipped
from factory.ground.daemon_state import DaemonState, Stopping, now
from factory.ground.errors import GitError
from factory.ground.places import Places
from factory.ground.settings import nested
from factory.inbox.acceptance import Acceptance
from factory.inbox.intake import Intake
from factory.judging.judge import Judge
from factory.judging.rulings import Rulings
from factory.judging.trunk_judge import TrunkJudge
from factory.people import line_cards
from factory.people.escalations import Escalations
from factory.queue.landings import Landings
from factory.queue.merge_queue import MergeQueue
from factory.repair.rescue import Rescue
from factory.repo.workspaces import Snapshot, Workspace
from factory.requests import Requests
from factory.store.accepted import NoSpec, body_of
from factory.store.identity import Identity, record, recorded
from factory.store.journal import Event
from factory.store.names import is_taken
from factory.store.records import Attempt, Fact, Hook, R, Record, Remark
from factory.store.unit import EndReason, Unit
from tests.journal import Entry
from tests.memory_store import MemoryStore
from tests.nothing_submitted import NothingSubmitted
from tests.simulation.agents import begin
from tests.simulation.world import AGENTS, Benches, Branch, Gates, Hand, Life, Violated, World

T = TypeVar("T")
ROOT = Path("/sim")  # of which nothing is there but in the minds of its objects
_HUNG = TemporaryDirectory(
    prefix="simulation-"
)  # the one thing that a history writes: the files of hung tasks
atexit.register(_HUNG.cleanup)
SHIPPED = read_shipped()


class MortalStore:
    """The store as one daemon has it: each write is a point at which it may die, and is looked at by the laws."""

    def __init__(self, store: MemoryStore, life: Life, look: Callable[[], None]) -> None:
        self._store, self._life, self._look = store, life, look
        self._depth = 0

    def write(
        self,
        event: Event,
        *records: Record,
        now: datetime,
        unit: str = "",
        attempt: int = 0,
        worker: str = "",
        fence: bool = False,
        **detail: Any,
    ) -> int:
        self._life.point()
        seq = self._store.write(
            event,
            *records,
            now=now,
            unit=unit,
            attempt=attempt,
            worker=worker,
            fence=fence,
            **detail,
        )
        self._written()
        return seq

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self._life.point()
        self._depth += 1
        try:
            with self._store.transaction():
                yield
        finally:
            self._depth -= 1
        self._written()

    def _written(self) -> None:
        if not self._depth:
            self._look()
            self._life.point()

    def own(self, owner: str, *, now: datetime) -> None:
        """There is one daemon at a time: the dead do not write."""

    def get(self, kind: type[R], *key: str | int) -> R | None:
        return self._store.get(kind, *key)

    def open(self, kind: type[R]) -> list[R]:
        return self._store.open(kind)

    def select(self, kind: type[R], /, **equal: str | int | frozenset[str]) -> list[R]:
        return self._store.select(kind, **equal)

    def newest(self, kind: type[R], most: int, /, **equal: str | int) -> list[R]:
        return self._store.newest(kind, most, **equal)

    def journal(self, *, after: int = 0, unit: str = "") -> Iterator[Entry]:
        return self._store.journal(after=after, unit=unit)

    def last_seq(self) -> int:
        return self._store.last_seq()

    def compact(self, *, before: datetime, now: datetime) -> int:
        """The simulated line has no keeper."""
        return self._store.compact(before=before, now=now)

    def close(self) -> None:
        """Nothing to close."""


class StrictLive(DaemonState):
    """Only what the world does may break a pass: a damaged object, a task file that was refused."""

    async def guarded(
        self,
        name: str,
        call: Callable[..., Awaitable[T]],
        *args: Any,
        broke: Callable[[Exception], None] | None = None,
    ) -> T | None:
        return await super().guarded(name, _strict(name, call), *args, broke=broke)


def _strict(name: str, call: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
    async def strictly(*args: Any) -> T:
        try:
            return await call(*args)
        except (GitError, NoSpec):
            raise
        except Exception as error:
            raise Violated(f"{name} broke: {error!r}") from error

    return strictly


class SimulatedWorker(Worker):
    """A worker whose agents, workspaces and run dirs are the world's; what it records is the real one's."""

    hand: Hand

    async def _attempt(self, hook: Hook) -> None:
        await _strict("a run", self._go)(hook)

    async def _go(self, hook: Hook) -> None:
        unit, attempt, spec = self._records.facts(hook)
        base = attempt.base or self._rulings.tip
        run = Run(
            hook=hook,
            unit=unit,
            attempt=replace(attempt, base=base, workspace=hook.workspace),
            spec=spec,
            ruling=await self._rulings.of(base),
            runtime=shell_runtime("true"),
            workspace=cast("Any", None),
            run_dir=self._records.run_dir(attempt),
        )
        world = self.hand.world
        if str(run.run_dir) not in world.agents:
            self._records.note(run.attempt, Event.ATTEMPT_NOTED)
            await self.hand.step(1)
            if told := self._records.ends(run):
                self._finish_early(
                    run, NotStarted(told, "it was ended while its workspace was being prepared")
                )
                return
            if world.setup_broken:
                card = line_cards.setup_failed(sentence="Nothing can be installed.")
                self._finish_early(
                    run, NotStarted(EndReason.SETUP_FAILED, "Nothing can be installed.", card)
                )
                return
            self.hand.life.point()
            heard = newest(self._records.store.select(Remark, unit=unit.id))
            run = replace(run, attempt=replace(run.attempt, heard=heard))
            self._records.note(run.attempt, Event.ATTEMPT_NOTED)
            begin(
                world,
                run,
                body_of(self._records.store, unit.id),
                self._records.earlier(run.attempt),
            )
            self.hand.life.point()
            run = replace(run, attempt=replace(run.attempt, pid=1))
            self._records.note(
                run.attempt,
                Event.ATTEMPT_STARTED,
                replace(self._records.hook(), phase="working", since=now()),
            )
        await self._see_it_through(run)

    async def _see_it_through(self, run: Run) -> None:
        world, agent, stopped = self.hand.world, self.hand.world.agents[str(run.run_dir)], None
        while world.clock.elapsed < agent.ends and not agent.stopped:
            await anyio.sleep(min(5.0, agent.ends - world.clock.elapsed))
            if self._state.stopping is Stopping.LEAVE:
                return
            if stopped := self._records.ends(run):
                self.hand.life.point()
                agent.stopped = True
        ended, seen = agent.exit, agent.seen
        if agent.stopped:
            ended = Exit(cause="stopped", signal=15, at=now())
        elif ended.detail == "silent":
            stopped = EndReason.SILENT
        await self.hand.step(0.2)
        base = world.commits[run.attempt.base]
        changed = agent.files != base.files
        asked = Question(*agent.question) if agent.question else None
        box = Outbox(done=agent.done, question=asked, split=agent.split)
        taken = partial(is_taken, self._records.store, self._state.places)
        parts, _ = parts_of(run.unit, run.spec, box.split, store=self._records.store, taken=taken)
        made = world.commit(base.id, agent.files, said=str(run.run_dir))
        left = Left(
            ended=ended,
            seen=seen,
            box=box,
            snapshot=Snapshot(tree=made.tree, changed=changed),
            changed=changed,
            stopped=stopped,
            parts=parts,
        )
        reason = triage.classify(ending(run, left))
        attempt = replace(
            run.attempt,
            end=now(),
            reason=reason,
            detail=how_it_ended(reason, left),
            commit=made.id,
            tree=made.tree if changed else "",
            said=seen.result,
            session="s",
        )
        self.hand.life.point()
        if agent.reset_in is not None:
            seen.reset = now() + timedelta(seconds=agent.reset_in)
        self._settle(run, attempt, left)

    async def _rescued(self, lost: Attempt, aside: Any) -> Attempt:
        await self.hand.step(0.2)
        return lost


class SimulatedPool(Pool):
    """A pool that looks for earlier attempts in the world, where the real one looks into folders."""

    world: World

    def _newest_number(self, unit: str) -> int:
        begun = [Path(name) for name in self.world.agents]
        numbers = [int(path.name) for path in begun if path.parent.name == unit]
        return max((super()._newest_number(unit), *numbers))


class Line:
    """All the objects of one daemon; a new one for each start."""

    def __init__(
        self,
        store: MemoryStore,
        world: World,
        life: Life,
        settings: Mapping[str, Any],
        *,
        look: Callable[[], None],
        caught_up: Callable[[], None],
    ) -> None:
        self.life, self.world, self.caught_up = life, world, caught_up
        self.store = MortalStore(store, life, look)
        hand = Hand(world, life)
        self.state = StrictLive(
            settings=nested(settings, {}),
            places=Places(root=ROOT, common_dir=ROOT / ".git", work=ROOT / "work"),
            environ={},
        )
        self.escalations = Escalations(
            store=self.store, repair=self._repair, next_card=lambda count: count + 1
        )
        trunk, gates = cast("Any", Branch(hand)), cast("Any", Gates(hand))
        rulings = Rulings(store=self.store, own=trunk.own, shipped=SHIPPED)
        benches = cast("Any", Benches(self.state.settings.gates.benches))
        judge = Judge(trunk=trunk, benches=benches, gates=gates, rulings=rulings)
        trunk_judge = TrunkJudge(
            store=self.store, state=self.state, escalations=self.escalations, judge=judge
        )
        outcomes = Outcomes(
            store=self.store,
            state=self.state,
            escalations=self.escalations,
            hang=lambda name, text, at, ignored: self.intake.hang(name, text, at, ignored),
        )
        landings = Landings(store=self.store, trunk=trunk, escalations=self.escalations)
        self.queue = MergeQueue(
            store=self.store,
            state=self.state,
            landings=landings,
            trunk_judge=trunk_judge,
            escalations=self.escalations,
            outcomes=outcomes,
        )
        self.intake = Intake(
            inbox=ROOT / "inbox",
            folder=Path(_HUNG.name),
            store=self.store,
            acceptance=Acceptance(
                store=self.store, escalations=self.escalations, is_taken=self._is_taken
            ),
            tracked=cast("Any", None),
        )

        def make_worker(name: str) -> SimulatedWorker:
            nowhere = cast("Any", _Nowhere())
            made = SimulatedWorker(
                HookRecords(name, store=self.store, state=self.state),
                rulings=judge.rulings,
                workspaces=nowhere,
                launch=nowhere,
                outcomes=outcomes,
            )
            made.hand = hand
            return made

        self.pool = SimulatedPool(
            store=self.store,
            state=self.state,
            escalations=self.escalations,
            trunk_judge=trunk_judge,
            make_worker=make_worker,
            find_agents=self._agents,
        )
        self.pool.world = world
        self.requests = Requests(
            store=self.store,
            state=self.state,
            escalations=self.escalations,
            outcomes=outcomes,
            submissions=NothingSubmitted(),
            hang=lambda name, text, at: self.intake.hang(name, text, now=at),
        )
        self.standstill = Standstill(
            store=self.store, state=self.state, escalations=self.escalations, judge=judge
        )
        self.rescue = Rescue(store=self.store, gates=gates, landings=landings, outcomes=outcomes)

    async def run(self) -> None:
        """From start to stop, or to its death."""
        paused = self.store.get(Fact, "paused")
        self.state.paused = bool(paused and json.loads(paused.value))
        if recorded(self.store) is None:
            record(self.store, Identity(id="51b01a7e", root="/sim", git_dir="/sim/.git"), now=now())
        async with anyio.create_task_group() as group:
            await self.queue.watch.recognize(now(), at_start=True)
            await self.rescue.run(now())
            if await self.queue.look_at_trunk(group, now()):
                self.caught_up()
            group.start_soon(self._catch_up)
            group.start_soon(self._desk)
            group.start_soon(self.queue.run, group)
            group.start_soon(self.pool.run, group)
            group.start_soon(self.standstill.run)
            while self.state.stopping is Stopping.NO or (
                self.state.stopping is not Stopping.LEAVE
                and any(hook.unit for hook in self.store.select(Hook))
            ):
                await self.state.leaving.wait(30)
            group.cancel_scope.cancel()
        self.life.end()

    async def _desk(self) -> None:
        while True:
            await self.state.guarded("desk", self._look)
            await self.state.requests.wait(30)

    async def _look(self) -> None:
        self.requests.tick(now())

    async def _catch_up(self) -> None:
        """While trunk is renamed away, nothing of it can be read; nor is anything dispatched."""
        while not self.queue.lander.tip:  # noqa: ASYNC110 - virtual time
            await anyio.sleep(1)
        self.caught_up()

    def _agents(self) -> Agents:
        there = tuple(name for name in AGENTS if name not in self.world.missing)
        return Agents(
            "claude", {name: f"{name} is not installed" for name in self.world.missing}, there
        )

    def _is_taken(self, name: str) -> bool:
        return self.store.get(Unit, name) is not None

    def _repair(self, title: str, body: str, at: datetime) -> str:
        return self.intake.hang(
            "repair-trunk.md", f"---\ntitle: Repair\npriority: 0\n---\n{body or title}", now=at
        )


class _Nowhere:
    """Workspaces and environments, of which nothing is asked here but to put one aside."""

    def abandon(self, name: str) -> Path:
        return ROOT / name

    def where(self, name: str, nonce: str) -> str:
        return name

    def at(self, name: str) -> Workspace:
        return Workspace(name=name, place=ROOT / name)
