"""The pool: as many workers as wanted, a full hook has a run, and one cause keeps many units off with one card."""

import errno
import json
import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from anyio.abc import TaskGroup

from factory.dispatch import scheduling, waits
from factory.dispatch.agents import Agents
from factory.dispatch.pool import Pool
from factory.ground import claims
from factory.ground.conventions import Convention, Conventions
from factory.ground.daemon_state import Stopping
from factory.ground.settings import Budget, Settings
from factory.ground.signal import Signal
from factory.ground.times import stamp
from factory.inference.rules import Gate, Rules
from factory.judging.ruled import Proof
from factory.judging.rulings import Ruling
from factory.people import cards as words
from factory.people import line_cards
from factory.people.causes import TRUNK_RED, Ask
from factory.people.line_cards import RedTrunk
from factory.store.fact_values import value_of
from factory.store.journal import Event
from factory.store.records import Attempt, Card, CardKind, Fact, Hook
from factory.store.spec import Spec
from factory.store.starts import FACT, PROOFS, Conditions, contenders, reasons
from factory.store.unit import EndReason, Unit, UnitState, advance
from tests.accepted import accepted
from tests.floor import time_passes
from tests.journal import entries_of
from tests.on_record import NOW, OnRecord, later

HELD, WAITING, READY, QUEUED, RUNNING = (
    UnitState.HELD,
    UnitState.WAITING,
    UnitState.READY,
    UnitState.QUEUED,
    UnitState.RUNNING,
)
GATED = Ruling(
    Rules(
        gates=(
            Gate(name="test", group=20, command=("true",), reason="conventions/gates/20-test.sh"),
        )
    ),
    Conventions({}),
)
CLAUDE = Agents(default="claude", missing={}, installed=("claude", "codex"))


class ScriptedJudge:
    """What the pool asks a judge, its rulings and trunk's judge for, said by the test."""

    def __init__(self) -> None:
        self.blocked: Ask | None = None
        self.red = False
        self.ruled: Ruling | None = GATED
        self.proof = Proof(commit="t" * 40)
        self.meanwhile: Callable[[], object] = lambda: None
        self.asked: list[Sequence[str]] = []

    @property
    def judge(self) -> "ScriptedJudge":
        return self

    @property
    def rulings(self) -> "ScriptedJudge":
        return self

    @property
    def current(self) -> Ruling | None:
        return self.ruled

    @property
    def obstacle(self) -> Ask | None:
        return self.blocked

    @property
    def is_red(self) -> bool:
        return self.red

    def ask(self, at: datetime) -> None:
        """A red trunk has a card here."""

    async def prove(
        self, accept: Sequence[str], *, yielding: Any, begun: Callable[[float], None]
    ) -> Proof:
        self.asked.append(accept)
        begun(600)
        await anyio.lowlevel.checkpoint()
        self.meanwhile()
        return self.proof


class ScriptedWorker:
    """A worker that does nothing but count how often it was woken."""

    def __init__(self, name: str, line: OnRecord) -> None:
        self.name, self._line = name, line
        self.busy = False
        self.woken = 0
        self.state = "new"
        self._bell = Signal()

    async def run(self) -> None:
        """Until the hook is gone."""
        self.state = "running"
        while self._line.the_hook(self.name).state != "gone":
            await self._bell.wait()
        self.state = "gone"

    def wake(self) -> None:
        """Look at the hook again."""
        self.woken += 1
        self._bell.send()


class Floor(OnRecord):
    """A line with a pool."""

    def __init__(
        self, folder: Path, group: TaskGroup, judge: ScriptedJudge, **settings: Any
    ) -> None:
        super().__init__(folder, **settings)
        self.judge, self.agents = judge, CLAUDE
        self.workers: list[ScriptedWorker] = []
        self.group = group
        self.pool = Pool(
            store=self.store,
            state=self.state,
            escalations=self.escalations,
            trunk_judge=cast("Any", self.judge),
            make_worker=self._make_worker,
            find_agents=lambda: self.agents,
        )

    async def tick(self, at: datetime = NOW) -> None:
        """Tick until the pool is quiet, as its loop does."""
        for _ in range(30):
            self.pool.tick(self.group, at)
            await anyio.wait_all_tasks_blocked()
            if not await self.state.pool.wait(0):
                return
        raise AssertionError("the pool never becomes quiet")

    def resize(self, workers: int) -> None:
        """As an edit of factory.toml does."""
        self.state.settings = Settings(workers=workers)

    def empty(self, worker: str, state: UnitState = READY) -> None:
        """What a run's end does."""
        hook = self.the_hook(worker)
        unit = advance(self.the_unit(hook.unit), state, now=NOW)
        left = replace(
            hook, unit="", attempt=0, state="draining" if hook.state == "draining" else "idle"
        )
        self.store.write(Event.ATTEMPT_ENDED, unit, left, now=NOW, unit=unit.id)

    def empty_hook(self, worker: str) -> None:
        """What a run's end does to the hook alone."""
        left = replace(self.the_hook(worker), unit="", attempt=0, state="idle")
        self.store.write(Event.ATTEMPT_ENDED, left, now=NOW)

    def hooks(self) -> dict[str, tuple[str, str]]:
        """Worker → (state, unit)."""
        return {hook.worker: (hook.state, hook.unit) for hook in self.store.select(Hook)}

    def states(self) -> dict[str, str]:
        """Unit → state."""
        return {unit.id: str(unit.state) for unit in self.store.select(Unit)}

    def why_not(self) -> dict[str, str]:
        """Why each ready unit does not start, as `factory status` derives it."""
        fact = self.store.get(Fact, FACT)
        assert fact is not None
        conditions = Conditions(**json.loads(fact.value))
        units, asked = [], {}
        for unit in self.store.open(Unit):
            units.append(asdict(unit) | {"accepted": stamp(unit.accepted)})
        for spec in self.store.select(Spec):
            asked[spec.unit] = {"model": spec.model, "accept": spec.accept}
        is_free = any(hook.state == "idle" for hook in self.store.select(Hook))
        some = contenders(units, conditions, asked)
        proofs = value_of(self.store, PROOFS, {})
        return reasons(some, conditions, is_free=is_free, proofs=proofs, now=NOW)

    def written(self) -> int:
        """How many entries the journal has."""
        return len(list(entries_of(self.store)))

    def worker(self, name: str) -> ScriptedWorker:
        """The newest of that name."""
        return [each for each in self.workers if each.name == name][-1]

    def _make_worker(self, name: str) -> ScriptedWorker:
        self.workers.append(ScriptedWorker(name, self))
        return self.workers[-1]


@asynccontextmanager
async def floor_in(
    folder: Path, judge: ScriptedJudge | None = None, **settings: Any
) -> AsyncIterator[Floor]:
    async with anyio.create_task_group() as group:
        yield Floor(folder, group, judge or ScriptedJudge(), **({"workers": 2} | settings))
        group.cancel_scope.cancel()


@pytest.fixture
async def floor(tmp_path: Path) -> AsyncIterator[Floor]:
    async with floor_in(tmp_path) as floor:
        yield floor


# ── size ──


async def test_there_are_as_many_workers_as_wanted_each_with_a_hook(floor: Floor) -> None:
    await floor.tick()
    await floor.tick()

    assert floor.hooks() == {"w1": ("idle", ""), "w2": ("idle", "")}
    assert [(worker.name, worker.state) for worker in floor.workers] == [
        ("w1", "running"),
        ("w2", "running"),
    ]
    assert [hook.index for hook in floor.store.select(Hook)] == [1, 2]


async def test_a_quiet_pool_writes_nothing(floor: Floor) -> None:
    floor.unit("waits", READY, needs=("ghost",))
    await floor.tick()
    before = floor.events()

    await floor.tick()
    await floor.tick(later(3600))

    assert floor.events() == before


async def test_it_grows_by_as_many_as_are_missing(floor: Floor) -> None:
    await floor.tick()
    floor.resize(4)

    await floor.tick()

    assert list(floor.hooks()) == ["w1", "w2", "w3", "w4"]
    assert [worker.name for worker in floor.workers] == ["w1", "w2", "w3", "w4"]


async def test_it_shrinks_at_once_by_those_that_are_free(floor: Floor) -> None:
    await floor.tick()
    floor.resize(1)

    await floor.tick()

    assert floor.hooks() == {"w1": ("idle", ""), "w2": ("gone", "")}
    assert floor.worker("w2").state == "gone"


async def test_one_that_works_finishes_first_and_takes_no_more(floor: Floor) -> None:
    for name in ("a", "b"):
        floor.unit(name)
    await floor.tick()
    floor.resize(1)
    await floor.tick()
    assert floor.hooks()["w2"] == ("draining", "b")
    assert floor.worker("w2").state == "running"

    floor.empty("w2")
    await floor.tick()

    assert floor.hooks() == {"w1": ("running", "a"), "w2": ("gone", "")}
    assert floor.worker("w2").state == "gone"
    assert floor.states()["b"] == "ready"


async def test_wanted_again_while_it_drains_it_stays(floor: Floor) -> None:
    floor.unit("a")
    floor.unit("b")
    await floor.tick()
    floor.resize(1)
    await floor.tick()
    floor.resize(2)

    await floor.tick()

    assert floor.hooks()["w2"] == ("running", "b")
    assert len(floor.workers) == 2


async def test_wanted_again_after_it_went_there_is_a_new_one(floor: Floor) -> None:
    await floor.tick()
    for workers in (1, 2):
        floor.resize(workers)
        await floor.tick()

    assert floor.hooks()["w2"] == ("idle", "")
    assert [(worker.name, worker.state) for worker in floor.workers] == [
        ("w1", "running"),
        ("w2", "gone"),
        ("w2", "running"),
    ]


async def test_one_that_drained_when_an_earlier_daemon_died_gets_its_worker(floor: Floor) -> None:
    floor.running("a", worker="w7")
    floor.store.write(Event.WORKER_LEFT, replace(floor.the_hook("w7"), state="draining"), now=NOW)

    await floor.tick()

    assert floor.worker("w7").state == "running"
    assert floor.hooks()["w7"] == ("draining", "a")


# ── dispatch ──


async def test_a_ready_unit_hangs_on_a_free_hook_in_one_transaction(floor: Floor) -> None:
    floor.unit("fix", attempt=2)

    await floor.tick()

    unit, attempt = floor.the_unit(), floor.the_attempt("fix", 3)
    assert (unit.state, unit.attempt, unit.why) == (RUNNING, 3, "attempt 3 on w1")
    assert (attempt.worker, attempt.agent, attempt.start, attempt.end) == (
        "w1",
        "claude",
        NOW,
        None,
    )
    assert re.fullmatch("00000000-[0-9a-f]{8}", attempt.nonce)
    assert floor.the_hook() == Hook(
        worker="w1",
        index=1,
        unit="fix",
        attempt=3,
        state="running",
        phase="preparing",
        since=NOW,
        workspace="w1",
    )
    filled = next(entry for entry in entries_of(floor.store) if entry.event is Event.HOOK_FILLED)
    assert sorted(table for table, _ in filled.changes) == ["attempt", "hook", "unit"]
    assert floor.worker("w1").woken == 1


async def test_one_hook_holds_one_unit_and_the_others_are_told_why(floor: Floor) -> None:
    for name in ("a", "b", "c"):
        floor.unit(name)

    await floor.tick()

    assert floor.hooks() == {"w1": ("running", "a"), "w2": ("running", "b")}
    assert floor.the_unit("c").state is READY
    assert floor.why_not() == {"c": "waits for a free worker"}


async def test_a_landing_rewrites_no_unit_of_a_queue_of_overlapping_units(floor: Floor) -> None:
    for number in range(100):
        floor.unit(f"u{number:02}", scope=("src/**", f"docs/{number}.md"))
    await floor.tick()
    assert list(floor.states().values()).count("running") == 1
    before, compiled = floor.written(), claims._cached_ends.cache_info().misses

    floor.change("u00", state=UnitState.LANDED)
    floor.empty_hook("w1")
    await floor.tick()

    # The landing, the hook that became empty, and the hook of the next unit.
    assert floor.written() == before + 3
    assert claims._cached_ends.cache_info().misses == compiled
    assert floor.why_not()["u99"] == "its scope overlaps the scope of u01, which goes first"


async def test_no_more_units_than_hooks_are_looked_at(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(100):
        floor.unit(f"u{number:02}", scope=(f"src/{number}/**",))
    asked = list[str]()

    class Counting(claims.Claims):
        def owner(self, globs: Iterable[str]) -> str:
            asked.extend(globs)
            return super().owner(globs)

    monkeypatch.setattr(scheduling, "Claims", Counting)

    await floor.tick()

    assert len(asked) == 2


async def test_units_that_wait_for_one_cause_are_one_write_of_the_card_for_many(
    floor: Floor,
) -> None:
    for number in range(3 * waits.AT_ONCE // 2):
        floor.unit(f"u{number:03}")
    floor.judge.blocked = line_cards.no_gate()

    await floor.tick()

    ((_, _, units),) = floor.open_cards()
    assert len(units) == 3 * waits.AT_ONCE // 2
    events = floor.events()
    assert (events.count(Event.CARD_RAISED), events.count(Event.CARD_FOLDED)) == (1, 1)

    floor.judge.blocked = None
    before = floor.written()
    floor.pool.tick(floor.group, NOW)
    # One pass closes the card, releases a part of the units, and two of them start.
    assert floor.written() == before + 1 + waits.AT_ONCE + 2
    await floor.tick()

    assert "waiting" not in floor.states().values()


async def test_a_unit_that_names_its_agent_gets_it(floor: Floor) -> None:
    floor.unit("fix", agent="codex")

    await floor.tick()

    assert floor.the_attempt().agent == "codex"


async def test_paused_nothing_starts_and_resumed_it_does(floor: Floor) -> None:
    floor.unit("fix")
    floor.state.paused = True
    await floor.tick()
    assert floor.states() == {"fix": "ready"}

    floor.state.paused = False
    await floor.tick()

    assert floor.states() == {"fix": "running"}


@pytest.mark.parametrize("how", [Stopping.DRAIN, Stopping.HAND_BACK, Stopping.LEAVE])
async def test_a_daemon_that_stops_takes_no_more(floor: Floor, how: Stopping) -> None:
    floor.unit("fix")
    floor.state.stopping = how

    await floor.tick()

    assert floor.states() == {"fix": "ready"}


async def test_before_trunk_was_looked_at_nothing_starts_and_nobody_is_blamed(floor: Floor) -> None:
    floor.unit("fix")
    floor.judge.ruled, floor.agents = None, Agents(default="", missing={})

    await floor.tick()

    assert (floor.states(), floor.open_cards()) == ({"fix": "ready"}, [])


async def test_while_trunk_is_red_only_what_is_urgent_starts(floor: Floor) -> None:
    floor.unit("usual")
    floor.unit("repair", priority=0)
    floor.judge.red = True

    await floor.tick()

    assert floor.states() == {"repair": "running", "usual": "ready"}
    assert "trunk is red" in floor.why_not()["usual"]


async def test_a_runtime_at_its_limit_starts_nothing_until_its_reset(floor: Floor) -> None:
    floor.unit("a")
    floor.unit("b", agent="codex")
    pauses = {"claude": {"since": stamp(NOW), "until": stamp(later(60)), "row": 0, "units": []}}
    floor.store.write(Event.FACT_CHANGED, Fact(name="pauses", value=json.dumps(pauses)), now=NOW)
    await floor.tick()
    assert floor.states() == {"a": "ready", "b": "running"}
    assert floor.pool._seconds_to_next(later(45)) == 15

    await floor.tick(later(60))

    assert floor.states() == {"a": "running", "b": "running"}


def rest(floor: Floor, **seconds: float) -> None:
    pauses = {
        name: {
            "since": stamp(NOW),
            "until": stamp(later(until)),
            "row": 0,
            "units": [],
            "why": "its limit is reached",
        }
        for name, until in seconds.items()
    }
    floor.store.write(Event.FACT_CHANGED, Fact(name="pauses", value=json.dumps(pauses)), now=NOW)


def agents_of(floor: Floor) -> dict[str, str]:
    return {each.unit: each.agent for each in floor.store.select(Attempt)}


STANDS_IN = "codex stands in: claude is paused until 2026-01-05 12:01:00 UTC: its limit is reached"


async def test_while_a_runtime_rests_the_next_takes_what_names_no_agent_or_model_and_then_it_returns(
    floor: Floor,
) -> None:
    floor.resize(9)
    floor.agents = replace(CLAUDE, fallback=("codex",))
    rest(floor, claude=60)
    floor.unit("any")
    floor.unit("named", agent="claude")
    floor.unit("model", text="---\nmodel: opus\n---\nDo it.\n")
    await floor.tick()

    assert floor.states() == {"any": "running", "named": "ready", "model": "ready"}
    assert (agents_of(floor), floor.pool.notices) == ({"any": "codex"}, [STANDS_IN])
    assert floor.the_unit("any").why == f"attempt 1 on w1: {STANDS_IN}"
    assert floor.why_not()["named"] == "its agent claude " + STANDS_IN.partition("claude ")[2]

    floor.unit("later")
    await floor.tick(later(60))

    assert agents_of(floor) == {
        "any": "codex",
        "named": "claude",
        "model": "claude",
        "later": "claude",
    }
    assert (floor.pool.notices, floor.open_cards()) == ([], [])


async def test_who_waits_for_one_runtimes_reset_goes_on_with_the_one_that_can_first(
    floor: Floor,
) -> None:
    limited = floor.unit("a", WAITING, attempt=1, not_before=later(60))
    ended = Attempt(
        unit="a", number=1, worker="w1", agent="claude", start=NOW, end=NOW, reason=EndReason.LIMIT
    )
    floor.store.write(Event.ATTEMPT_ENDED, limited, ended, now=NOW)
    rest(floor, claude=60, codex=30)
    floor.agents = replace(CLAUDE, fallback=("codex",))
    await floor.tick()
    assert floor.the_unit("a").not_before == later(30)
    assert [notice.split(" until")[0] for notice in floor.pool.notices] == [
        "claude is paused",
        "codex is paused",
    ]
    before = len(list(entries_of(floor.store)))
    await floor.tick(later(1))
    assert len(list(entries_of(floor.store))) == before

    await floor.tick(later(30))

    assert (floor.states(), floor.store.select(Attempt)[-1].agent) == ({"a": "running"}, "codex")


async def test_a_login_that_is_missing_stays_one_card_while_another_works(floor: Floor) -> None:
    floor.agents = replace(CLAUDE, fallback=("codex",))
    unit = floor.unit("a", WAITING, cause="runtime:claude")
    floor.raise_card(
        line_cards.runtime_trouble("claude", "claude is not logged in", evidence="401"), unit
    )
    await floor.tick()
    floor.unit("b")
    await floor.tick()
    assert agents_of(floor) == {"a": "codex", "b": "codex"}
    assert floor.open_cards() == [("E1", CardKind.RUNTIME, ())]
    assert floor.pool.notices == ["codex stands in: claude waits for E1"]

    floor.escalations.answer("E1", "1", now=NOW)
    floor.empty("w1")
    await floor.tick()

    assert floor.store.get(Attempt, "a", 2) == replace(
        floor.store.select(Attempt, unit="a")[-1], agent="claude"
    )


async def test_a_program_that_is_missing_is_no_card_while_another_works(floor: Floor) -> None:
    floor.agents = Agents(default="claude", missing={"claude": "It is gone."}, installed=("codex",))
    floor.unit("a")
    await floor.tick()
    assert floor.states() == {"a": "waiting"}

    floor.agents = replace(floor.agents, fallback=("codex",))
    await floor.tick()

    assert (agents_of(floor), floor.open_cards()) == ({"a": "codex"}, [])
    assert floor.pool.notices == ["codex stands in: It is gone."]


async def test_after_midnight_what_waited_for_the_days_money_goes_on_by_itself(
    tmp_path: Path,
) -> None:
    async with floor_in(tmp_path, budget=Budget(day_usd=1, day_minutes=90)) as floor:
        spent = {
            "cost_usd": 1.0,
            "day": f"{NOW:%Y-%m-%d}",
            "end": NOW,
            "reason": EndReason.SUBMITTED,
        }
        done = floor.unit("done", UnitState.LANDED)
        ended = Attempt(unit="done", number=1, worker="w1", agent="claude", start=NOW, **spent)  # type: ignore[arg-type]
        floor.store.write(Event.ATTEMPT_ENDED, done, ended, now=NOW)
        floor.unit("a")
        await floor.tick()
        assert (floor.states()["a"], [kind for _, kind, _ in floor.open_cards()]) == (
            "waiting",
            [CardKind.BUDGET],
        )
        midnight = NOW.replace(hour=0, minute=0) + timedelta(days=1)

        await floor.tick(midnight - timedelta(seconds=1))
        assert floor.states()["a"] == "waiting"
        await floor.tick(midnight)

        assert (floor.states()["a"], floor.open_cards()) == ("running", [])


async def test_a_default_at_its_deadline_sends_the_unit_on_in_the_same_pass(floor: Floor) -> None:
    unit = floor.unit("fix", HELD, attempt=1)
    floor.raise_card(words.question(unit, "?", ["A"], default="1", deadline_s=60), unit)
    await floor.tick(later(59))
    assert floor.states() == {"fix": "held"}

    await floor.tick(later(60))

    assert floor.states() == {"fix": "running"}


# ── GUPP ──


async def test_a_full_hook_with_nothing_under_way_is_woken_again(floor: Floor) -> None:
    floor.unit("fix")
    await floor.tick()
    assert floor.worker("w1").woken == 1

    await floor.tick(later(1))
    assert floor.worker("w1").woken == 1
    await floor.tick(later(3))
    assert floor.worker("w1").woken == 2

    floor.worker("w1").busy = True
    await floor.tick(later(6))
    assert floor.worker("w1").woken == 2


async def test_a_hook_that_an_earlier_daemon_filled_gets_its_worker_at_once_and_no_new_attempt(
    floor: Floor,
) -> None:
    floor.running("fix", number=2)

    await floor.tick()

    assert floor.worker("w1").state == "running"
    assert (floor.the_unit().attempt, floor.store.get(Attempt, "fix", 3)) == (2, None)


async def test_a_daemon_that_drains_still_sees_to_full_hooks(floor: Floor) -> None:
    floor.unit("fix")
    await floor.tick()
    floor.state.stopping = Stopping.DRAIN

    await floor.tick(later(3))

    assert floor.worker("w1").woken == 2


# ── needs ──


async def test_a_unit_waits_until_what_it_needs_has_landed(floor: Floor) -> None:
    floor.unit("base", QUEUED)
    floor.unit("fix", needs=("base",))
    await floor.tick()
    assert (floor.the_unit().state, floor.the_unit().why) == (
        WAITING,
        "needs base, which is queued",
    )

    floor.change("base", state=UnitState.LANDED)
    await floor.tick()

    assert floor.the_unit().state is RUNNING


async def test_a_need_that_was_cancelled_holds_the_unit(floor: Floor) -> None:
    floor.unit("base", UnitState.CANCELLED)
    floor.unit("fix", needs=("base",))

    await floor.tick()

    assert (floor.the_unit().state, floor.the_unit().why) == (
        HELD,
        "needs base, which was cancelled",
    )
    assert floor.open_cards() == [("E1", CardKind.QUESTION, ("fix",))]


async def test_a_person_may_let_it_go_on_without_but_not_without_the_others(floor: Floor) -> None:
    floor.unit("gone", UnitState.CANCELLED)
    floor.unit("base", QUEUED)
    floor.unit("fix", needs=("gone", "base"))
    await floor.tick()

    floor.escalations.answer("E1", "1", now=NOW)
    await floor.tick()

    assert (floor.the_unit().state, floor.the_unit().why) == (
        WAITING,
        "needs base, which is queued",
    )


async def test_a_unit_waits_for_its_time(floor: Floor) -> None:
    floor.unit("fix", WAITING, not_before=later(60))
    await floor.tick(later(59))
    assert floor.states() == {"fix": "waiting"}

    await floor.tick(later(60))

    assert floor.states() == {"fix": "running"}


# ── shared causes ──


def units(floor: Floor, names: Iterable[str], **fields: Any) -> None:
    for name in names:
        floor.unit(name, **fields)


async def test_without_a_gate_all_wait_on_one_card_and_go_on_when_there_is_one(
    floor: Floor,
) -> None:
    units(floor, "abcde")
    floor.judge.blocked = line_cards.no_gate()
    await floor.tick()
    assert floor.open_cards() == [("E1", CardKind.NO_GATE, ("a", "b", "c", "d", "e"))]
    assert floor.the_card().count == 5
    assert set(floor.states().values()) == {"waiting"}

    floor.judge.blocked = None
    await floor.tick()

    assert floor.open_cards() == []
    assert floor.states() == {
        "a": "running",
        "b": "running",
        "c": "ready",
        "d": "ready",
        "e": "ready",
    }


async def test_on_a_full_disk_nothing_starts_and_one_card_asks_until_there_is_room(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    units(floor, "ab")
    floor.state.places.home.mkdir()
    monkeypatch.setattr("factory.ground.disk.LEAST", 1 << 60)
    await floor.tick()
    mark = len(list(entries_of(floor.store)))
    await floor.tick()
    assert floor.open_cards() == [("E1", CardKind.DISK, ("a", "b"))]
    assert set(floor.states().values()) == {"waiting"}
    assert len(list(entries_of(floor.store))) == mark, (
        "on a full disk nothing is written that says nothing new"
    )

    monkeypatch.setattr("factory.ground.disk.LEAST", 0)
    await floor.tick()

    assert floor.open_cards() == []
    assert floor.states() == {"a": "running", "b": "running"}


async def test_where_writing_failed_for_want_of_room_the_card_stays_while_it_is_tried_again(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert floor.state.is_full(OSError(errno.EDQUOT, "used up"))
    await floor.tick()
    assert floor.open_cards() == [("E1", CardKind.DISK, ())]

    monkeypatch.setattr("factory.ground.daemon_state.FULL_SECONDS", 0)
    await floor.tick()

    assert floor.open_cards() == []


async def test_units_follow_from_an_obstacle_to_the_next_and_the_old_card_is_closed(
    floor: Floor,
) -> None:
    units(floor, "ab")
    floor.judge.blocked = line_cards.no_gate()
    await floor.tick()

    floor.judge.blocked = line_cards.wrong_rules("a.toml: nonsense")
    await floor.tick()
    wrong = floor.open_cards()
    floor.judge.blocked = line_cards.no_gate()
    await floor.tick()

    assert wrong == [("E2", CardKind.CONFIG, ("a", "b"))]
    assert floor.open_cards() == [("E3", CardKind.NO_GATE, ("a", "b"))]
    assert floor.the_unit("a").cause == "no_gate"


async def test_a_card_about_a_runtime_says_what_is_wrong_with_it_now(floor: Floor) -> None:
    units(floor, "a")
    floor.agents = Agents(default="claude", missing={"claude": "It is not on PATH."})
    await floor.tick()

    floor.agents = Agents(default="claude", missing={"claude": "claude.toml: nonsense"})
    await floor.tick()

    assert floor.open_cards() == [("E1", CardKind.RUNTIME, ("a",))]
    assert floor.the_card().question == "claude.toml: nonsense"


async def test_all_that_a_cause_stops_are_counted_in_one_pass_however_many_workers_there_are(
    floor: Floor,
) -> None:
    units(floor, (f"u{number}" for number in range(50)))
    floor.judge.blocked = line_cards.no_gate()

    floor.pool.tick(floor.group, NOW)

    assert floor.the_card().count == 50


async def test_a_unit_that_may_land_without_a_gate_is_not_stopped(floor: Floor) -> None:
    units(floor, "a")
    floor.judge.blocked = line_cards.no_gate()
    await floor.tick()
    floor.escalations.answer("E1", "2", now=NOW)

    await floor.tick()

    assert floor.states() == {"a": "running"}


async def test_a_missing_program_stops_its_units_only_and_on_one_card(floor: Floor) -> None:
    units(floor, "abc")
    floor.unit("d", agent="codex")
    floor.agents = Agents(
        default="claude", missing={"claude": "claude is not installed"}, installed=("codex",)
    )
    await floor.tick()
    assert floor.open_cards() == [("E1", CardKind.RUNTIME, ("a", "b", "c"))]
    assert floor.states() == {"a": "waiting", "b": "waiting", "c": "waiting", "d": "running"}

    floor.agents = CLAUDE
    await floor.tick()

    assert floor.open_cards() == []
    assert floor.states()["a"] == "running"


async def test_while_trunks_rules_are_being_read_no_card_about_an_agent_changes(
    floor: Floor,
) -> None:
    floor.unit("a")
    floor.unit("b", agent="ghost")
    floor.agents = Agents(
        default="claude", missing={"claude": "claude is not installed"}, installed=("codex",)
    )
    await floor.tick()
    cards = floor.store.select(Card)

    floor.judge.ruled, floor.agents = (
        None,
        Agents(default="", missing={}),
    )  # as after each commit to trunk
    await floor.tick(later(60))

    assert len(cards) == 2
    assert floor.store.select(Card) == cards


async def test_with_no_agent_at_all_there_is_one_card_until_one_is_installed(floor: Floor) -> None:
    units(floor, "ab")
    floor.agents = Agents(default="", missing={"claude": "claude is not installed"})
    await floor.tick()
    assert floor.open_cards() == [("E1", CardKind.RUNTIME, ("a", "b"))]
    assert floor.the_card().question.startswith("No agent program is installed")

    floor.agents = CLAUDE
    await floor.tick()

    assert floor.states() == {"a": "running", "b": "running"}


@pytest.mark.parametrize("agent", ["clawde", "none"])
async def test_an_agent_that_nobody_knows_is_a_card_and_not_an_endless_round(
    floor: Floor, agent: str
) -> None:
    floor.unit("fix", agent=agent)

    await floor.tick()
    await floor.tick(later(60))

    assert floor.open_cards() == [("E1", CardKind.RUNTIME, ("fix",))]
    assert f"There is no runtime {agent!r}" in floor.the_card().question
    assert (floor.states(), len(floor.store.select(Card))) == ({"fix": "waiting"}, 1)


async def test_units_are_looked_at_anew_when_another_agent_is_configured(floor: Floor) -> None:
    units(floor, "a")
    floor.agents = Agents(
        default="clde", missing={"clde": "There is no such file."}, installed=("claude",)
    )
    await floor.tick()
    assert floor.open_cards() == [("E1", CardKind.RUNTIME, ("a",))]

    floor.agents = CLAUDE
    await floor.tick()

    assert floor.open_cards() == []
    assert floor.states() == {"a": "running"}


async def test_a_login_that_is_missing_cannot_be_seen_so_its_card_stays(floor: Floor) -> None:
    unit = floor.unit("fix", WAITING, cause="runtime:claude")
    floor.raise_card(
        line_cards.runtime_trouble("claude", "claude is not logged in", evidence="401"), unit
    )
    await floor.tick()
    assert floor.states() == {"fix": "waiting"}

    floor.escalations.answer("E1", "1", now=NOW)
    await floor.tick()

    assert floor.states() == {"fix": "running"}


async def test_a_command_needs_no_agent(floor: Floor) -> None:
    floor.unit("fix", agent="run", text="---\nrun: 'true'\n---\n")
    floor.agents = Agents(default="", missing={})

    await floor.tick()

    assert (floor.states(), floor.the_attempt().agent) == ({"fix": "running"}, "run")


async def test_units_wait_on_one_card_about_a_prompt_until_trunk_has_another(floor: Floor) -> None:
    floor.raise_card(
        line_cards.wrong_prompt("unit.md, line 1: no", GATED.conventions.prompts_key),
        floor.unit("a"),
    )
    units(floor, "bc")
    await floor.tick()
    assert floor.open_cards() == [("E1", CardKind.CONFIG, ("a", "b", "c"))]
    assert set(floor.states().values()) == {"waiting"}

    mended = Conventions({"prompts/unit.md": Convention("x", "conventions/prompts/unit.md")})
    floor.judge.ruled = replace(GATED, conventions=mended)
    await floor.tick()

    assert floor.open_cards() == []
    assert sorted(floor.states().values()) == ["ready", "running", "running"]


async def test_what_was_submitted_goes_back_to_the_queue_when_its_cause_is_gone(
    floor: Floor,
) -> None:
    unit = floor.unit("fix", WAITING, cause="trunk_red", submission="c" * 40)
    trunk = RedTrunk(branch="main", commit="c" * 40, tail="", log="")
    red = line_cards.trunk_red(trunk, ["test"])
    floor.raise_card(red, unit)
    await floor.tick()
    assert floor.states() == {"fix": "waiting"}

    floor.escalations.close(TRUNK_RED, now=NOW, why="green")
    await floor.tick()

    assert (floor.the_unit().state, floor.the_unit().cause) == (QUEUED, "")
    assert await floor.state.queue.wait(0)


# ── accept ──

PROVED = "---\naccept: ['pytest -q']\n---\ndo it"


async def test_accept_is_seen_to_fail_before_anybody_is_sent(floor: Floor) -> None:
    floor.unit("fix", text=PROVED)

    await floor.tick()

    assert floor.judge.asked == [("pytest -q",)]
    assert (floor.the_unit().state, floor.the_unit().proven) == (RUNNING, "t" * 40)


async def test_accept_that_passes_already_is_a_card_and_no_attempt(floor: Floor) -> None:
    floor.unit("fix", text=PROVED)
    floor.judge.proof = Proof(commit="t" * 40, passing="pytest -q")
    await floor.tick()
    assert (floor.the_unit().state, floor.the_unit().attempt) == (HELD, 0)
    assert floor.open_cards() == [("E1", CardKind.ACCEPT, ("fix",))]

    floor.escalations.answer("E1", "2", now=NOW)
    await floor.tick()

    assert (floor.the_unit().state, len(floor.judge.asked)) == (RUNNING, 1)


async def test_where_accept_cannot_be_run_the_unit_waits_for_the_setup(floor: Floor) -> None:
    floor.unit("fix", text=PROVED)
    floor.judge.proof = Proof(
        commit="t" * 40, setup=line_cards.setup_failed(sentence="pip failed.")
    )

    await floor.tick()

    assert (floor.the_unit().state, floor.the_unit().cause) == (WAITING, "setup:pip failed.")
    assert floor.open_cards() == [("E1", CardKind.SETUP, ("fix",))]


async def test_accept_that_breaks_time_after_time_is_asked_about_and_the_others_start(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks() -> None:
        raise KeyError("no bench")

    monkeypatch.setattr("factory.ground.daemon_state.BROKEN_SECONDS", 0)
    floor.judge.meanwhile = breaks
    floor.unit("fix", text=PROVED)
    floor.unit("other", proven="x")
    await floor.tick()
    once = (len(floor.judge.asked), floor.the_unit("fix").why)

    for _ in range(2):
        time_passes(monkeypatch, 300)
        await floor.tick()

    assert once == (
        1,
        "its accept commands cannot run; factoryd tries them again: KeyError: 'no bench'",
    )
    assert (len(floor.judge.asked), floor.states()) == (3, {"fix": "waiting", "other": "running"})
    assert floor.open_cards() == [("E1", CardKind.CRASH_LOOP, ("fix",))]


async def test_a_unit_that_was_cancelled_while_it_was_proved_stays_so(floor: Floor) -> None:
    floor.unit("fix", text=PROVED)
    floor.judge.proof = Proof(commit="t" * 40, passing="pytest -q")
    floor.judge.meanwhile = lambda: floor.change("fix", state=UnitState.CANCELLED)

    await floor.tick()

    assert (floor.states(), floor.open_cards()) == ({"fix": "cancelled"}, [])


async def test_a_task_that_is_saved_anew_while_it_is_proved_is_proved_by_its_new_commands(
    floor: Floor,
) -> None:
    unit = floor.unit("fix", text=PROVED)
    floor.judge.proof = Proof(commit="t" * 40, passing="pytest -q")

    def saved() -> None:
        floor.judge.meanwhile, floor.judge.proof = lambda: None, Proof(commit="t" * 40)
        told = accepted("fix", "---\naccept: make check\n---\ndo it", source="2-fix.md")
        floor.store.write(Event.TASK_REPLACED, unit, *told, now=NOW, unit="fix")

    floor.judge.meanwhile = saved
    await floor.tick()

    assert floor.judge.asked[1:] == [("make check",)]
    assert (floor.states(), floor.open_cards()) == ({"fix": "running"}, [])


async def test_a_task_that_this_release_refuses_stops_its_own_unit_and_no_other(
    floor: Floor,
) -> None:
    floor.unit("odd", text="---\ncolour: red\n---\ndo it", proven="")
    floor.unit("fine")

    await floor.tick()

    assert floor.states() == {"odd": "waiting", "fine": "running"}
    assert floor.open_cards() == [("E1", CardKind.CRASH_LOOP, ("odd",))]


async def test_a_clock_that_was_set_back_a_day_delays_nothing_by_a_day(floor: Floor) -> None:
    floor.unit("waits", WAITING, not_before=later(300))
    floor.unit("hangs")
    await floor.tick()
    woken = sum(worker.woken for worker in floor.workers)
    yesterday = later(-86_400)

    await floor.tick(yesterday)

    assert floor.the_unit("waits").not_before == yesterday + timedelta(seconds=300)
    assert sum(worker.woken for worker in floor.workers) == woken + 1
    await floor.tick(yesterday + timedelta(seconds=300))
    assert floor.states()["waits"] == "running"


async def test_paused_nothing_is_proved(floor: Floor) -> None:
    floor.unit("fix", text=PROVED)
    floor.state.paused = True

    await floor.tick()

    assert floor.judge.asked == []


# ── the loop ──


async def test_the_loop_looks_whenever_it_is_rung(tmp_path: Path) -> None:
    async with floor_in(tmp_path) as floor, anyio.create_task_group() as group:
        group.start_soon(floor.pool.run, group)
        await anyio.wait_all_tasks_blocked()
        floor.unit("fix")

        floor.state.pool.send()
        await anyio.wait_all_tasks_blocked()

        assert floor.states() == {"fix": "running"}
        group.cancel_scope.cancel()


async def test_the_loop_wakes_by_itself_when_a_unit_is_due(tmp_path: Path) -> None:
    async with floor_in(tmp_path) as floor, anyio.create_task_group() as group:
        floor.unit("fix", WAITING, not_before=later(10**9))
        group.start_soon(floor.pool.run, group)
        await anyio.wait_all_tasks_blocked()
        assert floor.states() == {"fix": "waiting"}

        floor.change("fix", not_before=datetime.now(UTC) + timedelta(seconds=0.1))
        floor.state.pool.send()
        with anyio.fail_after(5):
            while floor.the_unit().state is WAITING:
                await anyio.lowlevel.checkpoint()

        assert floor.states() == {"fix": "running"}
        group.cancel_scope.cancel()
