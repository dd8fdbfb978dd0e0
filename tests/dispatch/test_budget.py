"""What attempts may have: pure decisions about money and tokens."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.dispatch.budget import (
    NO_CAP,
    UNKNOWN,
    Amount,
    Caps,
    Short,
    caps,
    charge,
    extend,
    needed,
    reserve,
    said,
    settle,
    total,
)
from factory.ground.settings import Budget
from factory.store.records import Attempt
from factory.store.unit import EndReason

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
ATTEMPT = Attempt(unit="u", number=1, worker="w1", agent="a", start=NOON)
AMOUNTS = st.builds(Amount, st.floats(0, 20), st.integers(0, 10**7))
CAPS = st.builds(
    Amount,
    st.one_of(st.just(math.inf), st.floats(0.01, 50)),
    st.one_of(st.just(math.inf), st.just(1e7)),
)
NOTHING = Amount()


def usd(amount: float) -> Amount:
    return Amount(amount, math.inf, math.inf)


def test_without_a_key_there_is_no_cap() -> None:
    assert caps(Budget()) == Caps(NO_CAP, NO_CAP, NO_CAP)


def test_a_person_raises_the_cap_of_a_unit_by_itself_and_lets_a_day_go_on() -> None:
    table = Budget(unit_usd=2, day_usd=50, day_tokens=1000)

    assert caps(table) == Caps(NO_CAP, usd(2), Amount(50, 1000, math.inf))
    assert caps(table, raised=2, regardless=True) == Caps(NO_CAP, usd(6), NO_CAP)


def test_what_nine_of_ten_attempts_made_do_with_is_needed_and_what_nobody_told_is_a_guess() -> None:
    told = [replace(ATTEMPT, number=n, cost_usd=n / 10) for n in range(1, 11)]

    assert needed(told) == Amount(0.9, UNKNOWN.tokens)
    assert needed([ATTEMPT]) == UNKNOWN


@pytest.mark.parametrize(
    ("held", "unit", "spent", "running", "granted"),
    [
        (Caps(), 0, 0, 0, NOTHING),
        (Caps(day=usd(50)), 0, 0, 0, Amount(3)),
        (Caps(day=usd(50), attempt=usd(0.5)), 0, 0, 0, Amount(0.5)),
        (Caps(day=usd(50), unit=usd(2)), 0, 0, 0, Amount(2)),
        (Caps(unit=usd(2)), 1.25, 0, 0, Amount(0.75)),
        (Caps(unit=usd(2)), 1.6, 0, 0, Short.UNIT),
        (Caps(unit=usd(2)), 2.5, 0, 0, Short.UNIT),
        (Caps(day=usd(3.5)), 0, 1, 1, Amount(1.5)),
        (Caps(day=usd(3.5)), 0, 1, 2, Short.LATER),
        (Caps(day=usd(3.5)), 0, 3, 0, Short.DAY),
        (Caps(day=usd(0.6)), 0, 0, 0, Amount(0.6)),
        (Caps(day=usd(0.6)), 0, 0.1, 0, Short.DAY),
    ],
)
def test_an_attempt_that_needs_a_dollar_is_let_have_what_the_caps_leave(
    held: Caps, unit: float, spent: float, running: float, granted: Amount | Short
) -> None:
    assert (
        reserve(held, Amount(1), unit=Amount(unit), spent=Amount(spent), running=Amount(running))
        == granted
    )


def test_what_is_held_back_grows_while_a_cap_pays_for_it() -> None:
    held = Caps(unit=usd(3), day=usd(5))

    assert extend(held, Amount(1), Amount(0.9), unit=NOTHING, day=NOTHING) == Amount(1)
    assert extend(held, Amount(1), Amount(1.2), unit=NOTHING, day=NOTHING) == Amount(1.2 * 1.5)
    assert extend(held, Amount(1), Amount(1.2), unit=Amount(1.5), day=NOTHING) == Amount(1.5)
    assert extend(held, Amount(1), Amount(1.2), unit=NOTHING, day=Amount(4)) is None
    assert extend(Caps(), NOTHING, Amount(100, 1e9), unit=NOTHING, day=NOTHING) == NOTHING


@given(CAPS, CAPS, CAPS, st.lists(st.tuples(AMOUNTS, AMOUNTS), max_size=12))
def test_whatever_starts_and_wants_more_no_cap_is_exceeded(
    attempt: Amount, unit: Amount, day: Amount, asked: list[tuple[Amount, Amount]]
) -> None:
    limits, granted = Caps(attempt, unit, day), list[Amount]()

    for need, want in asked:
        got = reserve(
            limits, need + Amount(0.01, 1), unit=NOTHING, spent=NOTHING, running=total(granted)
        )
        if not isinstance(got, Short):
            others = total(granted)
            more = extend(limits, got, want, unit=NOTHING, day=others)
            granted.append(more or got)

    assert total(granted).within(day)
    assert all(each.within(attempt) and each.within(unit) for each in granted)


def test_minutes_are_held_back_as_a_whole_and_charged_as_they_were_used() -> None:
    held = Caps(attempt=Amount(9, 9, 45), day=replace(NO_CAP, minutes=100))

    granted = reserve(held, Amount(1, 1, 45), unit=NOTHING, spent=NOTHING, running=Amount(0, 0, 55))
    ended = replace(
        ATTEMPT,
        reserved_minutes=45,
        workspace="/w",
        reason=EndReason.EMPTY,
        end=NOON + timedelta(minutes=9),
    )

    assert granted == Amount(3, 3, 45)
    assert (
        reserve(held, Amount(1, 1, 45), unit=NOTHING, spent=NOTHING, running=Amount(0, 0, 56))
        is Short.LATER
    )
    assert charge(settle(settle(ended))).minutes == 9


def test_an_attempt_is_charged_with_what_was_held_back_until_it_has_told_more() -> None:
    running = replace(
        ATTEMPT,
        reserved_usd=2.0,
        reserved_tokens=100,
        cost_usd=0.5,
        tokens_input=80,
        tokens_output=40,
    )

    assert charge(running) == Amount(2.0, 120)


@pytest.mark.parametrize(
    ("ended", "stays"),
    [
        ({"reason": EndReason.TIMED_OUT, "workspace": "/w"}, True),
        ({"reason": EndReason.LOST, "workspace": "/w"}, True),
        ({"reason": EndReason.LIMIT, "workspace": "/w"}, False),
        ({"reason": EndReason.LIMIT, "workspace": "/w", "tree": "t"}, True),
        ({"reason": EndReason.LOST}, False),
    ],
)
def test_at_its_end_nothing_is_charged_for_what_never_worked(
    ended: dict[str, object], stays: bool
) -> None:
    over = replace(ATTEMPT, end=NOON, reserved_usd=2.0, **ended)  # type: ignore[arg-type]

    once = settle(over)

    assert (once.reserved_usd, once.day) == (2.0 if stays else 0.0, "2026-01-05")
    assert settle(once) == once
    assert settle(ATTEMPT) == ATTEMPT


def test_an_amount_is_said_in_what_its_cap_is_about() -> None:
    assert said(Amount(1.5, 20_000), Amount(2, 50_000, math.inf)) == "$1.50 and 20,000 tokens"
    assert said(Amount(1.5, 20_000), NO_CAP) == ""
