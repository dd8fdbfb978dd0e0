"""Proofs: they end with their units, begin in the order in which units start, and say that they run."""

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from factory.dispatch.proofs import BENCH
from factory.ground.daemon_state import Stopping
from factory.judging.ruled import Proof
from factory.people import cards as words
from factory.repo.benches import Yielding
from factory.store.journal import Event
from factory.store.records import CardKind
from factory.store.starts import TURN
from factory.store.unit import Unit, UnitState
from tests.accepted import accepted
from tests.dispatch.test_pool import Floor, ScriptedJudge, floor_in
from tests.on_record import NOW

RUNS = "accept runs on trunk since "
HELD, READY, WAITING = UnitState.HELD, UnitState.READY, UnitState.WAITING


class SlowJudge(ScriptedJudge):
    """Its proofs take a bench each, and run until the test lets them end."""

    def __init__(self, benches: int) -> None:
        super().__init__()
        self.benches = anyio.Semaphore(benches)
        self.running: dict[str, Yielding] = {}  # by the first command
        self._go: dict[str, anyio.Event] = {}

    async def prove(
        self, accept: Sequence[str], *, yielding: Yielding, begun: Callable[[float], None]
    ) -> Proof:
        command = accept[0]
        async with self.benches:
            self.asked.append(accept)
            begun(600)
            self.running[command] = yielding
            self._go[command] = anyio.Event()
            try:
                await self._go[command].wait()
            finally:
                del self.running[command]
        return self.proof

    def let_end(self, command: str) -> None:
        self._go[command].set()


class Court:
    """A line whose proofs take benches, and run until the test lets them end."""

    def __init__(self, floor: Floor, judge: SlowJudge) -> None:
        self.floor, self.judge = floor, judge
        self.unit, self.change, self.tick = floor.unit, floor.change, floor.tick
        self.state, self.states, self.the_unit = floor.state, floor.states, floor.the_unit

    def proves(self, name: str, **fields: Any) -> Unit:
        """A unit with a proof of its name."""
        return self.unit(name, text=f"---\naccept: {name}\n---\ndo it", **fields)

    def saved(self, name: str, text: str) -> None:
        """The task is saved again."""
        told = accepted(name, text, source=f"{name}.md")
        unit = self.the_unit(name)
        self.floor.store.write(Event.TASK_REPLACED, unit, *told, now=NOW, unit=name)

    async def ends(self, command: str) -> None:
        """A proof ends."""
        self.judge.let_end(command)
        await anyio.wait_all_tasks_blocked()
        await self.tick()

    def why(self, name: str) -> str:
        """What a person reads about the unit, without the time."""
        said = self.floor.why_not().get(name) or self.the_unit(name).why
        return RUNS if said.startswith(RUNS) else said


@pytest.fixture
async def court(tmp_path: Path) -> AsyncIterator[Court]:
    judge = SlowJudge(1)
    async with floor_in(tmp_path, judge) as floor:
        yield Court(floor, judge)


# ── its unit ──


@pytest.mark.parametrize("state", [UnitState.CANCELLED, HELD, WAITING])
async def test_a_proof_ends_with_its_unit(court: Court, state: UnitState) -> None:
    court.proves("serve")
    await court.tick()
    runs = [*court.judge.running]

    court.change("serve", state=state, needs=("ghost",) if state is WAITING else ())
    await court.tick()

    assert (runs, [*court.judge.running]) == (["serve"], [])
    assert court.judge.benches.value == 1


async def test_a_proof_ends_if_its_task_is_saved_without_it(court: Court) -> None:
    court.proves("serve")
    await court.tick()

    court.saved("serve", "do it")
    await court.tick()

    assert ([*court.judge.running], court.states()) == ([], {"serve": "running"})


async def test_a_proof_ends_if_its_task_is_saved_with_another_one(court: Court) -> None:
    court.proves("serve")
    await court.tick()

    court.saved("serve", "---\naccept: fails\n---\ndo it")
    await court.tick()

    assert [*court.judge.running] == ["fails"]


async def test_a_unit_that_waits_for_others_is_not_proven(court: Court) -> None:
    court.unit("first")
    court.proves("second", state=WAITING, needs=("first",))

    await court.tick()

    assert (court.judge.asked, court.states()["second"]) == ([], "waiting")


async def test_a_daemon_that_drains_ends_proofs_and_says_so(court: Court) -> None:
    court.proves("serve")
    await court.tick()

    court.state.stopping = Stopping.DRAIN
    await court.tick()

    assert ([*court.judge.running], court.why("serve")) == ([], TURN)


async def test_a_daemon_that_leaves_its_commands_to_the_next_one_ends_none(court: Court) -> None:
    court.proves("serve")
    await court.tick()

    court.state.stopping = Stopping.LEAVE
    await court.tick()

    assert [*court.judge.running] == ["serve"]


# ── its turn ──


async def test_proofs_begin_in_the_order_in_which_units_start(court: Court) -> None:
    court.proves("later", priority=3)
    court.proves("third", priority=3)
    court.proves("first", priority=1)
    await court.tick()
    court.proves("now", priority=0)
    await court.tick()
    before = {name: court.why(name) for name in court.states()}

    await court.ends("first")

    assert before == {"first": RUNS, "now": BENCH, "later": TURN, "third": TURN}
    assert (court.judge.asked, court.why("now")) == ([("first",), ("now",)], RUNS)
    assert court.states()["first"] == "running"


async def test_only_as_many_units_as_there_are_workers_are_proven_ahead(tmp_path: Path) -> None:
    judge = SlowJudge(9)
    async with floor_in(tmp_path, judge) as floor:
        court = Court(floor, judge)
        for name in "abcd":
            court.proves(name)

        await court.tick()

        assert [*judge.running] == ["a", "b"]


async def test_a_unit_that_starts_earlier_gets_the_bench_of_one_that_is_no_longer_next(
    tmp_path: Path,
) -> None:
    judge = SlowJudge(2)
    async with floor_in(tmp_path, judge) as floor:
        court = Court(floor, judge)
        court.proves("serve")
        court.proves("serve-too", priority=3)
        await court.tick()
        before = [*judge.running]

        court.proves("now", priority=0)
        await court.tick()

        assert (before, [*judge.running]) == (["serve", "serve-too"], ["serve", "now"])
        assert court.why("serve-too") == TURN


async def test_other_units_start_while_a_proof_runs(court: Court) -> None:
    court.proves("serve", priority=1)
    for name in ("a", "b", "c"):
        court.unit(name)

    await court.tick()

    assert court.states() == {
        "serve": "ready",
        "a": "running",
        "b": "running",
        "c": "ready",
    }
    assert court.why("serve") == RUNS


@pytest.mark.parametrize("stop", ["paused", "trunk is red", "overlaps"])
async def test_a_unit_that_would_get_no_hook_is_not_proven(court: Court, stop: str) -> None:
    court.judge.red = stop == "trunk is red"
    court.state.paused = stop == "paused"
    if stop == "overlaps":
        court.unit("first", scope=("src/**",))
    court.proves("serve", scope=("src/*.py",))

    await court.tick()

    assert court.judge.asked == []


async def test_a_proof_that_waits_for_a_bench_does_not_begin_while_the_line_is_paused(
    court: Court,
) -> None:
    court.proves("one")
    court.proves("two")
    await court.tick()
    court.state.paused = True
    await court.tick()

    court.judge.let_end("one")
    await court.tick()

    assert court.judge.asked == [("one",)]


async def test_a_proof_that_gave_way_waits_for_a_bench_again_and_its_patience_goes_on(
    court: Court,
) -> None:
    court.proves("fix")
    await court.tick()
    first = court.judge.running["fix"]
    async with anyio.create_task_group() as group:
        judged = anyio.Event()
        group.start_soon(_judge, court.judge.benches, judged)
        await anyio.wait_all_tasks_blocked()

        first.give_way()
        await anyio.wait_all_tasks_blocked()
        await court.tick()
        meanwhile = court.why("fix")
        judged.set()
    await court.tick()

    assert (meanwhile, court.why("fix")) == (BENCH, RUNS)
    assert court.judge.running["fix"].until == first.until
    assert court.judge.asked == [("fix",), ("fix",)]


async def _judge(benches: anyio.Semaphore, judged: anyio.Event) -> None:
    async with benches:
        await judged.wait()


# ── its end ──


async def test_why_names_the_limit_of_a_proof_that_runs(court: Court) -> None:
    court.proves("serve")

    await court.tick()

    said = court.floor.why_not()["serve"]
    assert said.startswith(RUNS)
    assert said.endswith(" UTC, for at most 10 min")


async def test_a_command_that_does_not_end_on_trunk_is_a_card_and_no_attempt(court: Court) -> None:
    court.proves("serve")
    court.judge.proof = Proof(commit="t" * 40, endless="serve")
    await court.tick()

    await court.ends("serve")

    assert (court.the_unit("serve").state, court.the_unit("serve").attempt) == (HELD, 0)
    assert court.floor.open_cards() == [("E1", CardKind.ACCEPT, ("serve",))]
    assert "did not end on trunk" in court.floor.the_card().question
    court.floor.escalations.answer("E1", "2", now=NOW)
    await court.tick()
    assert (court.states(), len(court.judge.asked)) == ({"serve": "running"}, 1)


def test_the_card_says_how_to_correct_the_task() -> None:
    unit = Unit(id="web", title="web", state=READY, since=NOW, accepted=NOW)

    ask = words.endless_proof(unit, "python -m http.server")

    assert ask.question == (
        "web: its accept command `python -m http.server` did not end on trunk. Does it ever end?"
    )
    assert "save the task file again" in ask.evidence
