"""The generator of finished units: what it leaves is what a line leaves."""

from contextlib import closing
from pathlib import Path

from factory.store.records import Attempt, Card, Task, Verdict
from factory.store.spec import Spec
from factory.store.sqlite import SqliteStore
from factory.store.unit import Unit, UnitState
from tests.finished import fill, multiply, name_of
from tests.journal import entries_of, fold
from tests.memory_store import MemoryStore
from tests.store_contract import tables


def test_every_filled_unit_is_finished_and_the_journal_gives_the_tables() -> None:
    store = MemoryStore()

    names = fill(store, 20, first=40)

    assert names == [name_of(number) for number in range(40, 60)]
    assert store.open(Unit) == []
    assert len(store.select(Unit, state=UnitState.LANDED)) == 19
    assert (len(store.select(Task)), len(store.select(Attempt)), len(store.select(Card))) == (
        20,
        22,
        1,
    )
    assert fold(entries_of(store)) == tables(store)


def test_copies_have_ids_of_their_own(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path / "store.sqlite")) as store:
        fill(store, 20)
        before = store.last_seq()

        multiply(store, 3)

        assert len(store.select(Unit)) == len(store.select(Task)) == 80
        assert len(store.select(Verdict)) == 4 * 44
        assert len({spec.source for spec in store.select(Spec)}) == 80
        assert store.last_seq() == 4 * before
        assert len(list(entries_of(store, unit=f"{name_of(5)}-2"))) == len(
            list(entries_of(store, unit=name_of(5)))
        )
