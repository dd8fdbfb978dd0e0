"""What an attempt's end means, and what becomes of its unit."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.attempt.triage import Ending, Move, Next, classify, next_move
from factory.ground.times import backoff
from factory.store.unit import SPENDS, EndReason, Unit, UnitState
from tests.on_record import NOW


def a_unit(**fields: Any) -> Unit:
    return Unit(id="fix", title="Fix", state=UnitState.RUNNING, since=NOW, accepted=NOW, **fields)


R = EndReason
DONE = {"clean": True, "changed": True}
HALF = {"clean": False, "changed": True}
NOTHING = {"clean": False, "changed": False}


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (DONE, R.SUBMITTED),
        (
            DONE | {"limited": True, "unauthorized": True},
            R.SUBMITTED,
        ),  # it talked of limits, and ended well
        ({"clean": True, "changed": False}, R.EMPTY),
        (
            {"clean": True, "changed": False, "reported": True},
            R.EMPTY,
        ),  # "done" with an empty diff is not done
        (DONE | {"stopped": R.CANCELLED}, R.CANCELLED),
        (DONE | {"stopped": R.SILENT, "timed_out": True}, R.SILENT),
        (
            HALF | {"stopped": R.SILENT, "limited": True},
            R.LIMIT,
        ),  # it tries again and again, and does not say so
        (HALF | {"stopped": R.CANCELLED, "limited": True}, R.CANCELLED),
        (HALF | {"stopped": R.HANDED_BACK, "lost": True}, R.HANDED_BACK),
        (HALF | {"timed_out": True, "reported": True}, R.TIMED_OUT),
        (HALF | {"timed_out": True, "asked": True}, R.TIMED_OUT),
        (DONE | {"asked": True}, R.ASKED),
        (NOTHING | {"asked": True, "limited": True}, R.ASKED),
        (DONE | {"split": True}, R.SPLIT),
        ({"clean": True, "changed": False, "split": True}, R.SPLIT),
        (DONE | {"split": True, "asked": True}, R.ASKED),  # what it asks may be whether to
        (
            HALF | {"split": True, "reported": True},
            R.SUBMITTED,
        ),  # it may have died between two files
        (NOTHING | {"split": True, "limited": True}, R.LIMIT),
        (HALF | {"split": True, "timed_out": True}, R.TIMED_OUT),
        (NOTHING | {"command_missing": True}, R.HANDED_BACK),
        (NOTHING | {"unconfined": True}, R.SETUP_FAILED),
        (HALF | {"limited": True, "reported": True}, R.LIMIT),
        (NOTHING | {"limited": True, "unauthorized": True}, R.LIMIT),
        (NOTHING | {"unauthorized": True}, R.AUTH),
        (
            HALF | {"handed_back": True, "reported": True},
            R.HANDED_BACK,
        ),  # a daemon ended it, and died
        (NOTHING | {"handed_back": True, "limited": True}, R.LIMIT),
        (NOTHING | {"lost": True}, R.LOST),
        (HALF | {"lost": True}, R.LOST),
        (NOTHING | {"lost": True, "reported": True}, R.LOST),
        (HALF | {"lost": True, "reported": True}, R.SUBMITTED),  # it had said that it was done
        (HALF | {"looping": True, "proof": True}, R.NO_PROGRESS),  # it stopped itself, half-way
        (NOTHING | {"looping": True, "unauthorized": True}, R.AUTH),
        (DONE | {"looping": True}, R.SUBMITTED),  # it came out of it
        (NOTHING, R.CRASHED),
        (HALF, R.CRASHED),
        (NOTHING | {"reported": True, "proof": True}, R.CRASHED),
        (HALF | {"reported": True}, R.SUBMITTED),  # success is a tree that passes, not an exit code
        (HALF | {"proof": True}, R.SUBMITTED),  # accept catches what is half done
        (DONE | {"scripted": True}, R.SUBMITTED),
        ({"clean": True, "changed": False, "scripted": True}, R.EMPTY),
        (
            HALF | {"scripted": True, "reported": True, "proof": True},
            R.CRASHED,
        ),  # its exit code is its evidence
        (HALF | {"scripted": True, "lost": True}, R.LOST),
    ],
)
def test_what_was_seen_has_one_reason(seen: Mapping[str, Any], reason: EndReason) -> None:
    assert classify(Ending(**seen)) is reason


NEXT: Mapping[EndReason, Move] = {  # with attempts left, after the first failure
    R.SUBMITTED: Move(Next.QUEUE),
    R.EMPTY: Move(Next.RETRY, fresh=True),
    R.GATE_RED: Move(Next.RETRY),
    R.NOT_PROVEN: Move(Next.RETRY),
    R.CONFLICT: Move(Next.RETRY),
    R.OUT_OF_SCOPE: Move(Next.HOLD),
    R.GUARD: Move(Next.HOLD),
    R.TIMED_OUT: Move(Next.RETRY, delay=10),
    R.SILENT: Move(Next.RETRY, delay=10),
    R.NO_PROGRESS: Move(Next.RETRY, delay=10),
    R.CRASHED: Move(Next.RETRY, delay=10),
    R.OVER_BUDGET: Move(Next.RETRY),
    R.ASKED: Move(Next.HOLD),
    R.TOLD: Move(Next.RETRY),
    R.SPLIT: Move(Next.DONE),
    R.LIMIT: Move(Next.WAIT),
    R.AUTH: Move(Next.WAIT),
    R.SETUP_FAILED: Move(Next.WAIT),
    R.CANCELLED: Move(Next.DONE),
    R.HANDED_BACK: Move(Next.RETRY),
    R.LOST: Move(Next.RETRY, delay=10),
}


def test_every_reason_has_its_move() -> None:
    moves = {
        reason: next_move(reason, a_unit(spent=1), limit=3, lost_in_a_row=1) for reason in EndReason
    }

    assert moves == NEXT


@pytest.mark.parametrize("reason", [reason for reason in EndReason if SPENDS[reason]])
def test_when_the_last_attempt_is_spent_a_person_is_asked(reason: EndReason) -> None:
    assert next_move(reason, a_unit(spent=3), limit=3) == Move(Next.HOLD)
    assert next_move(reason, a_unit(spent=4), limit=3) == Move(Next.HOLD)


@pytest.mark.parametrize("reason", [R.TOLD, R.LIMIT, R.AUTH, R.SETUP_FAILED, R.HANDED_BACK, R.LOST])
def test_what_spends_no_attempt_never_asks_because_attempts_are_used_up(reason: EndReason) -> None:
    assert next_move(reason, a_unit(spent=3), limit=3, lost_in_a_row=1).next is NEXT[reason].next


def test_only_the_third_conflict_in_a_row_asks_because_attempts_are_used_up() -> None:
    moves = [
        next_move(R.CONFLICT, a_unit(spent=3, conflicts=count), limit=3).next
        for count in (1, 2, 3, 4)
    ]

    assert moves == [Next.RETRY, Next.RETRY, Next.HOLD, Next.HOLD]


def test_attempts_that_a_person_granted_come_on_top() -> None:
    assert next_move(R.GATE_RED, a_unit(spent=3, bonus=3), limit=3).next is Next.RETRY
    assert next_move(R.GATE_RED, a_unit(spent=6, bonus=3), limit=3).next is Next.HOLD


@pytest.mark.parametrize("reason", [R.CRASHED, R.EMPTY, R.GATE_RED, R.NOT_PROVEN])
def test_a_command_is_not_repeated_where_it_must_give_the_same(reason: EndReason) -> None:
    assert next_move(reason, a_unit(agent="run", spent=1), limit=3).next is Next.HOLD


@pytest.mark.parametrize("reason", [R.CONFLICT, R.TIMED_OUT, R.LOST])
def test_a_command_is_repeated_where_circumstances_were_to_blame(reason: EndReason) -> None:
    assert (
        next_move(reason, a_unit(agent="run", spent=1), limit=3, lost_in_a_row=1).next is Next.RETRY
    )


def test_every_third_loss_in_a_row_asks_a_person_and_who_answers_gets_one_more_round() -> None:
    asks = [
        next_move(R.LOST, a_unit(), limit=3, lost_in_a_row=count).next is Next.HOLD
        for count in range(8)
    ]

    assert asks == [False, False, False, True, False, False, True, False]


def test_the_wait_doubles_with_each_failure_up_to_five_minutes() -> None:
    assert [backoff(failures) for failures in range(1, 8)] == [10, 20, 40, 80, 160, 300, 300]


def test_the_wait_grows_with_what_was_spent() -> None:
    assert next_move(R.CRASHED, a_unit(spent=2), limit=9) == Move(Next.RETRY, delay=20)


@given(
    reason=st.sampled_from(EndReason),
    spent=st.integers(0, 200),
    bonus=st.integers(0, 200),
    limit=st.integers(1, 99),
)
def test_no_unit_is_ever_tried_for_free_beyond_its_limit(
    reason: EndReason, spent: int, bonus: int, limit: int
) -> None:
    move = next_move(reason, a_unit(spent=spent, bonus=bonus), limit=limit)

    assert 0 <= move.delay <= 300
    if SPENDS[reason] and spent >= limit + bonus:
        assert move.next is Next.HOLD
