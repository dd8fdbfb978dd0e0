from datetime import UTC, datetime, timedelta

from factory.store.states import UnitState
from factory.store.waits import missing

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
