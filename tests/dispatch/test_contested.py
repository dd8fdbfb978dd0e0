"""Whose turn it is on contested paths, in virtual time."""

from datetime import UTC, datetime, timedelta
from typing import Any

from factory.dispatch.contested import (
    MOST_BYTES,
    Contest,
    Precedence,
    after,
    holders,
    noted,
    turn,
)
from factory.dispatch.scheduling import choose
from factory.store.records import Hook
from factory.store.unit import EndReason, Unit, UnitState
from factory.store.waits import behind

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
RUNNING, QUEUED, READY = UnitState.RUNNING, UnitState.QUEUED, UnitState.READY
LOG = ("log.txt",)


def a_unit(id: str, state: UnitState = READY, *, minutes: float = 1, **fields: Any) -> Unit:
    """A unit that was dropped an hour ago, in that state for so many minutes."""
    dropped = NOW - timedelta(hours=1)
    since = NOW - timedelta(minutes=minutes)
    values = {"conflicts": 1 if fields.get("contested") else 0, "accepted": dropped} | fields
    return Unit(id=id, title=id, state=state, since=since, **values)


def limit(unit: Unit) -> float:
    return 45


def why_not(unit: Unit, *others: Unit) -> str:
    return Precedence([unit, *others], limit, NOW).why_not(unit)


def chosen(*units: Unit, stopped: str = "") -> dict[str, str]:
    """What each ready unit that is not stopped waits for; "" if it starts."""
    hooks = [Hook(worker=f"w{number}", index=number) for number in (1, 2, 3)]
    choices = choose(
        units,
        hooks,
        is_stopped=lambda unit: unit.id == stopped,
        homes={},
        precedence=Precedence(units, limit, NOW),
    )
    return {choice.unit.id: choice.why for choice in choices}


def test_a_unit_that_conflicted_waits_for_the_one_that_changes_the_same_path_again() -> None:
    unit = a_unit("b", contested=("a.py", *LOG))

    assert why_not(unit, a_unit("a", RUNNING, contested=LOG)) == behind("a", "log.txt")
    assert why_not(unit, a_unit("a", QUEUED, contested=LOG)) == behind("a", "log.txt")
    assert why_not(unit, a_unit("a", UnitState.HELD, contested=LOG)) == ""
    assert why_not(unit, a_unit("a", RUNNING, contested=("b.py",))) == ""
    assert why_not(unit, a_unit("a", RUNNING)) == ""
    assert behind("a", "log.txt") == "waits for a, which is ahead of it in log.txt"


def test_units_that_conflicted_start_one_at_a_time_and_each_names_the_one_before_it() -> None:
    units = [a_unit(name, contested=LOG) for name in "abc"]

    assert chosen(*units, a_unit("d"), a_unit("e", contested=("e.py",))) == {
        "a": "",
        "b": behind("a", "log.txt"),
        "c": behind("b", "log.txt"),
        "d": "",
        "e": "",
    }


def test_a_unit_that_may_not_start_anyway_keeps_nobody_waiting() -> None:
    units = [a_unit(name, contested=LOG) for name in "ab"]

    assert chosen(*units, stopped="a") == {"b": ""}


def test_nobody_waits_for_longer_than_the_minutes_of_the_unit_ahead() -> None:
    unit = a_unit("b", contested=LOG, behind=("q",))

    assert why_not(unit, a_unit("a", RUNNING, minutes=45, contested=LOG)) == ""
    assert holders([a_unit("a", RUNNING, minutes=45, contested=LOG)], limit, NOW) == {}
    late = a_unit("b", contested=LOG, behind=("q",), minutes=45)
    assert why_not(late, a_unit("q", QUEUED, minutes=60)) == ""
    # somebody set the clock back by a day
    assert why_not(unit, a_unit("a", RUNNING, minutes=-24 * 60, contested=LOG)) == ""


def test_a_unit_waits_for_what_was_queued_with_its_paths_when_it_conflicted() -> None:
    unit = a_unit("b", contested=LOG, behind=("q",))

    assert why_not(unit, a_unit("q", QUEUED, minutes=5)) == behind("q", "log.txt")
    assert why_not(unit, a_unit("q", READY, minutes=5)) == ""
    assert why_not(unit, a_unit("q", QUEUED, minutes=0.5)) == "", "it was submitted again later"
    assert why_not(unit) == ""


def test_submitted_units_land_in_one_order() -> None:
    submitted = [
        a_unit("twice", QUEUED, priority=4, contested=LOG, conflicts=2),
        a_unit("urgent", QUEUED, priority=0),
        a_unit("older", QUEUED, contested=LOG, accepted=NOW - timedelta(hours=2), minutes=1),
        a_unit("once", QUEUED, contested=LOG, minutes=9),
        a_unit("first", QUEUED, minutes=3),
        a_unit("second", QUEUED, minutes=2),
    ]

    keys = [turn(unit) for unit in submitted]
    assert keys == sorted(keys)


def test_only_an_attempt_under_way_holds_its_path_and_the_first_in_turn_holds_it() -> None:
    first = a_unit("first", RUNNING, contested=(*LOG, "a.py"))
    second = a_unit("second", RUNNING, contested=(*LOG, "b.py"))
    others = [a_unit("ready", contested=("c.py",)), a_unit("queued", QUEUED, contested=("d.py",))]

    assert holders([second, first, *others], limit, NOW) == {
        "log.txt": first,
        "a.py": first,
        "b.py": second,
    }


def test_an_attempt_that_counts_ends_the_row_of_conflicts() -> None:
    unit = a_unit("a", contested=LOG, behind=("b",), conflicts=2)

    assert after(unit, EndReason.LOST) == unit
    assert after(unit, EndReason.CONFLICT) == unit
    assert after(unit, EndReason.GATE_RED) == a_unit("a", conflicts=0)


def test_a_unit_keeps_a_bounded_number_of_paths_the_newest_first() -> None:
    paths = tuple(f"src/{'x' * 90}/{number}.py" for number in range(100))

    unit = noted(a_unit("a", contested=LOG), Contest(paths, tuple("abc")))

    assert unit.contested == paths[: len(unit.contested)]
    assert 10 < len(unit.contested) <= MOST_BYTES // 90
    assert (unit.conflicts, unit.behind) == (2, ("a", "b", "c"))
    assert noted(a_unit("a", contested=LOG), Contest(LOG)).contested == LOG
