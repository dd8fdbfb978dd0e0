"""Runtimes that rest: never a tight loop of starts, whatever goes wrong."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from factory.dispatch.pauses import note_end, put_right, resting
from factory.people import line_cards
from factory.store.records import Attempt, CardKind
from factory.store.unit import EndReason
from tests.on_record import NOW, OnRecord, later

NOTHING = ("empty", "crashed", "lost", "auth", "handed_back")


class Line(OnRecord):
    """Attempts that end one after the other."""

    def ends(
        self,
        unit: str,
        reason: str = "crashed",
        *,
        at: datetime = NOW,
        took: float = 5,
        reset: datetime | None = None,
        agent: str = "claude",
        tree: str = "",
    ) -> datetime | None:
        start = at - timedelta(seconds=took)
        attempt = Attempt(
            unit=unit,
            number=1,
            worker="w1",
            agent=agent,
            start=start,
            end=at,
            reason=EndReason(reason),
            tree=tree,
            detail="it ended with exit 1",
        )
        return note_end(self.store, self.escalations, attempt, reset=reset, now=at)

    def rests(self, at: datetime = NOW) -> dict[str, float]:
        """For how many seconds each runtime does, as a pass of the pool finds it."""
        put_right(self.store, at)
        return {
            name: (until - at).total_seconds() for name, until in resting(self.store, at).items()
        }


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line(tmp_path)


@pytest.mark.parametrize("reason", NOTHING)
def test_when_unit_after_unit_ends_at_once_the_runtime_rests_longer_and_longer(
    line: Line, reason: str
) -> None:
    rested, at = [], NOW
    for number in range(9):
        line.ends(f"u{number}", reason, at=at)
        rested.append(line.rests(at).get("claude", 0))
        at += timedelta(seconds=rested[-1])

    assert rested == [0, 0, 10, 20, 40, 80, 160, 300, 300]
    assert [(kind, units) for _, kind, units in line.open_cards()] == [(CardKind.RUNTIME, ())]


def test_one_unit_that_fails_all_the_time_is_that_units_affair(line: Line) -> None:
    for _ in range(6):
        line.ends("u")

    assert (line.rests(), line.open_cards()) == ({}, [])


@pytest.mark.parametrize(
    "how", [{"reason": "gate_red", "tree": "t"}, {"tree": "t"}, {"reason": "asked"}]
)
def test_an_attempt_that_works_ends_the_row_and_closes_the_card(
    line: Line, how: dict[str, object]
) -> None:
    for name in "abc":
        line.ends(name)

    line.ends("d", at=later(10), **how)  # type: ignore[arg-type]
    line.ends("e", at=later(20))

    assert (line.rests(later(20)), line.open_cards()) == ({}, [])


@pytest.mark.parametrize("reason", ["cancelled", "setup_failed"])
def test_what_says_nothing_about_the_runtime_is_not_counted(line: Line, reason: str) -> None:
    for name in ("a", "b"):
        line.ends(name)
    line.ends("c", reason)
    line.ends("c", "crashed", took=300)
    assert line.rests() == {}

    line.ends("d")

    assert line.rests() == {"claude": 10}


def test_a_shell_command_has_no_runtime_that_could_rest(line: Line) -> None:
    for name in "abcdef":
        line.ends(name, agent="run")

    assert line.rests() == {}


def test_a_usage_limit_rests_until_its_reset_and_is_no_card_however_many_meet_it(
    line: Line,
) -> None:
    until = [line.ends(name, "limit", reset=later(3600)) for name in "abcd"]

    assert (until, line.rests(), line.open_cards()) == ([later(3600)] * 4, {"claude": 3600}, [])


def test_a_rest_that_an_earlier_version_took_from_an_agent_ends_after_eight_days(
    line: Line,
) -> None:
    line.ends("a", "limit", reset=datetime(3000, 1, 1, tzinfo=UTC))

    assert line.rests() == {"claude": 8 * 86400}
    assert line.rests(later(8 * 86400 + 1)) == {}


def test_a_limit_without_a_reset_is_tried_again_soon_and_then_ever_later_and_a_person_is_told_once(
    line: Line,
) -> None:
    rested, told, at = [], [], NOW
    for _ in range(9):
        line.ends("u", "limit", at=at)
        rested.append(line.rests(at)["claude"])
        told.append(len(line.open_cards()))
        at += timedelta(seconds=rested[-1])

    assert rested == [10, 20, 40, 80, 160, 320, 640, 900, 900]
    assert told == [0, 0, 0, 0, 0, 0, 0, 1, 1]
    line.ends("u", "gate_red", at=at, tree="t")
    assert (line.rests(at), line.open_cards()) == ({}, [])


def test_units_that_meet_a_limit_together_do_not_make_it_longer_and_a_reset_does(
    line: Line,
) -> None:
    for name in "abcd":
        line.ends(name, "limit")
    assert line.rests() == {"claude": 10}

    line.ends("e", "limit", reset=later(1))
    assert line.rests() == {"claude": 10}
    line.ends("f", "limit", reset=later(900))
    assert (line.rests(), line.open_cards()) == ({"claude": 900}, [])


def test_a_limit_that_is_over_already_rests_longer_each_time(line: Line) -> None:
    rested, at = [], NOW
    for _ in range(4):
        line.ends("u", "limit", at=at, reset=later(-60))
        rested.append(line.rests(at)["claude"])
        at += timedelta(seconds=rested[-1])

    assert rested == [10, 20, 40, 80]


def test_where_a_card_about_the_login_is_open_there_is_no_second_one(line: Line) -> None:
    line.raise_card(
        line_cards.runtime_trouble("claude", "claude is not logged in.", evidence="401"),
        line.unit("a"),
    )

    for name in "abc":
        line.ends(name, "auth")
    assert len(line.open_cards()) == 1
    line.ends("d", "gate_red", at=later(99), tree="t")

    assert line.open_cards() == []


def test_runtimes_rest_side_by_side(line: Line) -> None:
    line.ends("a", "limit", reset=later(60))
    line.ends("b", "limit", reset=later(90), agent="codex")

    assert line.rests() == {"claude": 60, "codex": 90}


def test_a_clock_that_is_set_back_makes_a_rest_no_longer_than_it_was(line: Line) -> None:
    line.ends("a", "limit", reset=later(60))
    back = later(-86_400)

    assert line.rests(back) == {"claude": 60}
    assert line.rests(back + timedelta(seconds=60)) == {}
