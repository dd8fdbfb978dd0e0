"""Judging that breaks, by no gate: counted, tried again later, and asked about; others land meanwhile."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from factory.dispatch.facts import gather
from factory.ground.errors import StoreError
from factory.ground.settings import Budget
from factory.judging.case import Case
from factory.judging.gates import Gates, Judgement
from factory.queue.merge_queue import MergeQueue
from factory.store.journal import Event
from factory.store.records import Card, CardKind, Fact
from factory.store.unit import Unit, UnitState, advance
from tests.floor import Scene, at, scene_in, time_passes
from tests.git_repo import git


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with scene_in(tmp_path) as made:
        yield made


class Breaks:
    """Gates that break where something holds of what is judged."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, when: Callable[[Case], bool]) -> None:
        self.error: Exception = IndexError("list index out of range")
        self.count = 0
        self.when = when
        judge = Gates.judge

        async def breaks(gates: Gates, case: Case, **told: Any) -> Judgement:
            if self.when(case):
                self.count += 1
                raise self.error
            return await judge(gates, case, **told)

        monkeypatch.setattr(Gates, "judge", breaks)
        monkeypatch.setattr("factory.ground.daemon_state.BROKEN_SECONDS", 0.01)


async def settle(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, *, until: Callable[[], bool]
) -> None:
    """Let the queue become quiet, again and again, each time after so long that all is due."""
    for _ in range(20):
        await quiet(scene)
        if until():
            return
        time_passes(monkeypatch, 400)
    raise AssertionError(
        f"not so: {[(unit.id, unit.state, unit.why) for unit in scene.store.select(Unit)]}"
    )


async def quiet(scene: Scene) -> None:
    """What broke is left alone for a moment; then it may be tried again."""
    await scene.settle()
    while scene.queue.judgings.running:  # noqa: ASYNC110
        await anyio.sleep(0.005)
    await scene.settle()


async def test_a_unit_that_breaks_judging_becomes_a_card_and_the_others_land(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaks = Breaks(monkeypatch, lambda case: case.unit == "odd")
    await scene.submit("odd", {"odd.txt": "fine\n"})
    await scene.submit("one", {"one.txt": "fine\n"})

    await settle(scene, monkeypatch, until=lambda: scene.state_of("odd") == "waiting")

    (card,) = scene.store.open(Card)
    assert (scene.state_of("odd"), scene.state_of("one"), breaks.count) == ("waiting", "landed", 3)
    assert (card.kind, card.units) == (CardKind.CRASH_LOOP, ("odd",))
    assert (
        "odd has no verdict: judging it fails with an error each time (IndexError: list index out of"
        in card.question
    )
    assert "in breaks" in card.evidence
    assert scene.unit("odd").submission


async def test_a_warning_about_judging_goes_when_a_card_asks_instead(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    Breaks(monkeypatch, lambda case: case.unit == "odd")
    await scene.submit("odd", {"odd.txt": "fine\n"})
    await scene.queue.tick(scene.group, at())
    await quiet(scene)
    scene.queue._withdraw_warnings()
    assert "judge" in scene.state.broken

    await settle(scene, monkeypatch, until=lambda: scene.state_of("odd") == "waiting")
    await quiet(scene)
    scene.queue._withdraw_warnings()

    assert scene.state.broken == {}


async def test_a_unit_is_tried_later_and_later_and_says_so(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaks = Breaks(monkeypatch, lambda case: case.unit == "odd")
    await scene.submit("odd", {"odd.txt": "fine\n"})
    for _ in range(5):
        await scene.queue.tick(scene.group, at())
        await quiet(scene)

    assert breaks.count == 1
    assert "cannot be judged; factoryd tries again: IndexError" in scene.unit("odd").why
    assert min(scene.queue._waits()) <= 2


@pytest.mark.parametrize(
    "option", ["Try again", "Start again from trunk", "Cancel the waiting units"]
)
async def test_each_answer_to_its_card_moves_the_unit_on(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    breaks = Breaks(monkeypatch, lambda case: case.unit == "odd")
    await scene.submit("odd", {"odd.txt": "fine\n"})
    await settle(scene, monkeypatch, until=lambda: scene.state_of("odd") == "waiting")
    breaks.when = lambda case: False
    (card,) = scene.store.open(Card)

    scene.floor.escalations.answer(card.id, option, now=at())
    pool = scene.floor.pool
    pool._waits.settle(gather(scene.store, pool._find_agents(), Budget(), at()))
    await quiet(scene)

    states = {"Try again": "landed", "Start again from trunk": "ready"}
    assert scene.state_of("odd") == states.get(option, "cancelled")
    assert scene.cards() == []


async def test_what_breaks_behind_a_unit_is_judged_alone_and_not_blamed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = scene.state.places.git
    Breaks(monkeypatch, lambda case: "odd.txt" in git(own, "ls-tree", "--name-only", case.commit))
    await scene.submit("odd", {"odd.txt": "fine\n"})
    await scene.submit("one", {"one.txt": "fine\n"})

    await settle(scene, monkeypatch, until=lambda: scene.state_of("odd") == "waiting")

    assert scene.state_of("one") == "landed"
    assert [card.units for card in scene.store.open(Card)] == [("odd",)]


async def test_units_that_break_judging_in_the_same_way_share_a_card(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    Breaks(monkeypatch, lambda case: bool(case.unit))
    await scene.submit("odd", {"odd.txt": "fine\n"})
    await scene.submit("queer", {"queer.txt": "fine\n"})

    await settle(
        scene,
        monkeypatch,
        until=lambda: scene.state_of("odd") == scene.state_of("queer") == "waiting",
    )

    assert [card.units for card in scene.store.open(Card)] == [("odd", "queer")]


async def test_what_broke_before_a_restart_counts(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaks = Breaks(monkeypatch, lambda case: case.unit == "odd")
    await scene.submit("odd", {"odd.txt": "fine\n"})
    await settle(scene, monkeypatch, until=lambda: breaks.count == 2)

    restarted(scene)
    await quiet(scene)

    assert (breaks.count, scene.state_of("odd")) == (3, "waiting")


def restarted(scene: Scene) -> None:
    """A queue that remembers only what is stored."""
    floor = scene.floor
    scene.queue = floor.queue = MergeQueue(
        store=floor.store,
        state=floor.state,
        landings=floor.queue.landings,
        trunk_judge=floor.trunk_judge,
        escalations=floor.escalations,
        outcomes=floor.outcomes,
    )


async def test_another_submission_of_a_unit_begins_anew(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaks = Breaks(monkeypatch, lambda case: case.unit == "odd")
    await scene.submit("odd", {"odd.txt": "fine\n"})
    await settle(scene, monkeypatch, until=lambda: breaks.count == 2)
    back = advance(scene.unit("odd"), UnitState.READY, now=at())
    scene.store.write(Event.UNIT_READY, back, now=at(), unit="odd")
    await quiet(scene)

    kept = scene.store.get(Fact, "broken")
    assert kept is not None
    assert json.loads(kept.value) == {}


@pytest.mark.parametrize("error", [StoreError("locked"), OSError(28, "No space left on device")])
async def test_what_says_nothing_about_the_unit_is_not_counted(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    breaks = Breaks(monkeypatch, lambda case: case.unit == "odd")
    breaks.error = error
    await scene.submit("odd", {"odd.txt": "fine\n"})

    for _ in range(4):
        await settle_once(scene, breaks)

    assert scene.store.get(Fact, "broken") is None
    assert (scene.state_of("odd"), scene.cards()) == ("queued", [])


async def settle_once(scene: Scene, breaks: Breaks) -> None:
    before = breaks.count
    with anyio.fail_after(20):
        while breaks.count == before:
            await scene.queue.tick(scene.group, at())
            await anyio.sleep(0.01)


# ── trunk ──


async def test_trunk_that_breaks_judging_becomes_a_card_that_closes_with_a_verdict(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaks = Breaks(monkeypatch, lambda case: not case.unit)
    await settle(scene, monkeypatch, until=lambda: bool(scene.cards()))
    (card,) = scene.store.open(Card)
    breaks.when = lambda case: False

    await settle(scene, monkeypatch, until=lambda: not scene.cards())

    assert card.kind is CardKind.CRASH_LOOP
    assert card.question.startswith(
        f"main ({scene.head()[:10]}) has no verdict: judging it fails with an error each time"
    )
    assert (breaks.count, scene.trunk_judge.breaks.card) == (3, None)


async def test_while_trunk_breaks_judging_green_units_land_and_red_ones_wait_for_its_card(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaks = Breaks(monkeypatch, lambda case: not case.unit)
    await scene.submit("red", {"red.txt": "BROKEN\n"})
    await settle(scene, monkeypatch, until=lambda: scene.state_of("red") == "waiting")
    count, waiting = breaks.count, scene.unit("red")
    await scene.submit("one", {"one.txt": "fine\n"})

    await settle(scene, monkeypatch, until=lambda: scene.state_of("one") == "landed")

    assert (count, waiting.cause.partition(":")[0]) == (3, "unjudged")
    assert scene.cards() == []


async def test_an_answer_to_trunk_s_card_has_it_judged_at_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaks = Breaks(monkeypatch, lambda case: not case.unit)
    await settle(scene, monkeypatch, until=lambda: bool(scene.cards()))
    (card,) = scene.store.open(Card)
    breaks.when = lambda case: False
    scene.floor.escalations.answer(card.id, "Try again", now=at())

    await quiet(scene)

    assert breaks.count == 3
    assert scene.trunk_judge.ruled(scene.head()) is not None
