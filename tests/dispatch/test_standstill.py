"""Standstill: a card of kind `stuck` when the limits in force are over, and none before."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from factory.dispatch.standstill import LOOK_SECONDS, Standstill
from factory.ground.daemon_state import Stopping
from factory.ground.settings import GateLimits, Limits, Settings
from factory.store.records import Card, CardKind
from factory.store.unit import UnitState
from tests.floor import Scene, at, scene_in, time_passes
from tests.on_record import NOW, OnRecord

MINUTE = 60.0


class Judge:
    """The limits of a judging: two minutes for the gates, none for a setup."""

    def seconds(self, accept: tuple[str, ...]) -> float:
        return (2 + 3 * len(accept)) * MINUTE

    def proof_seconds(self, accept: tuple[str, ...]) -> float:
        return MINUTE * len(accept)

    def setup_seconds(self) -> float:
        return 0


class Watched(OnRecord):
    """A line whose standstill is watched; the test moves the time."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(folder, limits=Limits(minutes=1))
        self.present = 0.0
        monkeypatch.setattr(anyio, "current_time", lambda: self.present)
        self.restart()

    def restart(self) -> None:
        judge: Any = Judge()
        self.standstill = Standstill(
            store=self.store, state=self.state, escalations=self.escalations, judge=judge
        )
        self.standstill.tick(NOW)

    def passes(self, minutes: float) -> list[str]:
        """Look twice a minute for so long; return the questions that are open then."""
        for _ in range(int(minutes * MINUTE / LOOK_SECONDS)):
            self.present += LOOK_SECONDS
            self.standstill.tick(NOW)
        return [card.question for card in self.store.open(Card)]


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(tmp_path, monkeypatch)


def test_a_running_unit_that_outlives_its_limits_is_one_card(line: Watched) -> None:
    line.running()
    line.standstill.tick(NOW)
    assert line.passes(10.5) == []

    assert line.passes(1) == [
        "fix is running, and nothing about it has moved since 2026-01-05 12:00:00 UTC. "
        "Its limits allow 11 min. What now?"
    ]
    card = line.the_card()
    assert (card.kind, card.units) == (CardKind.STUCK, ("fix",))
    assert card.evidence == "The limits in force:\nagent: 1 min\nretries: 10 min"
    before = line.events()
    line.passes(30)
    assert line.events() == before


def test_the_queue_is_one_card_with_all_its_units(line: Watched) -> None:
    line.unit("a", UnitState.QUEUED, why="waits to be judged")
    line.unit("b", UnitState.QUEUED)
    line.standstill.tick(NOW)

    (said,) = line.passes(13)

    assert said.startswith("a is queued, and nothing about it has moved since")
    assert (line.the_card().units, line.the_card().fingerprint) == (("a", "b"), "stuck:queue")
    assert line.the_card().evidence.endswith("\n\nwaits to be judged")


def test_the_accept_commands_of_a_queued_unit_have_their_time(line: Watched) -> None:
    line.unit("a", UnitState.QUEUED, text="---\naccept: test -e a\n---\ndo it", proven="c" * 40)
    line.standstill.tick(NOW)

    assert line.passes(14.5) == []
    assert len(line.passes(1)) == 1


def test_a_move_starts_the_time_again_and_closes_the_card(line: Watched) -> None:
    line.running()
    line.standstill.tick(NOW)
    line.passes(10)
    line.change("fix", attempt=2)
    assert line.passes(10) == []
    assert len(line.passes(2)) == 1

    line.change("fix", attempt=3)

    assert line.passes(0.5) == []
    assert line.the_card().closed_why == "it moves again"


def test_after_a_restart_the_card_stays_until_something_moves(line: Watched) -> None:
    line.running()
    line.standstill.tick(NOW)
    assert len(line.passes(12)) == 1

    line.restart()

    assert len(line.passes(5)) == 1
    line.change("fix", state=UnitState.QUEUED)
    assert line.passes(0.5) == []


def test_while_the_daemon_stops_nothing_counts(line: Watched) -> None:
    line.running()
    line.state.stopping = Stopping.DRAIN

    assert line.passes(60) == []


def test_a_need_that_does_not_exist_is_asked_about_with_a_way_on(line: Watched) -> None:
    line.unit("add-user", UnitState.READY, priority=0)
    line.state.paused = True
    line.unit("add-login", UnitState.WAITING, needs=("add-users",))
    line.standstill.tick(NOW)

    assert line.passes(11) == [
        "add-login cannot start: it needs add-users, which does not exist yet: "
        "did you mean add-user? What now?"
    ]

    line.escalations.answer("E1", "2", now=NOW)

    unit = line.the_unit("add-login")
    assert (unit.needs, unit.state) == ((), UnitState.READY)


def test_the_missing_need_that_comes_closes_the_card(line: Watched) -> None:
    line.unit("b", UnitState.WAITING, needs=("later",))
    line.standstill.tick(NOW)
    assert len(line.passes(11)) == 1

    line.unit("later", UnitState.HELD, cause="x")
    line.standstill.tick(NOW)

    assert line.the_card().state == "closed"


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    chosen = Settings(limits=Limits(minutes=1), gates=GateLimits(timeout_s=60))
    async with scene_in(tmp_path, limits=chosen.limits, gates=chosen.gates) as made:
        yield made


async def test_with_an_agent_and_a_gate_of_one_minute_it_comes_within_fifteen(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.queue.look_at_trunk(scene.group, at())
    scene.hang("running")
    await scene.submit("queued", {"a.txt": "fine\n"})
    scene.floor.standstill.tick(at())
    time_passes(monkeypatch, 9 * MINUTE)
    scene.floor.standstill.tick(at())
    assert scene.cards() == []

    time_passes(monkeypatch, 5.5 * MINUTE)
    scene.floor.standstill.tick(at())

    assert scene.cards() == [CardKind.STUCK] * 2
    assert {card.units for card in scene.store.open(Card)} == {("running",), ("queued",)}
