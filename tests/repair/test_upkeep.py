"""When upkeep is due, and that its steps leave the store and the factory repository whole."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from factory.ground.errors import GitError
from factory.ground.settings import Keep
from factory.repair import upkeep
from factory.repair.upkeep import AFTER_FAILURE, IDLE_LOOSE, MOST_LOOSE, Upkeep
from factory.repo.git import Git
from factory.repo.packing import Packing
from factory.store.journal import Event
from factory.store.sqlite import SqliteStore
from factory.store.unit import UnitState
from tests.finished import fill
from tests.floor import Scene, scene_in
from tests.git_repo import git
from tests.journal import entries_of, fold
from tests.on_record import NOW, OnRecord, later
from tests.store_contract import tables

COMPACT = """
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from factory.store.sqlite import SqliteStore
with closing(SqliteStore(Path(sys.argv[1]))) as store:
    now = datetime.now(UTC)
    while store.compact(before=now, now=now):
        pass
"""
DAY = 86_400.0


class Counted(Packing):
    """A factory repository with so many loose objects, whose last pack has an age."""

    def __init__(self, loose: int, *, days: float = 0) -> None:
        super().__init__(Git(git_dir=Path("/nonexistent"), own=True, environ={}))
        self.left, self.days, self.done = loose, days, list[str]()
        self.is_damaged = False

    def loose(self) -> int:
        return self.left

    def last(self) -> float:
        return NOW.timestamp() - self.days * DAY

    async def pack(self) -> bool:
        self.done.append("pack")
        if self.is_damaged:
            raise GitError(("pack-objects",), 128, "bad object")
        self.left = max(0, self.left - 2000)
        return True

    async def merge(self) -> None:
        self.done.append("merge")


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with scene_in(tmp_path) as made:
        yield made


def upkeep_of(line: OnRecord, packing: Packing) -> Upkeep:
    return Upkeep(store=line.store, state=line.state, packing=packing)


@pytest.mark.parametrize(
    ("loose", "days", "is_busy", "steps"),
    [
        (IDLE_LOOSE - 256, 1, False, []),
        (IDLE_LOOSE + 256, 1, False, ["pack", "merge"]),
        (5000, 0, False, ["pack", "pack", "pack", "merge"]),
        (5000, 1, True, []),
        (IDLE_LOOSE - 256, 4, False, ["pack", "merge"]),
        (IDLE_LOOSE - 256, 4, True, ["pack", "merge"]),
        (MOST_LOOSE + 500, 0, True, ["pack"]),
        (0, 9, False, []),
    ],
)
async def test_objects_are_packed_when_the_line_is_idle_and_if_there_are_many_or_they_are_old_anyway(
    tmp_path: Path, loose: int, days: float, is_busy: bool, steps: list[str]
) -> None:
    line = OnRecord(tmp_path)
    if is_busy:
        line.unit("at-work", UnitState.QUEUED)
    packing = Counted(loose, days=days)

    await upkeep_of(line, packing).tick(NOW)

    assert packing.done == steps


async def test_a_damaged_object_stops_packing_for_hours_and_nothing_else(tmp_path: Path) -> None:
    line = OnRecord(tmp_path)
    packing = Counted(5000)
    packing.is_damaged = True
    kept = upkeep_of(line, packing)

    for at in (NOW, later(60), NOW + AFTER_FAILURE):
        await kept.tick(at)

    assert packing.done == ["pack", "pack"]


@pytest.mark.parametrize(
    ("days", "is_busy", "compacts"),
    [(32, False, True), (29, False, False), (32, True, False), (35, True, True)],
)
async def test_entries_are_compacted_after_the_set_days_or_three_days_later_on_a_busy_line(
    tmp_path: Path, days: int, is_busy: bool, compacts: bool
) -> None:
    line = OnRecord(tmp_path)
    fill(line.store, 20, until=NOW - timedelta(days=days))
    if is_busy:
        line.running()
    before = len(list(entries_of(line.store)))

    await upkeep_of(line, Counted(0)).tick(NOW)

    assert (len(list(entries_of(line.store))) < before) is compacts
    assert fold(entries_of(line.store)) == tables(line.store)


async def test_with_nought_days_the_journal_stays_whole(tmp_path: Path) -> None:
    line = OnRecord(tmp_path, keep=Keep(days=0))
    fill(line.store, 20, until=NOW - timedelta(days=999))
    before = list(entries_of(line.store))

    await upkeep_of(line, Counted(0)).tick(NOW)

    assert list(entries_of(line.store)) == before


async def test_a_round_ends_so_that_the_keeper_can_do_its_other_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "ROUND_SECONDS", 0)
    packing = Counted(9000)

    await upkeep_of(OnRecord(tmp_path), packing).tick(NOW)

    assert packing.done == []


async def test_the_keeper_packs_the_factory_repository_and_leaves_the_users_alone(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "FEW_LOOSE", 0)
    monkeypatch.setattr(upkeep, "IDLE_LOOSE", 0)
    made = await scene.made({"a.txt": "an attempt's tree\n"})
    own = scene.state.places.git
    theirs = sorted((scene.root / ".git/objects").rglob("*"))

    await scene.floor.keeper.tick(datetime.now(UTC))

    assert list((own / "objects/pack").glob("*.pack"))
    assert git(own, "show", f"{made}:a.txt") == "an attempt's tree"
    assert sorted((scene.root / ".git/objects").rglob("*")) == theirs


def test_killed_on_either_side_of_a_step_of_compaction_the_journal_gives_the_state(
    tmp_path: Path,
) -> None:
    path = tmp_path / "store.sqlite"
    with closing(SqliteStore(path)) as store:
        fill(store, 40)
        units = tables(store)
    for fault in ("store.kept.compacted:before:2", "store.kept.compacted:after"):
        command = [sys.executable, "-c", COMPACT, str(path)]

        done = subprocess.run(command, env=os.environ | {"FACTORY_FAULT": fault}, check=False)

        assert done.returncode == -signal.SIGKILL
        with closing(SqliteStore(path)) as store:
            assert fold(entries_of(store)) == tables(store)
            assert tables(store).keys() - units.keys() == {("fact", ("compacted",))}
            told = [each for each in entries_of(store) if each.event is Event.KEPT_COMPACTED]
            assert told
