"""What was said, and what of it an attempt has read."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from factory.attempt.remarks import newest, put_off, unchanged, unread
from factory.store.records import Attempt, Remark
from factory.store.unit import SPENDS, EndReason

R = EndReason
AT = datetime(2026, 1, 5, 12, tzinfo=UTC)
FIRST = Attempt(unit="fix", number=1, worker="w1", agent="a", start=AT, heard=2)


def said(seq: int, who: str = "person") -> Remark:
    return Remark(unit="fix", seq=seq, who=who, kind="tell", text=str(seq), at=AT)


def ended(*reasons: EndReason) -> list[Attempt]:
    return [
        replace(FIRST, number=number, reason=reason) for number, reason in enumerate(reasons, 1)
    ]


def test_unread_is_what_a_person_said_after_the_prompt_was_made() -> None:
    remarks = [said(1), said(2), said(3, "agent"), said(4)]

    assert newest(remarks) == 4
    assert unread(remarks, FIRST) == [said(4)]
    assert unread(remarks, replace(FIRST, heard=newest(remarks))) == []
    assert (newest([]), unread([], FIRST)) == (0, [])


@pytest.mark.parametrize(
    ("reasons", "number"),
    [
        ((R.TOLD,), 1),
        ((R.TOLD, R.HANDED_BACK, R.CRASHED), 1),
        ((R.TOLD, R.GATE_RED, R.TOLD), 3),
        ((R.TOLD, R.ASKED), 1),
        ((), None),
        ((R.GATE_RED,), None),
        ((R.TOLD, R.GATE_RED), None),
        ((R.TOLD, R.SUBMITTED, R.HANDED_BACK), None),
    ],
)
def test_a_submission_is_put_off_until_another_one_is_made(
    reasons: tuple[EndReason, ...], number: int | None
) -> None:
    first = put_off([*ended(*reasons), replace(FIRST, number=9)], before=9)

    assert (first.number if first else None) == number


def test_later_attempts_say_nothing_about_an_earlier_one() -> None:
    assert put_off(ended(R.GATE_RED, R.TOLD), before=2) is None


WORK = replace(
    FIRST,
    reason=R.TOLD,
    base="b",
    tree="t",
    commit="c",
    digest="a note",
    summary="Fix it",
    said="done",
)


@pytest.mark.parametrize("reason", [reason for reason in EndReason if SPENDS[reason]])
def test_work_that_was_told_something_and_not_changed_is_submitted_as_it_was_however_the_attempt_failed(
    reason: EndReason,
) -> None:
    second = replace(
        FIRST,
        number=2,
        reason=reason,
        base="b2",
        tree="t2",
        commit="c2",
        detail="x",
        digest="y",
        said="",
    )

    end = unchanged(second, WORK)

    detail = "it changed nothing: the work of attempt 1 is submitted as it was"
    assert (end.reason, end.detail) == (R.SUBMITTED, detail)
    assert (end.base, end.tree, end.digest, end.summary, end.said) == (
        "b",
        "t",
        "a note",
        "Fix it",
        "done",
    )
    assert unchanged(replace(second, summary="Fix it well"), WORK).summary == "Fix it well"


@pytest.mark.parametrize("reason", [reason for reason in EndReason if not SPENDS[reason]])
def test_where_the_attempt_was_broken_off_or_asks_it_goes_on_as_ever(reason: EndReason) -> None:
    second = replace(FIRST, number=2, reason=reason)

    assert unchanged(second, WORK) == second


def test_a_session_that_could_not_be_continued_has_not_been_told() -> None:
    second = replace(FIRST, number=2, reason=R.CRASHED, detail="it ended with exit 1", resumed=True)

    end = unchanged(second, WORK)

    assert (end.reason, end.detail) == (
        R.HANDED_BACK,
        "its session could not be continued: it ended with exit 1",
    )
