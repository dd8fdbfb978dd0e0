import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from factory.store.journal import Event
from factory.store.records import Record, kind_name, to_row
from factory.store.unit import UnitState
from tests.journal import Entry, fold
from tests.store_contract import ATTEMPT, CARD, NOW, READY

HELD = replace(READY, state=UnitState.HELD)


def entries(*steps: tuple[Record, ...]) -> Iterator[Entry]:
    for seq, records in enumerate(steps, start=1):
        changes = tuple((kind_name(type(record)), to_row(record)) for record in records)
        yield Entry(seq=seq, at=NOW, event=Event.UNIT_READY, detail={}, changes=changes)


def test_an_empty_journal_leaves_nothing() -> None:
    assert fold([]) == {}


def test_an_entry_leaves_the_rows_that_it_changed_by_table_and_key() -> None:
    assert fold(entries((READY, CARD), (), (ATTEMPT,))) == {
        ("unit", ("fix-login",)): to_row(READY),
        ("card", ("E1",)): to_row(CARD),
        ("attempt", ("fix-login", 1)): to_row(ATTEMPT),
    }


def test_a_later_row_of_the_same_key_replaces_the_whole_row() -> None:
    assert fold(entries((READY,), (HELD,))) == {("unit", ("fix-login",)): to_row(HELD)}


def test_two_attempts_of_one_unit_are_two_rows() -> None:
    state = fold(entries((ATTEMPT,), (replace(ATTEMPT, number=2),)))

    assert list(state) == [("attempt", ("fix-login", 1)), ("attempt", ("fix-login", 2))]


def test_a_table_that_no_record_has_is_refused() -> None:
    entry = Entry(seq=1, at=NOW, event=Event.UNIT_READY, detail={}, changes=(("ghost", {}),))

    with pytest.raises(KeyError, match="ghost"):
        fold([entry])


def test_every_event_is_noun_dot_verb_and_named_after_it() -> None:
    assert [event for event in Event if not re.fullmatch(r"[a-z]+\.[a-z]+", event)] == []
    assert {event.name: str(event) for event in Event} == {
        event.name: event.name.lower().replace("_", ".") for event in Event
    }
