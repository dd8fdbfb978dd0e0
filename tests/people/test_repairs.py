"""Repair units end with the red trunk."""

from pathlib import Path

import pytest

from factory.people import repairs
from factory.people.cards import conflict
from factory.store.journal import Event
from factory.store.records import Step
from factory.store.unit import UnitState
from tests.on_record import NOW, OnRecord


@pytest.fixture
def line(tmp_path: Path) -> OnRecord:
    return OnRecord(tmp_path)


def end(line: OnRecord) -> None:
    repairs.end(line.store, line.escalations, now=NOW, why="main is green again")


@pytest.mark.parametrize(
    "state",
    [
        UnitState.READY,
        UnitState.WAITING,
        UnitState.RUNNING,
        UnitState.QUEUED,
        UnitState.HELD,
    ],
)
def test_every_open_repair_unit_is_cancelled_with_the_reason(
    line: OnRecord, state: UnitState
) -> None:
    line.unit("other", state)
    unit = line.unit("repair-trunk", state)
    line.raise_card(conflict(unit, "conflicts"), unit)
    repairs.note(line.store, "repair-trunk", now=NOW)

    end(line)

    ended = line.the_unit("repair-trunk")
    assert (ended.state, ended.why) == (UnitState.CANCELLED, "main is green again")
    assert (line.the_unit("other").state, line.open_cards()) == (state, [])


def test_what_has_ended_stays_and_the_parts_of_a_split_repair_are_cancelled(
    line: OnRecord,
) -> None:
    line.unit("done", UnitState.LANDED)
    line.unit("whole", UnitState.SPLIT, needs=("part-1", "part-2"))
    line.unit("part-1", UnitState.LANDED)
    line.unit("part-2")
    for name in ("gone", "done", "whole"):
        repairs.note(line.store, name, now=NOW)

    end(line)

    states = {name: line.the_unit(name).state for name in ("done", "whole", "part-1", "part-2")}
    assert states == {
        "done": UnitState.LANDED,
        "whole": UnitState.SPLIT,
        "part-1": UnitState.LANDED,
        "part-2": UnitState.CANCELLED,
    }


def test_a_repair_that_is_landing_is_left_until_it_is_known_whether_it_landed(
    line: OnRecord,
) -> None:
    line.unit("repair-trunk", UnitState.QUEUED)
    repairs.note(line.store, "repair-trunk", now=NOW)
    step = Step(id="s", kind="landing", data='{"units": [["repair-trunk", "c0ffee"]]}', at=NOW)
    line.store.write(Event.FACT_CHANGED, step, now=NOW)
    end(line)
    assert line.the_unit("repair-trunk").state is UnitState.QUEUED
    line.store.write(
        Event.FACT_CHANGED, Step(id="s", kind="landing", data="{}", at=NOW, done=True), now=NOW
    )

    end(line)

    assert line.the_unit("repair-trunk").state is UnitState.CANCELLED


def test_without_repairs_nothing_is_written(line: OnRecord) -> None:
    before = line.events()

    end(line)

    assert line.events() == before
