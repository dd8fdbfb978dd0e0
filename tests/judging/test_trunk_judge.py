"""Trunk's judge: which commits of trunk are judged to the end, and what a verdict counts for."""

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from factory.ground.settings import GateLimits
from factory.judging.ruled import Ruled
from factory.store.records import CardKind
from tests.floor import FILES, Scene, at, scene_in, time_passes
from tests.git_repo import git


@pytest.fixture
async def busy(tmp_path: Path) -> AsyncIterator[Scene]:
    """One bench, and a trunk whose gate ends when the test says so."""
    gate = f"""\
cat version.txt >> {tmp_path}/began
until [ -e {tmp_path}/go ]; do sleep 0.01; done
cat version.txt >> {tmp_path}/ended
"""
    files = FILES | {"conventions/gates/10-whole.sh": gate, "version.txt": "0\n"}
    async with scene_in(tmp_path, files, gates=GateLimits(benches=1)) as made:
        await began(made, 0)
        yield made


async def began(scene: Scene, version: int) -> None:
    """Wait until the gate runs on this version of trunk."""
    with anyio.fail_after(15):
        while str(version) not in seen(scene, "began"):
            await scene.queue.tick(scene.group, at())
            await scene.state.queue.wait(0.02)


def seen(scene: Scene, name: str) -> list[str]:
    path = scene.folder / name
    return path.read_text().split() if path.exists() else []


async def test_the_judging_of_an_outdated_trunk_ends_and_the_new_commit_gets_its_bench(
    busy: Scene,
) -> None:
    busy.commit({"version.txt": "1\n"})

    await began(busy, 1)
    (busy.folder / "go").touch()
    await busy.settle()

    assert seen(busy, "ended") == ["1"]
    assert busy.trunk_judge.ruled(busy.head()) is not None


async def test_after_two_ended_judgings_in_a_row_the_third_is_not_ended(busy: Scene) -> None:
    for version in (1, 2):
        busy.commit({"version.txt": f"{version}\n"})
        await began(busy, version)
    busy.commit({"version.txt": "3\n"})
    for _ in range(3):
        await busy.queue.tick(busy.group, at())

    assert seen(busy, "began") == ["0", "1", "2"]
    (busy.folder / "go").touch()
    await began(busy, 3)
    await busy.settle()
    assert seen(busy, "ended") == ["2", "3"]
    assert busy.trunk_judge.ruled(busy.head()) is not None


async def test_a_judging_that_was_ended_says_nothing_when_trunk_comes_back_to_its_commit(
    busy: Scene,
) -> None:
    first = busy.head()
    busy.commit({"version.txt": "1\n"})
    await busy.queue.tick(busy.group, at())
    git(busy.root, "reset", "-q", "--hard", first)
    await busy.queue.tick(busy.group, at())
    await began(busy, 0)

    assert busy.trunk_judge.ruled(first) is None
    (busy.folder / "go").touch()
    await busy.settle()
    ruled = busy.trunk_judge.ruled(first)
    assert ruled is not None
    assert ruled.ok


async def test_a_landing_ends_the_judging_of_the_trunk_before_it(busy: Scene) -> None:
    made = await busy.made({"one.txt": "fine\n"})

    await busy.trunk_judge.landed(made, Ruled(ok=True), parent=busy.head())
    with anyio.fail_after(15):
        while busy.floor.benches._users:  # noqa: ASYNC110 - a bench sends no signal
            await anyio.sleep(0.01)

    assert (busy.trunk_judge.is_judging, seen(busy, "ended")) == (False, [])
    assert busy.trunk_judge.ruled(made) == Ruled(ok=True)


async def test_a_setup_of_trunk_that_the_network_stopped_runs_again_without_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = tmp_path / "network"
    setup = f"test -e {network} || {{ echo 'curl: (6) Could not resolve host'; exit 6; }}\n"
    async with scene_in(tmp_path, FILES | {"conventions/workspace/setup.sh": setup}) as scene:
        await scene.settle()
        await scene.queue.tick(scene.group, at())
        assert scene.cards() == [CardKind.SETUP]
        assert 0 < min(scene.queue._waits()) <= 2

        network.touch()
        time_passes(monkeypatch, 3)
        await scene.settle()

        assert scene.cards() == []
        assert list(scene.queue._waits()) == []
