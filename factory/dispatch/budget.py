"""Money, tokens and minutes: what factoryd reserves for an attempt, and what the attempt costs.

Invariant: an attempt starts only if its whole reservation fits under every cap.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from factory.ground.settings import Budget
from factory.ground.times import day_of
from factory.store import spending
from factory.store.records import Attempt
from factory.store.unit import EndReason

SLACK = 1e-6  # in dollars and minutes, because sums of cents are not exact
# factoryd reserves up to this many times the need, because not every attempt can get more later.
GENEROUS = 3
NOT_WORKED = frozenset({EndReason.LIMIT, EndReason.AUTH, EndReason.SETUP_FAILED})


@dataclass(frozen=True, slots=True)
class Amount:
    """An amount of dollars, tokens and minutes."""

    usd: float = 0.0
    tokens: float = 0
    minutes: float = 0.0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(
            self.usd + other.usd, self.tokens + other.tokens, self.minutes + other.minutes
        )

    def __sub__(self, other: "Amount") -> "Amount":
        return Amount(
            self.usd - other.usd, self.tokens - other.tokens, self.minutes - other.minutes
        )

    def __mul__(self, factor: float) -> "Amount":
        return Amount(self.usd * factor, self.tokens * factor, self.minutes * factor)

    def within(self, other: "Amount") -> bool:
        """Return whether this amount is at most `other`."""
        money = self.usd <= other.usd + SLACK and self.tokens <= other.tokens
        return money and self.minutes <= other.minutes + SLACK


NO_CAP = Amount(math.inf, math.inf, math.inf)
UNKNOWN = Amount(2.0, 2_000_000)  # assumed need while no attempt of the runtime has reported usage


@dataclass(frozen=True, slots=True)
class Caps:
    """The most that one attempt, one unit and one day (UTC) may use."""

    attempt: Amount = NO_CAP
    unit: Amount = NO_CAP
    day: Amount = NO_CAP

    def counted(self, amount: Amount) -> Amount:
        """Return the parts of the amount that a cap limits; the other parts are 0."""
        cap = least(self.attempt, self.unit, self.day)
        return Amount(
            amount.usd if cap.usd < math.inf else 0,
            amount.tokens if cap.tokens < math.inf else 0,
            amount.minutes if cap.minutes < math.inf else 0,
        )


class Short(StrEnum):
    """Why an attempt cannot be paid for."""

    UNIT = "unit"  # the unit has reached its limit
    DAY = "day"  # the rest of the day's limit is less than the attempt needs
    LATER = "later"  # the rest is enough, but reserved for running attempts


def caps(table: Budget, *, raised: int = 0, regardless: bool = False) -> Caps:
    """Return the caps of factory.toml; `raised`: how often a person raised the unit's cap."""
    unit = _cap(table.unit_usd, table.unit_tokens, table.unit_minutes) * (1 + raised)
    day = NO_CAP if regardless else _cap(table.day_usd, table.day_tokens, table.day_minutes)
    return Caps(_cap(table.attempt_usd, table.attempt_tokens), unit, day)


def least(*amounts: Amount) -> Amount:
    """Return the smallest of each part."""
    return _each(min, amounts)


def most(*amounts: Amount) -> Amount:
    """Return the largest of each part."""
    return _each(max, amounts)


def total(amounts: Iterable[Amount]) -> Amount:
    """Return the sum of the amounts."""
    return sum(amounts, Amount())


def used(attempt: Attempt) -> Amount:
    """Return the usage that the attempt has reported."""
    minutes = spending.minutes_used(attempt.reserved_minutes, ended=attempt.end is not None)
    return Amount(attempt.cost_usd, attempt.tokens_input + attempt.tokens_output, minutes)


def held(attempt: Attempt) -> Amount:
    """Return what is reserved for the attempt."""
    return Amount(attempt.reserved_usd, attempt.reserved_tokens, attempt.reserved_minutes)


def charge(attempt: Attempt) -> Amount:
    """Return what the attempt costs: its reported usage or its reservation, whichever is more."""
    told = used(attempt)
    kept = held(attempt)
    return Amount(
        spending.charge(told.usd, kept.usd),
        spending.charge(told.tokens, kept.tokens),
        spending.charge(told.minutes, kept.minutes),
    )


def needed(earlier: Iterable[Attempt]) -> Amount:
    """Return what an attempt probably needs: enough for nine of ten `earlier` attempts."""
    told = [used(each) for each in earlier]
    return Amount(
        _p90(each.usd for each in told) or UNKNOWN.usd,
        _p90(each.tokens for each in told) or UNKNOWN.tokens,
    )


def reserve(
    caps: Caps, need: Amount, *, unit: Amount, spent: Amount, running: Amount
) -> Amount | Short:
    """Return what to reserve for an attempt that probably needs `need`, or why it cannot start.

    `unit` and `spent` are the amounts charged so far to the unit and to the day. `running` is the
    money that is reserved for running attempts and not yet spent.
    """
    rest = caps.unit - unit
    left = caps.day - spent
    need = least(need, caps.attempt, caps.unit, caps.day)
    if not (need * 0.5).within(rest):
        return Short.UNIT
    need = least(need, rest)
    if not need.within(left):
        return Short.DAY
    if not need.within(left - running):
        return Short.LATER
    return caps.counted(least(need * GENEROUS, caps.attempt, rest, left - running))


def extend(caps: Caps, held: Amount, want: Amount, *, unit: Amount, day: Amount) -> Amount | None:
    """Return the reservation for an attempt that will soon have used `want`; None: over a cap.

    `unit` and `day` are the amounts that other attempts cost the unit and the day.
    """
    want = caps.counted(want)
    limit = least(caps.attempt, caps.unit - unit, caps.day - day)
    limit = replace(limit, minutes=math.inf)  # the shim of the agent limits the minutes
    # If a person has lowered a cap, the reservation may be above that cap.
    if want.within(least(held, limit)):
        return held
    if not want.within(limit):
        return None
    return most(held, least(want * 1.5, limit))


def settle(attempt: Attempt) -> Attempt:
    """Return the ended attempt, charged to the day of its end; without cost if no model worked."""
    if attempt.end is None:
        return attempt
    day = attempt.day or day_of(attempt.end)
    if not attempt.workspace or (attempt.reason in NOT_WORKED and not attempt.tree):
        return replace(attempt, day=day, reserved_usd=0.0, reserved_tokens=0, reserved_minutes=0.0)
    # The time of the preparation counts too, up to the reserved minutes.
    took = max(0.0, (attempt.end - attempt.start).total_seconds() / 60)
    return replace(attempt, day=day, reserved_minutes=min(took, attempt.reserved_minutes))


def said(amount: Amount, cap: Amount) -> str:
    """Return the amount as text, in the units that `cap` limits."""
    parts = []
    if cap.usd < math.inf:
        parts.append(f"${amount.usd:.2f}")
    if cap.tokens < math.inf:
        parts.append(f"{amount.tokens:,.0f} tokens")
    if cap.minutes < math.inf:
        parts.append(f"{amount.minutes:,.1f} minutes")
    return " and ".join(parts)


def _cap(usd: float | None, tokens: int | None, minutes: float | None = None) -> Amount:
    return Amount(usd or math.inf, tokens or math.inf, minutes or math.inf)


def _each(pick: Callable[..., float], amounts: Sequence[Amount]) -> Amount:
    usd = [each.usd for each in amounts]
    tokens = [each.tokens for each in amounts]
    minutes = [each.minutes for each in amounts]
    return Amount(pick(usd), pick(tokens), pick(minutes))


def _p90(values: Iterable[float]) -> float:
    told = sorted(filter(None, values))
    if not told:
        return 0
    return told[math.ceil(0.9 * len(told)) - 1]
