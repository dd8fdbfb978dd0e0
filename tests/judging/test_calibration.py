"""Inferred checks that fail on trunk do not judge; tests, and what passed once, always judge."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from factory.inference.rules import CHECKS, TESTS, Gate
from factory.judging.calibration import calibrate, checks
from factory.store.records import Verdict
from tests.floor import FILES, Scene, at, scene_in
from tests.memory_store import MemoryStore

WORKFLOW = """\
on: push
jobs:
  all:
    runs-on: ubuntu-latest
    steps:
    - run: sh lint.sh
    - run: sh test.sh
"""
CI = {
    ".github/workflows/ci.yml": WORKFLOW,
    "lint.sh": "test -e clean.txt\n",
    "test.sh": "test ! -e broken.txt\n",
}


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """A trunk whose own CI lints and tests; the linter fails."""
    files = {name: text for name, text in FILES.items() if "gates" not in name}
    async with scene_in(tmp_path, files | CI) as made:
        await made.settle()
        yield made


def ruled_green(scene: Scene) -> bool:
    ruled = scene.trunk_judge.ruled(scene.head())
    assert ruled is not None
    return ruled.ok


async def test_a_linter_that_fails_on_trunk_is_no_card_and_makes_no_unit_red(scene: Scene) -> None:
    assert ruled_green(scene)
    await scene.submit("one", {"one.txt": "fine\n"})
    await scene.settle()

    assert scene.state_of("one") == "landed"
    assert scene.cards() == []
    assert checks(scene.store).sentences == [
        "the inferred check lint.sh fails on trunk, so it does not judge until it passes"
    ]


async def test_a_unit_that_was_judged_before_trunk_is_judged_again_without_the_linter(
    tmp_path: Path,
) -> None:
    slow = f"until [ -e {tmp_path}/go ]; do sleep 0.01; done; test -e clean.txt\n"
    files = {name: text for name, text in FILES.items() if "gates" not in name}
    async with scene_in(
        tmp_path, files | CI | {"lint.sh": f"test -e one.txt || {{ {slow} }}\ntest -e clean.txt\n"}
    ) as made:
        await made.submit("one", {"one.txt": "fine\n"})
        for _ in range(200):
            await made.queue.tick(made.group, at())
            await made.state.queue.wait(0.05)
            if any(verdict.gate == "lint.sh" for verdict in made.store.select(Verdict)):
                break
        assert made.state_of("one") == "queued"  # its linter is red, and trunk's one still runs
        (tmp_path / "go").touch()
        await made.settle()

        assert made.state_of("one") == "landed"


async def test_a_red_test_is_never_advisory(scene: Scene) -> None:
    scene.commit({"broken.txt": "x\n"})
    await scene.settle()

    assert not ruled_green(scene)


async def test_a_linter_judges_from_the_moment_when_it_passes_on_trunk(scene: Scene) -> None:
    scene.commit({"clean.txt": "x\n"})
    await scene.settle()
    assert checks(scene.store).sentences == []

    (scene.root / "clean.txt").unlink()
    scene.commit({"two.txt": "x\n"})
    await scene.settle()

    assert not ruled_green(scene)


GATES = (
    Gate("lint", CHECKS, ("lint",), "ci.yml:1"),
    Gate("types", CHECKS, ("types",), "ci.yml:2"),
    Gate("10-own", CHECKS, ("own",), "conventions/gates/10-own.sh"),
    Gate("test", TESTS, ("test",), "ci.yml:3"),
)


def advisory(store: MemoryStore, *red: str, seen: str = "lint types 10-own test") -> list[str]:
    calibrate(store, GATES, seen=seen.split(), red=red, now=at())
    left = checks(store).judging(GATES)
    return [gate.name for gate in GATES if gate not in left]


def test_only_an_inferred_check_can_be_advisory_and_only_before_it_passed() -> None:
    store = MemoryStore()

    assert advisory(store, "lint", "10-own", "test") == ["lint"]
    assert advisory(store, "lint", "types") == ["lint"]
    assert advisory(store) == []
    assert advisory(store, "lint") == []


def test_a_check_without_a_verdict_counts_neither_as_passed_nor_as_advisory() -> None:
    store = MemoryStore()

    assert advisory(store, "types", seen="types") == ["types"]
    assert advisory(store, "lint") == ["lint"]


def test_a_check_whose_command_changed_is_calibrated_again() -> None:
    store = MemoryStore()
    advisory(store)
    changed = (Gate("lint", CHECKS, ("lint", "--strict"), "ci.yml:1"),)

    assert calibrate(store, changed, seen=["lint"], red=["lint"], now=at())
    assert checks(store).judging(changed) == ()
