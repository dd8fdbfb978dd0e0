"""Queued units and contested paths, on real git."""

from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path

import pytest

from factory.store import whys
from factory.store.fact_values import value_of
from factory.store.journal import Event
from factory.store.unit import Unit, UnitState, advance
from tests.floor import FILES, Scene, at, scene_in

LOG = "".join(f"line {number}\n" for number in range(1, 10))


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with scene_in(tmp_path, FILES | {"log.txt": LOG}) as made:
        yield made


def busy(scene: Scene, name: str, *, conflicts: int = 1) -> None:
    """A unit that conflicted in log.txt, and whose next attempt runs."""
    scene.hang(name, run="true", contested=("log.txt",), conflicts=conflicts, number=2)


def why(scene: Scene, name: str) -> str:
    """What a person reads about a queued unit."""
    units = [asdict(unit) for unit in scene.store.open(Unit)]
    said = value_of(scene.store, "queue", [])
    rows = whys.queue(units, said, branch="main", stopped=False)
    return {row.unit: row.why for row in rows}[name]


def ended(scene: Scene, name: str) -> None:
    cancelled = advance(scene.unit(name), UnitState.CANCELLED, now=at())
    scene.store.write(Event.UNIT_CANCELLED, cancelled, now=at(), unit=name)


async def test_a_change_to_a_contested_path_waits_for_the_attempt_and_lands_after_it(
    scene: Scene,
) -> None:
    busy(scene, "again")
    await scene.submit("behind", {"log.txt": f"{LOG}behind\n"})
    await scene.submit("apart", {"apart.txt": "fine\n"})

    await scene.settle()
    waiting = why(scene, "behind")
    ended(scene, "again")
    await scene.settle()

    assert waiting == "waits for again, which is ahead of it in log.txt"
    assert value_of(scene.store, "queue", []) == []
    assert scene.log() == ["behind", "apart", "start"]


@pytest.mark.parametrize(("conflicts", "state"), [(1, "landed"), (2, "queued")])
async def test_a_change_with_a_better_priority_waits_only_after_two_conflicts_in_a_row(
    scene: Scene, conflicts: int, state: str
) -> None:
    busy(scene, "again", conflicts=conflicts)
    await scene.submit("urgent", {"log.txt": f"urgent\n{LOG}"}, priority=0)

    await scene.settle()

    assert scene.state_of("urgent") == state


async def test_a_change_that_merged_with_another_change_to_the_path_waits_for_nobody(
    scene: Scene,
) -> None:
    base = scene.head()
    scene.commit({"log.txt": f"{LOG}theirs\n"})
    busy(scene, "again")
    await scene.submit("elsewhere", {"log.txt": f"above\n{LOG}"}, base=base)

    await scene.settle()

    assert scene.state_of("elsewhere") == "landed"


async def test_a_conflict_notes_its_paths_and_who_else_is_queued_with_them(scene: Scene) -> None:
    base = scene.head()
    scene.commit({"log.txt": f"{LOG}theirs\n"})
    busy(scene, "again")
    await scene.submit("end", {"log.txt": f"{LOG}end\n", "end.txt": "fine\n"}, base=base)
    begin = await scene.submit("begin", {"log.txt": f"begin\n{LOG}"}, base=base)
    scene.store.write(
        Event.UNIT_QUEUED, replace(begin, since=at() + timedelta(seconds=1)), now=at()
    )

    await scene.queue.tick(scene.group, at())

    unit = scene.unit("end")
    assert (unit.state, unit.spent, unit.conflicts) == (UnitState.READY, 0, 1)
    assert (unit.contested, unit.behind) == (("log.txt",), ("begin",))
