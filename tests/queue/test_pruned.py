"""Somebody prunes the factory repository by hand: what no ref holds is made again, without a card."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from factory.store.records import Card, CardKind
from factory.store.unit import UnitState
from tests.floor import Scene, at, scene_in
from tests.git_repo import git
from tests.queue.test_unjudged import settle


@pytest.fixture
async def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    monkeypatch.setattr("factory.ground.daemon_state.BROKEN_SECONDS", 0.01)
    async with scene_in(tmp_path) as made:
        yield made


def own(scene: Scene, *command: str) -> str:
    """Git in the factory repository, as a person runs it."""
    return git(scene.state.places.git, *command)


def states(scene: Scene) -> set[str]:
    return {scene.state_of(name) for name in ("one", "two")}


async def submit_two(scene: Scene) -> None:
    for name in ("one", "two"):
        await scene.submit(name, {f"{name}.txt": "fine\n"}, head="review: required")


async def test_units_whose_rehearsals_were_pruned_are_rehearsed_again_and_land(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await submit_two(scene)
    await scene.settle()
    await scene.settle()
    own(scene, "gc", "-q", "--prune=now")
    for number in ("E1", "E2"):
        scene.floor.escalations.answer(number, "1", now=at())

    await settle(scene, monkeypatch, until=lambda: states(scene) == {"landed"})

    assert [card.kind for card in scene.store.select(Card)] == [CardKind.REVIEW] * 2


async def test_submissions_that_are_gone_are_one_card_for_all_their_units(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await submit_two(scene)
    for ref in own(scene, "for-each-ref", "--format=%(refname)", "refs/factory").splitlines():
        own(scene, "update-ref", "-d", ref)
    own(scene, "gc", "-q", "--prune=now")

    await settle(scene, monkeypatch, until=lambda: states(scene) == {"waiting"})

    (card,) = scene.store.open(Card)
    assert (card.kind, card.units, card.count) == (CardKind.CRASH_LOOP, ("one", "two"), 2)
    assert "diff-tree" in card.question
    assert scene.unit("two").state is UnitState.WAITING


async def test_trunk_is_fetched_again_if_its_ref_is_gone(scene: Scene) -> None:
    tip = await scene.floor.trunk.refresh()
    own(scene, "update-ref", "-d", "refs/heads/main")
    own(scene, "gc", "-q", "--prune=now")

    assert await scene.floor.trunk.refresh() == tip
    assert own(scene, "rev-parse", "refs/heads/main") == tip
