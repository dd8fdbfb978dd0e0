"""Finds in an agent's text when a usage limit ends."""

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta

FARTHEST = timedelta(days=8)  # a week and a day, because providers have hourly and weekly limits
_MILLISECONDS = 1e11  # a larger number is an epoch in milliseconds
_EPOCH = 1e9  # a smaller number is not an epoch, but the number of seconds from now
_CLOCKS = ("%b %d %Y %I:%M%p", "%b %d %Y %I%p", "%b %d %Y %H:%M")


def reset_time(text: str, now: datetime) -> datetime | None:
    """Return the time in `text`: an epoch, seconds from now, or the next clock time (UTC).

    Returns None for any other text. Also returns None for a time beyond FARTHEST, because no limit
    lasts so long.
    """
    told = _moment(text[:100].strip(), now)
    return told if told and told - now <= FARTHEST else None


def _moment(text: str, now: datetime) -> datetime | None:
    with suppress(OverflowError, ValueError, OSError):
        number = float(text)
        seconds = number / 1000 if number > _MILLISECONDS else number
        if seconds > _EPOCH:
            return datetime.fromtimestamp(seconds, UTC)
        return now + timedelta(seconds=seconds)
    plain = " ".join(re.sub(r"\(.*?\)|,|\bat\b|(?<=\d)(st|nd|rd|th)\b|\.$", " ", text).split())
    plain = re.sub(r"\s*(?=[ap]m\b)", "", plain, flags=re.IGNORECASE)
    if plain[:1].isdigit():
        told = _clock(f"{now:%b %d %Y} {plain}")
        if told and told <= now:
            return told + timedelta(days=1)
        return told
    dated = re.sub(r"^(\w+ \d+) (?!\d{4}\b)", rf"\g<1> {now.year} ", plain)
    told = _clock(dated)
    # a date in January that was read in December
    if told and dated != plain and told < now - FARTHEST:
        return _clock(dated.replace(str(now.year), str(now.year + 1), 1))
    return told


def _clock(dated: str) -> datetime | None:
    for form in _CLOCKS:
        with suppress(ValueError):
            return datetime.strptime(dated, form).replace(tzinfo=UTC)
    return None
