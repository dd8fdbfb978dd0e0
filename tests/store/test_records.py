import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.ground.times import from_stamp, stamp
from factory.store.records import (
    HINTS,
    KEYS,
    KINDS,
    Card,
    Fact,
    Hook,
    Record,
    Request,
    Step,
    from_row,
    kind_name,
    to_row,
)
from factory.store.unit import Unit
from tests.store_contract import CARD, NOW, ONE_OF_EACH, READY, of_kind

MOMENTS = st.datetimes(timezones=st.just(UTC))


@pytest.mark.parametrize("kind", KEYS, ids=kind_name)
@settings(max_examples=30)
@given(data=st.data())
def test_a_record_that_became_a_row_comes_back_equal(kind: Any, data: st.DataObject) -> None:
    record = data.draw(of_kind(kind))

    row = to_row(record)

    assert from_row(kind, row) == record
    assert from_row(kind, json.loads(json.dumps(row))) == record


@pytest.mark.parametrize("record", ONE_OF_EACH, ids=lambda record: kind_name(type(record)))
def test_a_row_holds_plain_scalars_by_column(record: Record) -> None:
    row = to_row(record)

    assert list(row) == list(HINTS[type(record)])
    assert {type(value) for value in row.values()} <= {str, int, float, type(None)}


def test_the_samples_have_one_of_each_kind() -> None:
    assert [type(record) for record in ONE_OF_EACH] == list(KEYS)
    assert list(KINDS.values()) == list(KEYS)


@pytest.mark.parametrize("kind", KEYS, ids=kind_name)
def test_a_key_is_made_of_the_kinds_own_columns_and_never_null(kind: type[Record]) -> None:
    assert {HINTS[kind][name] for name in KEYS[kind]} <= {str, int}


def test_a_column_that_this_version_does_not_know_is_passed_over() -> None:
    assert from_row(Card, {**to_row(CARD), "colour": "red"}) == CARD


def test_a_column_that_an_older_row_lacks_takes_its_default() -> None:
    row = {
        name: value
        for name, value in to_row(READY).items()
        if name not in ("proven", "not_before", "scope")
    }

    assert from_row(Unit, row) == READY


def test_a_value_that_no_column_can_hold_is_refused() -> None:
    wrong: Any = {"not": "a scalar"}

    with pytest.raises(TypeError, match="a record cannot hold dict"):
        to_row(Fact(name="x", value=wrong))


def test_bytes_that_were_not_utf8_become_question_marks() -> None:
    name = b"caf\xe9".decode(errors="surrogateescape")

    assert to_row(Fact(name="x", value=name))["value"] == "caf?"
    assert to_row(Hook(worker="w", index=0, unit=name))["unit"] == "caf?"


def test_true_and_false_are_one_and_zero() -> None:
    rows = [
        to_row(Step(id="s", kind="landing", data="", at=NOW, done=done)) for done in (True, False)
    ]

    assert [row["done"] for row in rows] == [1, 0]


def test_a_time_is_written_in_utc_whatever_its_zone() -> None:
    east = NOW.astimezone(timezone(timedelta(hours=9)))

    assert stamp(east) == "2026-03-04T05:06:07.891011Z"
    assert to_row(Request(id=1, kind="pause", args="{}", at=east))["at"] == stamp(NOW)


def test_a_full_second_has_its_fraction_too() -> None:
    assert stamp(datetime(2026, 1, 2, tzinfo=UTC)) == "2026-01-02T00:00:00.000000Z"


@given(first=MOMENTS, second=MOMENTS)
def test_stamps_sort_as_their_times_do_and_lose_nothing(first: datetime, second: datetime) -> None:
    assert (stamp(first) < stamp(second)) == (first < second)
    assert from_stamp(stamp(first)) == first
