"""When a usage limit ends, as an agent tells it."""

from datetime import UTC, datetime, timedelta

import pytest

from factory.agents.resets import reset_time

NOW = datetime(2026, 11, 24, 11, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1795540000", datetime(2026, 11, 24, 17, 6, 40, tzinfo=UTC)),
        ("1795540000000", datetime(2026, 11, 24, 17, 6, 40, tzinfo=UTC)),  # in milliseconds
        ("90", datetime(2026, 11, 24, 11, 11, 30, tzinfo=UTC)),
        ("0.5", datetime(2026, 11, 24, 11, 10, 0, 500_000, tzinfo=UTC)),
        ("5:06pm (UTC)", datetime(2026, 11, 24, 17, 6, tzinfo=UTC)),
        ("5:06 PM.", datetime(2026, 11, 24, 17, 6, tzinfo=UTC)),
        ("10:55am", datetime(2026, 11, 25, 10, 55, tzinfo=UTC)),
        ("3pm", datetime(2026, 11, 24, 15, 0, tzinfo=UTC)),
        ("17:00", datetime(2026, 11, 24, 17, 0, tzinfo=UTC)),
        ("Nov 27th, 2026 9:44 AM", datetime(2026, 11, 27, 9, 44, tzinfo=UTC)),
        ("Nov 27 at 10am", datetime(2026, 11, 27, 10, 0, tzinfo=UTC)),
        (f"{8 * 86400}", datetime(2026, 12, 2, 11, 10, tzinfo=UTC)),
    ],
)
def test_a_reset_time_is_understood(text: str, moment: datetime) -> None:
    assert reset_time(text, NOW) == moment


@pytest.mark.parametrize(
    "text", ["soon", "", "25:61", "nan", "9" * 400, "-" * 400, "at " * 100_000]
)
def test_what_is_no_time_names_no_reset(text: str) -> None:
    assert reset_time(text, NOW) is None


@pytest.mark.parametrize(
    "text",
    [
        "32503680000",
        "32503680000000",
        f"{8 * 86400 + 1}",
        "Dec 24 2026 5pm",
        "Jan 1 3000 5pm",
        "inf",
        "1e308",
        "1e11",
    ],
)
def test_what_is_farther_away_than_eight_days_names_no_reset(text: str) -> None:
    assert reset_time(text, NOW) is None


def test_a_day_without_a_year_is_the_next_one() -> None:
    eve = datetime(2026, 12, 31, 22, 0, tzinfo=UTC)

    assert reset_time("Jan 2 at 10am", eve) == datetime(2027, 1, 2, 10, 0, tzinfo=UTC)
    assert reset_time("Dec 31 at 9pm", eve) == eve - timedelta(hours=1)
