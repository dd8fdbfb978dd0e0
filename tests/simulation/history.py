"""One history: units, a person's deeds and the daemon's deaths as planned, the rest by a seed; then calm until all is
done. The same plan gives the same history."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from random import Random
from typing import Any

import anyio
from anyio import from_thread  # noqa: F401 - imported before time is virtual

from factory.child import process
from factory.child.process import Exit
from factory.ground.daemon_state import CLOCK, Stopping
from factory.store import records
from factory.store.accepted import spec_again
from factory.store.journal import Event
from factory.store.records import Card, Hook, Request
from factory.store.spec import Spec
from factory.store.unit import FINAL, Unit
from tests.journal import entries_of
from tests.memory_store import MemoryStore
from tests.simulation.agents import KINDS
from tests.simulation.clock import Clock
from tests.simulation.laws import Laws
from tests.simulation.line import Line
from tests.simulation.world import AGENTS, GATES, Died, Life, Violated, World

CALM_SECONDS = 12 * 3600.0  # by then everything that can be done must be done
DEEDS = (
    *("answer", "answer", "answer", "say", "cancel", "retry", "tell", "pause", "resume"),
    *(
        "commit",
        "break trunk",
        "mend trunk",
        "take back",
        "rewrite gates",
        "rename trunk",
        "dirty",
        "clean",
        "rebase",
    ),
    *(
        "workers",
        "uninstall",
        "install",
        "break setup",
        "mend setup",
        "jump",
        "stop",
        "restart",
        "drain",
        "reboot",
    ),
    *(
        "damage",
        "spoil",
        "lose writes",
        "put back a copy",
        "pull with rebase",
        "pull a colleague's",
    ),
)
HEADS = (
    *(
        "",
        "",
        "",
        "",
        "needs: [{earlier}]",
        "scope: [src/**]",
        "scope: [lib/*]",
        "accept: test -e proof-{name}",
    ),
    *("priority: 0", "review: required", "agent: codex", "allow: edit-gates", "priority: 4"),
)


@dataclass(frozen=True, slots=True)
class Task:
    """A unit that is dropped `after` so many seconds: its front matter, and what its agents do one after the other."""

    after: float
    head: str
    script: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Deed:
    """What a person does `after` so many seconds; `which` chooses among what it can be done to."""

    after: float
    what: str
    which: int


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is chosen about a history."""

    seed: int
    tasks: tuple[Task, ...]
    deeds: tuple[Deed, ...] = ()
    deaths: tuple[int, ...] = ()  # how many points each daemon lives
    workers: int = 2
    benches: int = 2


def plan_of(seed: int) -> Plan:
    """The plan that a seed stands for."""
    chance = Random(seed)
    tasks = tuple(
        Task(chance.choice([0.0, 0.0, 60.0, 600.0]), chance.choice(HEADS), _script(chance))
        for _ in range(chance.randint(1, 7))
    )
    deeds = tuple(
        Deed(
            chance.choice([0.1, 1.0, 10.0, 60.0, 300.0]),
            chance.choice(DEEDS),
            chance.randrange(1000),
        )
        for _ in range(chance.randint(0, 25))
    )
    deaths = tuple(
        chance.choice([chance.randint(1, 60), chance.randint(60, 600)])
        for _ in range(chance.randint(0, 4))
    )
    return Plan(seed, tasks, deeds, deaths, chance.randint(1, 4), chance.randint(1, 3))


def _script(chance: Random) -> tuple[str, ...]:
    return tuple(chance.choice(KINDS) for _ in range(chance.randint(0, 5)))


class Broken(AssertionError):
    """A law did not hold in a history."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a history came to."""

    steps: int  # after each of which the laws were looked at
    attempts: int
    landed: int
    deaths: int
    seconds: int  # virtual


def play(plan: Plan) -> Told:
    """Play one history; raise Broken (or whatever broke) where a law did not hold."""
    return history_of(plan).told()


def history_of(plan: Plan, *, calm: bool = False) -> "History":
    """The history, played; `calm`: nothing goes wrong by chance."""
    clock = Clock()
    history = History(plan, clock)
    history.world.calm = calm
    set_clock = CLOCK.set(clock.wall)
    kept, process.end = process.end, _ended
    try:
        anyio.run(history.play, backend_options={"loop_factory": clock.loop})
        return history
    except (BaseExceptionGroup, Violated) as group:
        raise Broken(repr(_first(group))) from group
    finally:
        process.end = kept
        CLOCK.reset(set_clock)


async def _ended(run_dir: Path) -> bool:
    """The world ends its own agents."""
    return True


def _first(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        broken = [each for each in group.exceptions if not isinstance(each, Died)] or [
            *group.exceptions
        ]
        group = broken[0]
    return group


class History:
    """What is played."""

    def __init__(self, plan: Plan, clock: Clock) -> None:
        self.plan, self.clock = plan, clock
        self.store = MemoryStore()
        self.world = World(clock, Random(plan.seed), let_through=self._let_through)
        self.world.interrupt = self._interrupt
        self.laws = Laws(self.store, self.world)
        self.settings = {"workers": plan.workers, "gates.benches": plan.benches}
        self.line: Line | None = None
        self.deaths = 0
        self.downtime = 0.5
        self.names: list[str] = []
        self.lost: int | None = (
            None  # so many of the store's last transactions go with the daemon that runs
        )

    async def play(self) -> None:
        """From the first start until all units are final."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._daemons)
            async with anyio.create_task_group() as busy:
                busy.start_soon(self._drop)
                busy.start_soon(self._person)
            await self._calm()
            group.cancel_scope.cancel()
        self.laws.at_the_end()

    def told(self) -> Told:
        """How much it was."""
        started, landed = len(self.world.started), len(self.world.landed)
        return Told(self.laws.steps, started, landed, self.deaths, int(self.clock.elapsed))

    # ── the daemon, one after the other ──

    async def _daemons(self) -> None:
        deaths = iter(self.plan.deaths)
        while True:
            if self.lost is not None:
                self._lose(self.lost)
                self.lost = None
            life = Life(0 if self.world.calm else next(deaths, 0))
            self.line = Line(
                self.store,
                self.world,
                life,
                self.settings,
                look=self.laws.look,
                caught_up=self.laws.caught_up,
            )
            try:
                await self.line.run()
            except* Died:
                self.deaths += 1
            finally:
                life.end()
            self.line = None
            self.laws.look()
            self.laws.at_the_end()
            await anyio.sleep(self.downtime)
            self.downtime = 0.5

    def _lose(self, transactions: int) -> None:
        """Writes are lost, but no acceptance: the taken file is found by another test. Nobody's agents are ended."""
        accepted = [
            entry.seq for entry in entries_of(self.store) if entry.event is Event.TASK_ACCEPTED
        ]
        self.store.lose(transactions, keep=max(accepted, default=2))
        held = {(hook.unit, hook.attempt) for hook in self.store.select(Hook)}
        for name, agent in self.world.agents.items():
            unit, number = Path(name).parts[-2:]
            if (unit, int(number)) not in held and agent.ends > self.clock.elapsed:
                agent.ends, agent.stopped = self.clock.elapsed, True
        self.laws.lost_writes()

    # ── units ──

    async def _drop(self) -> None:
        for at, task in enumerate(self.plan.tasks):
            await anyio.sleep(task.after)
            await self._up()
            name, earlier = f"u{at}", self.names[-1] if self.names else ""
            head = task.head.format(earlier=earlier, name=name)
            text = f"---\n{head}\n---\nDo it.\nscript: {', '.join(task.script)}\n"
            assert self.line is not None
            try:
                self.names.append(self.line.intake.hang(f"{name}.md", text, now=self.clock.wall()))
            except Died:
                continue
            self.line.state.pool.send()

    async def _up(self) -> None:
        while self.line is None or not self.line.life.alive:  # noqa: ASYNC110 - virtual time
            await anyio.sleep(0.5)

    # ── the person ──

    async def _person(self) -> None:
        for deed in self.plan.deeds:
            await anyio.sleep(deed.after)
            _DEEDS[deed.what](self, deed.which)
            self._ring()

    def ask(self, kind: str, **args: Any) -> None:
        """A command writes a request."""
        number = len(self.store.select(Request)) + 1
        request = Request(id=number, kind=kind, args=json.dumps(args), at=self.clock.wall())
        self.store.write(Event.REQUEST_MADE, request, now=self.clock.wall())

    def _ring(self) -> None:
        if self.line:
            self.line.state.requests.send()
            self.line.state.queue.send()

    def _interrupt(self) -> None:
        for unit in self.store.select(Unit, state="queued"):
            self.ask("cancel", unit=unit.id)
        self._ring()

    def _let_through(self, unit: str) -> bool:
        found = self.store.get(Unit, unit)
        return found is not None and "trunk_red" in found.approved

    def _mend_tasks(self) -> None:
        """Take the key that no release knows out of each task, as a person would."""
        for task in self.store.select(records.Task):
            mended = replace(task, text=task.text.replace("---\ncolour: red\n---\n", ""))
            if mended != task:
                self.store.write(
                    Event.TASK_REPLACED,
                    *_read_again(self, mended),
                    now=self.clock.wall(),
                    unit=task.unit,
                )

    async def _calm(self) -> None:
        """Nothing goes wrong any more and the person answers: all units must become final."""
        while self.lost is not None:  # noqa: ASYNC110 - virtual time
            await anyio.sleep(1)
        world, ends = self.world, self.clock.elapsed + CALM_SECONDS
        by_a_day = (0,) if world.calm else (0, 0, -86_400, 86_400)
        self.clock.jump(world.chance.choice(by_a_day))
        world.calm, world.gone, world.busy, world.setup_broken = True, False, "", False
        world.dirty.clear()
        world.missing.clear()
        self._mend_tasks()
        for what in ("rewrite gates", "mend trunk", "resume"):
            _DEEDS[what](self, 0)
        while any(unit.state not in FINAL for unit in self.store.open(Unit)):
            if self.clock.elapsed > ends:
                raise Violated(f"stuck: {self.laws.stuck()}")
            for card in [] if self.store.open(Request) else self.store.open(Card):
                actions = {option.action: option.key for option in card.options}
                first = (
                    ("approve",)
                    if card.kind == "review"
                    else ("afresh", "recheck", "retry", "rerun", "answer")
                )
                wanted = (*first, "unneed", "approve", "wait", "cancel")
                self.ask(
                    "answer",
                    card=card.id,
                    option=next(actions[each] for each in wanted if each in actions),
                )
            self._ring()
            await anyio.sleep(60)


# ── deeds ──


def _some(things: Sequence[Any], which: int) -> Any:
    return things[which % len(things)] if things else None


def _answer(history: History, which: int) -> None:
    if card := _some(history.store.open(Card), which):
        history.ask("answer", card=card.id, option=_some(card.options, which // 7).key)


def _say(history: History, which: int) -> None:
    if card := _some(history.store.open(Card), which):
        history.ask("answer", card=card.id, text="do it the other way")


def _to_a_unit(kind: str, **more: str) -> Any:
    def deed(history: History, which: int) -> None:
        if unit := _some(history.store.select(Unit), which):
            history.ask(kind, unit=unit.id, **more)

    return deed


def _asks(kind: str) -> Any:
    return lambda history, which: history.ask(kind)


def _commits(**files: str) -> Any:
    def deed(history: History, which: int) -> None:
        world = history.world
        if not world.gone:
            below = world.commits[world.reflog[-1]]
            world.reflog.append(
                world.commit(below.id, {**below.files, **files}, said=str(world.clock.elapsed)).id
            )

    return deed


def _mend_trunk(history: History, which: int) -> None:
    world = history.world
    if not world.gone:
        below = world.commits[world.reflog[-1]]
        files = {
            name: text.replace("BROKEN", "mended").replace("LINT", "mended")
            if name.endswith(".txt")
            else text
            for name, text in below.files.items()
        }
        world.reflog.append(world.commit(below.id, files, said=str(world.clock.elapsed)).id)


def _rebase(history: History, which: int) -> None:
    """What a pull with rebase does: the same commits, with their messages, on something that others committed."""
    world = history.world
    if world.gone:
        return
    ours = list(world.history(world.reflog[-1]))
    depth = min(1 + which % 3, len(ours) - 1)
    below = world.commits[ours[depth].id]
    fresh = world.commit(below.id, {**below.files, "theirs.txt": str(which)}, said="theirs")
    for each in reversed(ours[:depth]):
        files = {**each.files, "theirs.txt": str(which)}
        fresh = world.commit(fresh.id, files, unit=each.unit, said=each.text)
    world.reflog.append(fresh.id)


def _colleague(history: History, which: int) -> None:
    """A commit of another factory, for a unit that is called like one of ours."""
    world, unit = history.world, _some(history.store.select(Unit), which)
    if unit is None or world.gone:
        return
    below = world.commits[world.reflog[-1]]
    marks = f"Factory-Unit: {unit.id}\nFactory-Attempt: {max(1, unit.attempt)}\nFactory-Run: c011ea61-{which}"
    files = {**below.files, "colleague.txt": str(which)}
    world.reflog.append(world.commit(below.id, files, said=f"theirs\n\n{marks}\n").id)


def _loses(most: int) -> Any:
    def deed(history: History, which: int) -> None:
        history.lost = which % most
        if history.line:
            history.line.life.end()

    return deed


def _take_back(history: History, which: int) -> None:
    world = history.world
    if not world.gone and (below := world.commits[world.reflog[-1]].parent):
        world.reflog.append(below)


def _sets(**values: Any) -> Any:
    def deed(history: History, which: int) -> None:
        for name, value in values.items():
            setattr(history.world, name, value)

    return deed


def _dirty(history: History, which: int) -> None:
    history.world.dirty.add(_some(["shared.txt", "u0.txt", "u1.txt", "u2.txt"], which))


def _workers(history: History, which: int) -> None:
    history.settings |= {"workers": which % 4 + 1}
    if history.line:
        history.line.state.settings = replace_settings(history, which % 4 + 1)
        history.line.state.wake_all()


def replace_settings(history: History, workers: int) -> Any:
    assert history.line is not None
    return replace(history.line.state.settings, workers=workers)


def _jump(history: History, which: int) -> None:
    history.clock.jump([-86_400, 86_400, -3600, 3600, -90, 90, -1, 1][which % 8])


def _damage(history: History, which: int) -> None:
    if unit := _some(history.store.select(Unit, state="queued"), which):
        history.world.damaged.add(unit.submission)


def _spoil(history: History, which: int) -> None:
    """Another release comes that refuses a task file which the one before took."""
    if unit := _some(history.store.open(Unit), which):
        task = history.store.get(records.Task, unit.id)
        assert task is not None
        spoilt = replace(task, text=f"---\ncolour: red\n---\n{task.text}")
        history.store.write(
            Event.TASK_REPLACED,
            *_read_again(history, spoilt),
            now=history.clock.wall(),
            unit=unit.id,
        )


def _read_again(history: History, task: records.Task) -> tuple[Spec, records.Task]:
    """What a migration makes of the task."""
    before = history.store.get(Spec, task.unit)
    assert before is not None
    return spec_again(task.text, unit=task.unit, name=before.name, source=before.source), task


def _stops(how: Stopping) -> Any:
    def deed(history: History, which: int) -> None:
        if history.line:
            history.downtime = [0.5, 60.0, 3600.0][which % 3]
            history.line.state.stopping = how
            history.line.state.wake_all()

    return deed


def _reboot(history: History, which: int) -> None:
    world = history.world
    for agent in world.agents.values():
        if agent.ends > world.clock.elapsed:
            agent.ends, agent.done = world.clock.elapsed, ""
            agent.exit = Exit(
                cause="lost", at=world.clock.wall(), detail="the machine was restarted"
            )
    if history.line:
        history.line.life.end()


_DEEDS: dict[str, Any] = {
    "answer": _answer,
    "say": _say,
    "cancel": _to_a_unit("cancel"),
    "retry": _to_a_unit("retry"),
    "tell": _to_a_unit("tell", text="by the way"),
    "pause": _asks("pause"),
    "resume": _asks("resume"),
    "commit": _commits(**{"shared.txt": "a person was here\n"}),
    "break trunk": _commits(**{"story.txt": "BROKEN\n"}),
    "mend trunk": _mend_trunk,
    "take back": _take_back,
    "rewrite gates": _commits(**GATES),
    "rename trunk": lambda history, which: setattr(history.world, "gone", not history.world.gone),
    "dirty": _dirty,
    "clean": lambda history, which: history.world.dirty.clear(),
    "rebase": lambda history, which: setattr(
        history.world, "busy", "" if history.world.busy else "main is rebased"
    ),
    "workers": _workers,
    "uninstall": lambda history, which: history.world.missing.add(_some(AGENTS, which)),
    "install": lambda history, which: history.world.missing.clear(),
    "break setup": _sets(setup_broken=True),
    "mend setup": _sets(setup_broken=False),
    "jump": _jump,
    "stop": _stops(Stopping.HAND_BACK),
    "restart": _stops(Stopping.LEAVE),
    "drain": _stops(Stopping.DRAIN),
    "reboot": _reboot,
    "damage": _damage,
    "spoil": _spoil,
    "lose writes": _loses(20),
    "put back a copy": _loses(300),
    "pull with rebase": _rebase,
    "pull a colleague's": _colleague,
}
assert _DEEDS.keys() == set(DEEDS)


def shrink(plan: Plan) -> Plan:
    """A smaller plan that breaks as well: whatever can be left out is, for a minute."""
    smaller, until = True, time.monotonic() + 60
    while smaller and time.monotonic() < until:
        smaller = False
        for less in _less(plan):
            if fails(less):
                plan, smaller = less, True
                break
    return plan


def _less(plan: Plan) -> list[Plan]:
    found = []
    for part in fields(Plan):
        value = getattr(plan, part.name)
        if isinstance(value, tuple):
            less: list[Any] = [value[:at] + value[at + 1 :] for at in range(len(value))]
            found += [replace(plan, **{part.name: each}) for each in less]
    for at, task in enumerate(plan.tasks):
        for simple in (
            replace(task, script=task.script[:-1]),
            replace(task, head=""),
            replace(task, after=0.0),
        ):
            if simple != task:
                found.append(replace(plan, tasks=(*plan.tasks[:at], simple, *plan.tasks[at + 1 :])))
    return [less for less in found if less.tasks]


def fails(plan: Plan) -> str:
    """How it breaks; empty where it does not."""
    try:
        play(plan)
    except Exception as error:  # noqa: BLE001 - whatever breaks is what is looked for
        return f"{type(error).__name__}: {error}"
    return ""
