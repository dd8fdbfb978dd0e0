"""A store that another program holds is waited for, and nothing else is."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from factory.ground.errors import StoreError
from factory.ground.unlocked import once_unlocked
from factory.store.records import Fact
from factory.store.sqlite import SqliteStore
from tests.locked_store import locked
from tests.on_record import NOW


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(tmp_path / "store.sqlite")) as opened:
        yield opened


async def test_it_is_written_as_soon_as_the_other_program_lets_go(store: SqliteStore) -> None:
    def write() -> None:
        store.own("me", now=NOW)

    async def waits() -> None:
        await once_unlocked(write, seconds=60)

    async with anyio.create_task_group() as group:
        with locked(store):
            group.start_soon(waits)
            await anyio.wait_all_tasks_blocked()
            assert store.get(Fact, "owner") is None

    assert store.get(Fact, "owner") is not None


async def test_it_is_not_waited_for_ever(store: SqliteStore) -> None:
    with locked(store), pytest.raises(StoreError, match="locked"):
        await once_unlocked(lambda: store.own("me", now=NOW), seconds=0)


async def test_another_failure_is_raised_at_once() -> None:
    tried: list[int] = []

    def write() -> None:
        tried.append(1)
        raise StoreError("The store could not do its work: database or disk is full.")

    with pytest.raises(StoreError, match="full"):
        await once_unlocked(write, seconds=60)

    assert tried == [1]
