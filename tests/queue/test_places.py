"""What each unit in the merge queue waits for, as status shows it."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from factory.store.records import Fact
from tests.floor import Scene, at, scene_in
from tests.git_repo import git


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with scene_in(tmp_path) as made:
        yield made


def places(scene: Scene) -> list[tuple[str, str, str]]:
    fact = scene.store.get(Fact, "queue")
    entries = json.loads(fact.value) if fact else []
    return [(entry["unit"], entry["state"], entry["place"]) for entry in entries]


async def test_a_unit_without_a_bench_is_not_shown_as_judged(scene: Scene) -> None:
    for name in ("one", "two", "three"):
        await scene.submit(name, {f"{name}.txt": "fine\n"}, priority=len(name))
    benches = scene.floor.benches
    async with benches.take(), benches.take():
        for _ in range(3):
            await scene.queue.tick(scene.group, at())

        assert places(scene) == [
            ("one", "waiting", "bench"),
            ("two", "waiting", "bench"),
            ("three", "waiting", "ahead"),
        ]
    seen = set[tuple[str, str, str]]()
    while scene.state_of("three") != "landed":
        await scene.queue.tick(scene.group, at())
        seen.update(places(scene))
        await scene.state.queue.wait(0.2)

    assert {("one", "judging", "gates"), ("one", "landing", "landing")} <= seen


async def test_without_trunk_nothing_is_shown_as_judged(scene: Scene) -> None:
    await scene.submit("one", {"one.txt": "fine\n"})
    async with scene.floor.benches.take(), scene.floor.benches.take():
        await scene.queue.tick(scene.group, at())
        assert places(scene) == [("one", "waiting", "bench")]
        git(scene.root, "checkout", "-q", "--detach")
        git(scene.root, "branch", "-m", "main", "renamed")

        await scene.queue.tick(scene.group, at())

        assert places(scene) == []
