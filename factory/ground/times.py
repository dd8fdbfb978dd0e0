"""Formats times, and adjusts waits if somebody sets the clock.

Invariant: pure; callers pass the present time.
"""

from datetime import UTC, datetime, timedelta

CLOCK_SLACK = timedelta(seconds=1)


def clock(at: datetime) -> str:
    """Return the time as text for a sentence."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def day_of(at: datetime) -> str:
    """Return the day in UTC."""
    return stamp(at)[:10]


def as_of(since: datetime, until: datetime, now: datetime) -> tuple[datetime, datetime]:
    """Return a wait's begin and end. If the clock was set back before the begin, begin now."""
    if since > now + CLOCK_SLACK:
        return now, now + (until - since)
    return since, until


def backoff(failures: int, *, at_most: float = 300) -> float:
    """Return the seconds to wait after n failures in a row: 10 × 2^(n-1), at most 300."""
    return float(min(at_most, 10 * 2 ** (failures - 1)))


def stamp(at: datetime) -> str:
    """Return the time in RFC 3339, UTC, with microseconds: exact, and sortable as text."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def from_stamp(text: str) -> datetime:
    """Return the datetime, with its time zone, that `stamp` wrote."""
    return datetime.fromisoformat(text)
