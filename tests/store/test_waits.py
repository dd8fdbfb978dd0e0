from datetime import UTC, datetime, timedelta

import pytest

from factory.store.states import UnitState
from factory.store.waits import Place, missing, queued, ready

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
RUNNING, LANDED = UnitState.RUNNING, UnitState.LANDED


def test_a_need_that_is_under_way_is_named_with_its_state() -> None:
    known = {"a": RUNNING, "x": LANDED, "y": UnitState.HELD}

    assert missing(("a", "x", "y"), None, known, now=NOW) == (
        "needs a, which is running; needs y, which is held"
    )


def test_a_cancelled_need_an_unknown_one_and_a_time_are_said() -> None:
    known = {"a": UnitState.CANCELLED, "add-login": RUNNING}

    said = missing(("a", "add-logn"), NOW + timedelta(minutes=1), known, now=NOW)

    assert said == (
        "needs a, which was cancelled; "
        "needs add-logn, which does not exist yet: did you mean add-login?; "
        "waits until 2026-01-05 12:01:00 UTC"
    )


def test_nothing_is_missing_once_all_needs_have_landed_and_the_time_has_come() -> None:
    assert missing(("a",), NOW, {"a": LANDED}, now=NOW) == ""


def test_a_unit_is_no_suggestion_for_its_own_need() -> None:
    known = {"add-login": RUNNING}

    said = missing(("add-logn",), None, known, now=NOW, own="add-login")

    assert said == "needs add-logn, which does not exist yet"


def test_a_ready_unit_with_nothing_before_it_starts_next() -> None:
    assert ready("", paused=False, stopped=False) == "starts next"


@pytest.mark.parametrize(
    ("place", "ahead", "said"),
    [
        (Place.GATES, "", "its gates run"),
        (Place.BENCH, "a", "waits for a free bench"),
        (Place.AHEAD, "a", "waits behind a"),
        (Place.LANDS, "", "green; lands next"),
        (Place.LANDS, "a", "green; lands after a"),
        (Place.TRUNK, "", "red; waits for the verdict on main, which may be red itself"),
        (Place.ALONE, "a", "red together with a; will be judged alone"),
        (Place.LANDING, "", "lands now"),
        (Place.OWN, "a", "stored"),
        ("of a newer release", "a", "stored"),
    ],
)
def test_a_queued_unit_says_what_it_waits_for(place: str, ahead: str, said: str) -> None:
    assert queued(place, "stored", ahead=ahead, trunk="main") == said
