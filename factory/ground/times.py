"""Moments and waits: how they are said, and what becomes of a wait where the clock was set.

Invariant: pure; the present is passed in.
"""

from datetime import UTC, datetime, timedelta

CLOCK_SLACK = timedelta(seconds=1)


def clock(at: datetime) -> str:
    """A time as sentences tell it."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def day_of(at: datetime) -> str:
    """The day in UTC."""
    return stamp(at)[:10]


def as_of(since: datetime, until: datetime, now: datetime) -> tuple[datetime, datetime]:
    """A wait's begin and end by the clock of now: one that begins in the future begins now (the clock was set back)."""
    return (now, now + (until - since)) if since > now + CLOCK_SLACK else (since, until)


def backoff(failures: int, *, at_most: float = 300) -> float:
    """Seconds to wait after so many failures: 10 × 2^(n-1), at most 300 (field.md §4)."""
    return float(min(at_most, 10 * 2 ** (failures - 1)))


def stamp(at: datetime) -> str:
    """RFC 3339, UTC, microseconds (nothing is lost): sorts as text."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def from_stamp(text: str) -> datetime:
    """The aware datetime that `stamp` wrote."""
    return datetime.fromisoformat(text)
