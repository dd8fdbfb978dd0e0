"""The generator of finished units: what it leaves is what a line leaves."""

from factory.store.records import Attempt, Card, Task
from factory.store.unit import Unit, UnitState
from tests.finished import fill, name_of
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
