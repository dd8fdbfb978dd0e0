"""Money, tokens and minutes: what an attempt may have, and what it is charged with in the end.

Invariant: a grant is within what each cap leaves, so grants made in turn never add up to more.
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

SLACK = 1e-6  # dollars, minutes: sums of cents are not exact
# So many times the need is held back if there is as much: not every attempt can get more later.
GENEROUS = 3
NOT_WORKED = frozenset({EndReason.LIMIT, EndReason.AUTH, EndReason.SETUP_FAILED})


@dataclass(frozen=True, slots=True)
class Amount:
    """So many dollars, so many tokens, and so many minutes of an agent."""

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
        """Whether `other` pays for it."""
        money = self.usd <= other.usd + SLACK and self.tokens <= other.tokens
        return money and self.minutes <= other.minutes + SLACK


NO_CAP = Amount(math.inf, math.inf, math.inf)
UNKNOWN = Amount(2.0, 2_000_000)  # what an attempt may need while none of its runtime has told


@dataclass(frozen=True, slots=True)
class Caps:
    """What one attempt, one unit and one day (UTC) may use."""

    attempt: Amount = NO_CAP
    unit: Amount = NO_CAP
    day: Amount = NO_CAP

    def counted(self, amount: Amount) -> Amount:
        """Of the amount what any of the caps is about."""
        cap = least(self.attempt, self.unit, self.day)
        return Amount(
            amount.usd if cap.usd < math.inf else 0,
            amount.tokens if cap.tokens < math.inf else 0,
            amount.minutes if cap.minutes < math.inf else 0,
        )


class Short(StrEnum):
    """Why an attempt cannot be paid for."""

    UNIT = "unit"  # its unit has used up what it may
    DAY = "day"  # what is left of the day does not pay for it
    LATER = "later"  # it would, but is held back for attempts that run


def caps(table: Budget, *, raised: int = 0, regardless: bool = False) -> Caps:
    """The caps of factory.toml; a person `raised` the unit's so often, or lifted the day's."""
    unit = _cap(table.unit_usd, table.unit_tokens, table.unit_minutes) * (1 + raised)
    day = NO_CAP if regardless else _cap(table.day_usd, table.day_tokens, table.day_minutes)
    return Caps(_cap(table.attempt_usd, table.attempt_tokens), unit, day)


def least(*amounts: Amount) -> Amount:
    """The smaller of each."""
    return _each(min, amounts)


def most(*amounts: Amount) -> Amount:
    """The larger of each."""
    return _each(max, amounts)


def total(amounts: Iterable[Amount]) -> Amount:
    """All of them together."""
    return sum(amounts, Amount())


def used(attempt: Attempt) -> Amount:
    """What the attempt has told of."""
    minutes = spending.minutes_used(attempt.reserved_minutes, ended=attempt.end is not None)
    return Amount(attempt.cost_usd, attempt.tokens_input + attempt.tokens_output, minutes)


def held(attempt: Attempt) -> Amount:
    """What is held back for the attempt."""
    return Amount(attempt.reserved_usd, attempt.reserved_tokens, attempt.reserved_minutes)


def charge(attempt: Attempt) -> Amount:
    """What the attempt counts for: what it told of, or what was held back where that is more."""
    told = used(attempt)
    kept = held(attempt)
    return Amount(
        spending.charge(told.usd, kept.usd),
        spending.charge(told.tokens, kept.tokens),
        spending.charge(told.minutes, kept.minutes),
    )


def needed(earlier: Iterable[Attempt]) -> Amount:
    """What an attempt is likely to need: enough for nine of ten `earlier` ones of its runtime."""
    told = [used(each) for each in earlier]
    return Amount(
        _p90(each.usd for each in told) or UNKNOWN.usd,
        _p90(each.tokens for each in told) or UNKNOWN.tokens,
    )


def reserve(
    caps: Caps, need: Amount, *, unit: Amount, spent: Amount, running: Amount
) -> Amount | Short:
    """What to hold back for an attempt that is likely to `need` so much, or why it cannot start.

    `unit` and `spent`: charged to the unit, and to the day so far. `running`: held back beyond
    that.
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
    """What to hold back for an attempt that is about to have used `want`; None: no cap pays for it.

    `unit` and `day`: charged to the unit and to the day by others.
    """
    want = caps.counted(want)
    limit = least(caps.attempt, caps.unit - unit, caps.day - day)
    limit = replace(limit, minutes=math.inf)  # its shim bounds the minutes
    # More may be held back than caps allow that were lowered since.
    if want.within(least(held, limit)):
        return held
    if not want.within(limit):
        return None
    return most(held, least(want * 1.5, limit))


def settle(attempt: Attempt) -> Attempt:
    """The ended attempt on the account of the day of its end; free where no model worked."""
    if attempt.end is None:
        return attempt
    day = attempt.day or day_of(attempt.end)
    if not attempt.workspace or (attempt.reason in NOT_WORKED and not attempt.tree):
        return replace(attempt, day=day, reserved_usd=0.0, reserved_tokens=0, reserved_minutes=0.0)
    # Preparation counts too, within the minutes that were held back.
    took = max(0.0, (attempt.end - attempt.start).total_seconds() / 60)
    return replace(attempt, day=day, reserved_minutes=min(took, attempt.reserved_minutes))


def said(amount: Amount, cap: Amount) -> str:
    """How much, in the units in which `cap` limits it."""
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
