"""The end of an attempt: one transaction that moves everything, or nothing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from factory.attempt.outcomes import Outcomes, Refusal
from factory.dispatch import scheduling
from factory.dispatch.contested import Contest
from factory.ground.errors import Fenced
from factory.ground.settings import Limits, Settings
from factory.inbox.split import Part, is_part
from factory.people import cards as words
from factory.people import line_cards
from factory.people.causes import parse
from factory.store.journal import Event
from factory.store.records import Attempt, Card, CardKind, Hook, Remark, Verdict
from factory.store.unit import FINAL, SPENDS, EndReason, Unit, UnitState
from tests.journal import entries_of
from tests.on_record import NOW, OnRecord, later

R = EndReason
HELD, WAITING, READY, QUEUED = UnitState.HELD, UnitState.WAITING, UnitState.READY, UnitState.QUEUED


@pytest.fixture
def line(tmp_path: Path) -> OnRecord:
    return OnRecord(tmp_path)


@pytest.fixture
def outcomes(line: OnRecord) -> Outcomes:
    return Outcomes(
        store=line.store, state=line.state, escalations=line.escalations, hang=line.hang
    )


def ended(attempt: Attempt, reason: EndReason, **fields: Any) -> Attempt:
    return replace(attempt, end=later(60), reason=reason, **fields)


def test_a_submission_is_queued_and_the_hook_is_empty_in_one_transaction(
    line: OnRecord, outcomes: Outcomes
) -> None:
    attempt = line.running(fresh=True, resume=True)

    outcomes.finish(
        ended(attempt, R.SUBMITTED, commit="c" * 40), hook=line.the_hook(), at=later(60)
    )

    unit, hook, last = line.the_unit(), line.the_hook(), list(entries_of(line.store))[-1]
    assert (unit.state, unit.submission, unit.base) == (QUEUED, "c" * 40, "b" * 40)
    assert (unit.spent, unit.fresh, unit.resume) == (0, False, False)
    assert hook == Hook(worker="w1", index=1, state="idle", since=later(60))
    assert (last.event, [table for table, _ in last.changes]) == (
        Event.ATTEMPT_ENDED,
        ["attempt", "unit", "hook"],
    )


def test_a_prompts_fault_is_no_agents(line: OnRecord, outcomes: Outcomes) -> None:
    for name in "abc":
        attempt = replace(line.running(name), end=NOW, reason=R.HANDED_BACK)
        outcomes.finish(
            attempt,
            hook=line.the_hook(),
            at=NOW,
            ask=line_cards.wrong_prompt("unit.md, line 1: no", "k"),
        )

    assert [(card.kind, card.units) for card in line.store.open(Card)] == [
        (CardKind.CONFIG, ("a", "b", "c"))
    ]


NEXT = {  # of a unit with attempts left: its state, whether a card asks
    R.SUBMITTED: (QUEUED, False),
    R.EMPTY: (READY, False),
    R.GATE_RED: (READY, False),
    R.NOT_PROVEN: (READY, False),
    R.CONFLICT: (READY, False),
    R.OUT_OF_SCOPE: (HELD, True),
    R.GUARD: (HELD, True),
    R.TIMED_OUT: (WAITING, False),
    R.SILENT: (WAITING, False),
    R.NO_PROGRESS: (WAITING, False),
    R.CRASHED: (WAITING, False),
    R.OVER_BUDGET: (READY, False),
    R.ASKED: (HELD, True),
    R.TOLD: (READY, False),
    R.AUTH: (WAITING, True),
    R.SETUP_FAILED: (WAITING, True),
    R.HANDED_BACK: (READY, False),
    R.LOST: (WAITING, False),
}
ASKS = {
    R.OUT_OF_SCOPE: lambda unit: words.guard(unit, CardKind.OUT_OF_SCOPE, "it touches b", ["b"]),
    R.GUARD: lambda unit: words.guard(unit, CardKind.GUARD, "it touches a gate", ["Makefile"]),
    R.ASKED: lambda unit: words.question(unit, "A or B?", ["A", "B"]),
    R.AUTH: lambda unit: line_cards.runtime_trouble("claude", "not logged in"),
    R.SETUP_FAILED: lambda unit: line_cards.setup_failed(sentence="pip failed."),
}


@pytest.mark.parametrize("reason", NEXT)
def test_each_reason_has_its_next_state(
    line: OnRecord, outcomes: Outcomes, reason: EndReason
) -> None:
    attempt = line.running()
    ask = ASKS[reason](line.the_unit()) if reason in ASKS else None

    outcomes.finish(ended(attempt, reason, commit="c"), hook=line.the_hook(), at=later(60), ask=ask)

    state, asks = NEXT[reason]
    unit = line.the_unit()
    assert (unit.state, bool(line.open_cards())) == (state, asks)
    assert unit.spent == int(SPENDS[reason])
    assert unit.why
    assert line.the_hook().unit == ""


@pytest.mark.parametrize("reason", [R.EMPTY, R.GUARD])
def test_after_nothing_and_after_a_guard_the_next_attempt_starts_from_trunk(
    line: OnRecord, outcomes: Outcomes, reason: EndReason
) -> None:
    attempt = line.running()
    ask = ASKS[reason](line.the_unit()) if reason in ASKS else None
    outcomes.finish(ended(attempt, reason, commit="c"), at=NOW, ask=ask)
    if ask:
        line.escalations.answer("E1", "1", now=NOW)

    assert line.the_unit().fresh


def test_a_start_from_trunk_is_not_forgotten_when_the_attempt_ends_before_it_left_anything(
    line: OnRecord, outcomes: Outcomes
) -> None:
    outcomes.finish(ended(line.running(fresh=True), R.LOST), at=NOW)

    assert line.the_unit().fresh


def test_what_is_retried_after_a_failure_waits_a_little_first(
    line: OnRecord, outcomes: Outcomes
) -> None:
    outcomes.finish(ended(line.running(), R.CRASHED, detail="it ended with exit 3"), at=NOW)

    unit = line.the_unit()
    assert (unit.state, unit.not_before) == (WAITING, later(10))
    assert unit.why == "waits until 2026-01-05 12:00:10 UTC: attempt 1 ended: it ended with exit 3"
    assert scheduling.settle([unit], {}, now=later(5)) == []
    (again,) = scheduling.settle([unit], {}, now=later(10))
    assert again.state is READY


def test_a_usage_limit_waits_for_its_reset_with_no_card_and_no_attempt_spent(
    line: OnRecord, outcomes: Outcomes
) -> None:
    outcomes.finish(ended(line.running(), R.LIMIT), hook=line.the_hook(), at=NOW, reset=later(3600))

    unit = line.the_unit()
    assert (unit.state, unit.not_before, unit.spent, line.open_cards()) == (
        WAITING,
        later(3600),
        0,
        [],
    )


def test_a_card_of_a_shared_cause_makes_the_unit_wait_for_it(
    line: OnRecord, outcomes: Outcomes
) -> None:
    for name, worker in (("a", "w1"), ("b", "w2")):
        attempt = line.running(name, worker=worker)
        ask = line_cards.setup_failed(sentence="pip failed.")
        outcomes.finish(ended(attempt, R.SETUP_FAILED), hook=line.the_hook(worker), at=NOW, ask=ask)

    assert line.open_cards() == [("E1", CardKind.SETUP, ("a", "b"))]
    assert {line.the_unit(name).cause for name in "ab"} == {"setup:pip failed."}


def test_handed_back_with_a_card_a_unit_waits_for_the_answer_instead_of_starting_over_and_over(
    line: OnRecord, outcomes: Outcomes
) -> None:
    ask = line_cards.runtime_trouble("nobody", "There is no runtime 'nobody'.")

    outcomes.finish(ended(line.running(), R.HANDED_BACK), hook=line.the_hook(), at=NOW, ask=ask)

    unit = line.the_unit()
    assert (unit.state, unit.cause, unit.spent) == (WAITING, "runtime:nobody", 0)


# ── counting ──


def test_only_what_counts_is_counted(line: OnRecord, outcomes: Outcomes) -> None:
    history = [R.GATE_RED, R.LOST, R.HANDED_BACK, R.CRASHED, R.ASKED]
    attempt = line.running(number=6)
    for number, reason in enumerate(history, 1):
        line.attempt("fix", number, reason=reason)

    outcomes.finish(ended(attempt, R.LIMIT), at=NOW, reset=later(1))

    assert line.the_unit().spent == 2


def test_the_last_attempt_spent_asks_a_person_with_the_digest_as_evidence(
    line: OnRecord, outcomes: Outcomes
) -> None:
    attempt = line.running(number=3)
    for number in (1, 2):
        line.attempt("fix", number, reason=R.CRASHED)

    outcomes.finish(ended(attempt, R.TIMED_OUT, detail="too slow", digest="the digest"), at=NOW)

    unit, card = line.the_unit(), line.the_card()
    assert (unit.state, unit.spent, unit.why) == (HELD, 3, "waits for your answer to E1")
    assert (card.kind, card.evidence, card.units) == (
        CardKind.ATTEMPTS_EXHAUSTED,
        "the digest",
        ("fix",),
    )
    assert "3 attempts" in card.question
    assert "too slow" in card.question


def test_a_unit_has_as_many_attempts_as_its_own_task_says(
    line: OnRecord, outcomes: Outcomes
) -> None:
    attempt = line.running(text="---\nattempts: 1\n---\ndo it")

    outcomes.finish(ended(attempt, R.CRASHED), at=NOW)

    assert line.the_unit().state is HELD
    assert line.the_card().options[0].label == "Try 1 more"


def test_a_command_that_is_red_is_not_run_again(line: OnRecord, outcomes: Outcomes) -> None:
    outcomes.finish(ended(line.running(agent="run"), R.CRASHED), at=NOW)

    assert line.open_cards() == [("E1", CardKind.ATTEMPTS_EXHAUSTED, ("fix",))]


def lose(line: OnRecord, outcomes: Outcomes, number: int, reason: EndReason = R.LOST) -> UnitState:
    line.change("fix", state=UnitState.RUNNING, attempt=number)
    outcomes.finish(ended(line.attempt("fix", number), reason, detail="killed"), at=NOW)
    return line.the_unit().state


def test_lost_three_times_in_a_row_a_person_is_asked(line: OnRecord, outcomes: Outcomes) -> None:
    line.unit()

    states = [lose(line, outcomes, number) for number in (1, 2, 3)]

    assert states == [WAITING, WAITING, HELD]
    assert line.open_cards() == [("E1", CardKind.CRASH_LOOP, ("fix",))]
    assert line.the_unit().spent == 0


def test_another_end_in_between_begins_the_count_anew(line: OnRecord, outcomes: Outcomes) -> None:
    line.unit()

    states = [
        lose(line, outcomes, number, reason)
        for number, reason in enumerate([R.LOST, R.LOST, R.EMPTY, R.LOST], 1)
    ]

    assert HELD not in states


def test_a_fourth_question_in_a_row_waits_for_a_person_whatever_its_default(
    line: OnRecord, outcomes: Outcomes
) -> None:
    for number in range(1, 5):
        attempt = line.running(number=number)
        asked = words.question(line.the_unit(), "A or B?", ["A", "B"], default="1", deadline_s=1)
        outcomes.finish(ended(attempt, R.ASKED), hook=line.the_hook(), at=NOW, ask=asked)

    assert [card.default for card in line.store.select(Card)] == ["1", "1", "1", ""]
    assert line.store.select(Card)[-1].deadline is None


def test_after_a_crash_loop_try_again_gives_a_whole_round(
    line: OnRecord, outcomes: Outcomes
) -> None:
    line.unit()
    for number in (1, 2, 3):
        lose(line, outcomes, number)
    line.escalations.answer("E1", "1", now=NOW)

    assert [lose(line, outcomes, number) for number in (4, 5, 6)] == [WAITING, WAITING, HELD]


# ── fencing ──


def test_an_older_attempt_changes_nothing_any_more(line: OnRecord, outcomes: Outcomes) -> None:
    old = line.running(number=1)
    line.change("fix", attempt=2)
    before = line.the_unit(), line.the_hook(), line.the_attempt(), line.events()

    ask = words.question(line.the_unit(), "A?", [])
    with pytest.raises(Fenced):
        outcomes.finish(ended(old, R.ASKED), hook=line.the_hook(), at=NOW, ask=ask)

    assert (line.the_unit(), line.the_hook(), line.the_attempt(), line.events()) == before
    assert line.open_cards() == []


@pytest.mark.parametrize("state", sorted(FINAL))
def test_a_unit_that_is_over_stays_as_it_is_and_its_hook_is_emptied(
    line: OnRecord, outcomes: Outcomes, state: UnitState
) -> None:
    attempt = line.running()
    unit = line.change("fix", state=state)

    outcomes.finish(ended(attempt, R.CANCELLED), hook=line.the_hook(), at=later(60))

    assert line.the_unit() == unit
    assert line.the_hook().unit == ""
    assert line.the_attempt().reason is R.CANCELLED


def test_a_hook_that_drains_goes_on_draining(line: OnRecord, outcomes: Outcomes) -> None:
    attempt = line.running()

    outcomes.finish(
        ended(attempt, R.EMPTY), hook=replace(line.the_hook(), state="draining"), at=NOW
    )

    assert (line.the_hook().state, line.the_hook().unit) == ("draining", "")


async def test_every_loop_is_told(line: OnRecord, outcomes: Outcomes) -> None:
    outcomes.finish(ended(line.running(), R.EMPTY), at=NOW)

    bells = (line.state.pool, line.state.queue, line.state.requests, line.state.leaving)
    assert [await signal.wait(0) for signal in bells] == [True] * 4


# ── the judge's word ──


def queued(line: OnRecord, outcomes: Outcomes, **fields: Any) -> None:
    attempt = line.running(**fields)
    outcomes.finish(
        ended(attempt, R.SUBMITTED, commit="c" * 40, said="last words"),
        hook=line.the_hook(),
        at=NOW,
    )


RED = Verdict(
    key="k",
    gate="test",
    tree="t",
    ok=False,
    settled=True,
    at=NOW,
    command="pytest",
    tail="FAILED test_a - boom",
)


def test_sent_back_red_the_reason_is_replaced_and_the_next_attempt_has_a_digest(
    line: OnRecord, outcomes: Outcomes
) -> None:
    queued(line, outcomes)

    outcomes.send_back(
        line.the_unit(), Refusal(R.GATE_RED, "gate test is red", red=[RED]), later(90)
    )

    unit, attempt = line.the_unit(), line.the_attempt()
    assert (unit.state, unit.spent, unit.submission) == (READY, 1, "")
    assert (attempt.reason, attempt.end, attempt.detail) == (
        R.GATE_RED,
        later(60),
        "gate test is red",
    )
    assert "To see it: pytest" in attempt.digest
    assert "FAILED test_a - boom" in attempt.digest
    assert "last words" in attempt.digest


def test_the_card_of_a_red_unit_names_the_command_that_judges_its_work(
    line: OnRecord, outcomes: Outcomes
) -> None:
    line.state.settings = Settings(limits=Limits(attempts=1))
    queued(line, outcomes)
    commit = line.the_attempt().commit

    outcomes.send_back(line.the_unit(), Refusal(R.GATE_RED, "red", red=[RED]), later(90))

    first, *_ = line.the_card().evidence.splitlines()
    assert first == f"To run the gates on its work: factory gate --tree {commit[:12]}"


def test_an_attempt_counts_once_however_often_it_is_judged(
    line: OnRecord, outcomes: Outcomes
) -> None:
    queued(line, outcomes)
    outcomes.send_back(
        line.the_unit(), Refusal(R.GUARD, "a gate", ask=ASKS[R.GUARD](line.the_unit())), NOW
    )
    line.escalations.answer("E1", "2", now=NOW)

    outcomes.send_back(line.the_unit(), Refusal(R.GATE_RED, "red"), NOW)

    assert line.the_unit().spent == 1


def test_a_guards_card_keeps_the_submission_so_that_it_may_land(
    line: OnRecord, outcomes: Outcomes
) -> None:
    queued(line, outcomes)

    outcomes.send_back(
        line.the_unit(), Refusal(R.GUARD, "a gate", ask=ASKS[R.GUARD](line.the_unit())), NOW
    )

    assert (line.the_unit().state, line.the_unit().submission) == (HELD, "c" * 40)
    line.escalations.answer("E1", "2", now=NOW)
    assert (line.the_unit().state, line.the_unit().base) == (QUEUED, "b" * 40)


def conflict(line: OnRecord, outcomes: Outcomes, *paths: str, behind: tuple[str, ...] = ()) -> None:
    """The submitted unit conflicts on these paths."""
    why = f"conflicts with trunk in {', '.join(paths)}"
    contest = Contest(paths, behind)
    outcomes.send_back(line.the_unit(), Refusal(R.CONFLICT, why, contest=contest), NOW)


def again(line: OnRecord, outcomes: Outcomes, number: int, reason: EndReason) -> None:
    """The unit's next attempt ends."""
    hook = replace(line.the_hook(), unit="fix", attempt=number, state="running")
    line.change("fix", state=UnitState.RUNNING, attempt=number)
    attempt = ended(line.attempt("fix", number, hook), reason, commit="c" * 40)
    outcomes.finish(attempt, hook=line.the_hook(), at=NOW)


def test_only_the_third_conflict_in_a_row_counts_and_asks_a_person(
    line: OnRecord, outcomes: Outcomes
) -> None:
    queued(line, outcomes, text="---\nattempts: 1\n---\ndo it")
    conflict(line, outcomes, "a.py")
    again(line, outcomes, 2, R.HANDED_BACK)
    again(line, outcomes, 3, R.SUBMITTED)
    conflict(line, outcomes, "a.py")
    free = line.the_unit()
    again(line, outcomes, 4, R.SUBMITTED)

    conflict(line, outcomes, "a.py")

    assert (free.state, free.spent, free.conflicts) == (READY, 0, 2)
    assert line.open_cards() == [("E1", CardKind.CONFLICT, ("fix",))]
    assert (line.the_unit().submission, line.the_unit().spent) == ("", 1)


def test_the_paths_of_conflicts_are_kept_until_an_attempt_counts(
    line: OnRecord, outcomes: Outcomes
) -> None:
    queued(line, outcomes)
    conflict(line, outcomes, "a.py", behind=("other",))
    first = line.the_unit()
    again(line, outcomes, 2, R.SUBMITTED)
    conflict(line, outcomes, "b.py")
    second = line.the_unit()

    again(line, outcomes, 3, R.EMPTY)

    assert (first.conflicts, first.contested, first.behind) == (1, ("a.py",), ("other",))
    assert (second.conflicts, second.contested, second.behind) == (2, ("b.py", "a.py"), ())
    last = line.the_unit()
    assert (last.conflicts, last.contested, last.spent) == (0, (), 1)


def test_what_a_person_let_pass_about_one_change_is_asked_again_about_the_next(
    line: OnRecord, outcomes: Outcomes
) -> None:
    queued(
        line,
        outcomes,
        approved=("review", "guard", "out_of_scope", "trunk_red", "no_gate", "accept"),
    )

    assert line.the_unit().approved == ("no_gate", "accept")


def test_sent_back_a_unit_is_not_shown_as_waiting_to_land_any_more(
    line: OnRecord, outcomes: Outcomes
) -> None:
    queued(line, outcomes)
    line.raise_card(words.landing_blocked(line.the_unit(), "dirty", ["a.py"]), line.the_unit())

    outcomes.send_back(line.the_unit(), Refusal(R.CONFLICT, "conflicts with trunk in a.py"), NOW)

    assert line.open_cards() == []


def test_what_was_cancelled_while_it_was_judged_stays_cancelled(
    line: OnRecord, outcomes: Outcomes
) -> None:
    queued(line, outcomes)
    unit = line.the_unit()
    line.change("fix", state=UnitState.CANCELLED)
    before = line.events()

    outcomes.send_back(unit, Refusal(R.GATE_RED, "red"), NOW)
    outcomes.hold(unit, words.review(unit, said=""), NOW)
    outcomes.wait(unit, line_cards.no_gate(), NOW)
    outcomes.note(unit, "green, but landing is blocked", NOW)

    assert line.events() == before


def test_held_for_a_person_a_unit_keeps_its_submission(line: OnRecord, outcomes: Outcomes) -> None:
    queued(line, outcomes)

    outcomes.hold(line.the_unit(), words.review(line.the_unit(), said=""), later(5))

    unit = line.the_unit()
    assert (unit.state, unit.submission, unit.since) == (HELD, "c" * 40, later(5))
    assert unit.why == "waits for your answer to E1"


def test_waiting_for_a_shared_cause_a_unit_keeps_its_submission(
    line: OnRecord, outcomes: Outcomes
) -> None:
    queued(line, outcomes)

    outcomes.wait(line.the_unit(), line_cards.no_gate(), NOW)

    unit = line.the_unit()
    assert (unit.state, unit.submission, unit.cause) == (WAITING, "c" * 40, "no_gate")


def test_a_note_is_written_once(line: OnRecord, outcomes: Outcomes) -> None:
    queued(line, outcomes)
    count = len(line.events())

    for _ in range(3):
        outcomes.note(line.the_unit(), "green, but landing is blocked", NOW)

    assert line.the_unit().why == "green, but landing is blocked"
    assert len(line.events()) == count + 1


def test_what_an_agent_said_is_written_down_as_its_own_words(
    line: OnRecord, outcomes: Outcomes
) -> None:
    line.unit()

    outcomes.remark("fix", "question", "A or B?", at=NOW)

    assert [(each.who, each.text) for each in line.store.select(Remark, unit="fix")] == [
        ("agent", "A or B?")
    ]


PARTS = (
    Part("fix-a", "do a", (), left_out=("run",)),
    Part("fix-b", "---\nneeds: fix-a\n---\ndo b", ("fix-a",)),
)


def test_a_unit_that_was_split_is_final_and_its_parts_stand_for_it_in_one_transaction(
    line: OnRecord, outcomes: Outcomes
) -> None:
    attempt = line.running()
    line.unit("later", WAITING, needs=("x", "fix"))
    line.unit("other", WAITING, needs=("x",))

    outcomes.finish(
        ended(attempt, R.SPLIT, commit="c" * 40), hook=line.the_hook(), at=later(60), parts=PARTS
    )

    unit, last = line.the_unit(), list(entries_of(line.store))[-1]
    assert (unit.state, unit.needs, unit.why, unit.spent) == (
        UnitState.SPLIT,
        ("fix-a", "fix-b"),
        "its parts: fix-a, fix-b",
        0,
    )
    assert [line.the_unit(name).needs for name in ("later", "other", "fix-b")] == [
        ("x", "fix-a", "fix-b"),
        ("x",),
        ("fix-a",),
    ]
    assert line.the_hook().unit == ""
    assert (last.event, [table for table, _ in last.changes]) == (
        Event.ATTEMPT_ENDED,
        ["attempt", "unit", "unit", "hook"],
    )
    assert line.ignored == {"fix-a": ("run",), "fix-b": ()}
    assert is_part(line.store, "fix-a")
    assert not is_part(line.store, "later")


def test_a_part_is_accepted_after_those_that_it_needs(line: OnRecord, outcomes: Outcomes) -> None:
    attempt = line.running()
    parts = (
        Part("fix-a", "---\nneeds: [fix-b, other]\n---\ndo a", ("fix-b", "other")),
        Part("fix-b", "do b", ()),
    )

    outcomes.finish(ended(attempt, R.SPLIT), hook=line.the_hook(), at=later(60), parts=parts)

    accepted = [
        entry.unit for entry in entries_of(line.store) if entry.event is Event.TASK_ACCEPTED
    ]
    assert (accepted, line.the_unit().needs) == (["fix", "fix-b", "fix-a"], ("fix-a", "fix-b"))


def test_a_split_by_an_attempt_that_is_not_the_newest_has_no_effect(
    line: OnRecord, outcomes: Outcomes
) -> None:
    attempt = line.running()
    line.attempt("fix", 2)
    line.change("fix", attempt=2)

    with pytest.raises(Fenced):
        outcomes.finish(ended(attempt, R.SPLIT), hook=line.the_hook(), at=later(60), parts=PARTS)

    assert {unit.id for unit in line.store.select(Unit)} == {"fix"}


def test_a_unit_that_was_cancelled_while_it_was_split_has_no_parts(
    line: OnRecord, outcomes: Outcomes
) -> None:
    attempt = line.running()
    line.change("fix", state=UnitState.CANCELLED)

    outcomes.finish(ended(attempt, R.SPLIT), hook=line.the_hook(), at=later(60), parts=PARTS)

    assert [(unit.id, unit.state) for unit in line.store.select(Unit)] == [
        ("fix", UnitState.CANCELLED)
    ]


def test_a_part_whose_attempts_are_used_up_is_not_offered_to_be_split(
    line: OnRecord, outcomes: Outcomes
) -> None:
    line.unit("big", UnitState.SPLIT, needs=("fix", "more"))
    attempt = line.running(spent=2)
    for number in (1, 2, 3):
        attempt = line.attempt("fix", number, reason=R.GATE_RED)
    line.change("fix", attempt=3)

    outcomes.finish(ended(attempt, R.GATE_RED), at=later(60))

    assert [option.action for option in line.the_card().options] == ["retry", "cancel"]


# ── told ──


def said(line: OnRecord, *texts: str, who: str = "person") -> None:
    for text in texts:
        line.escalations.remark("fix", "tell", text, now=NOW, who=who)


def test_a_submission_whose_agent_has_not_read_all_that_was_said_goes_on_with_it(
    line: OnRecord, outcomes: Outcomes
) -> None:
    attempt = line.running(spent=1)
    said(line, "read", "not read")

    submitted = ended(attempt, R.SUBMITTED, heard=1, commit="c" * 40, tree="t" * 40)
    outcomes.finish(submitted, hook=line.the_hook(), at=later(60))

    unit, last = line.the_unit(), line.the_attempt()
    assert (last.reason, last.commit, last.tree) == (R.TOLD, "c" * 40, "t" * 40)
    assert (unit.state, unit.resume, unit.fresh, unit.submission, unit.spent) == (
        READY,
        True,
        False,
        "",
        0,
    )
    assert (
        unit.why
        == "attempt 1 ended: its agent had not read your last message; it continues with that message"
    )
    assert line.the_hook().unit == ""
    assert line.open_cards() == []


def test_what_was_read_and_what_an_agent_said_puts_no_submission_off(
    line: OnRecord, outcomes: Outcomes
) -> None:
    attempt = line.running()
    said(line, "read")
    said(line, "what now?", who="agent")

    outcomes.finish(
        ended(attempt, R.SUBMITTED, heard=1, commit="c" * 40), hook=line.the_hook(), at=later(60)
    )

    assert (line.the_unit().state, line.the_attempt().reason) == (QUEUED, R.SUBMITTED)


@pytest.mark.parametrize("reason", [R.EMPTY, R.CRASHED, R.ASKED, R.LOST, R.HANDED_BACK])
def test_any_other_end_leaves_it_to_the_next_prompt(
    line: OnRecord, outcomes: Outcomes, reason: EndReason
) -> None:
    attempt = line.running()
    said(line, "not read")

    ask = ASKS[reason](line.the_unit()) if reason in ASKS else None
    outcomes.finish(ended(attempt, reason), hook=line.the_hook(), at=later(60), ask=ask)

    assert line.the_attempt().reason is reason


def test_what_the_agent_of_a_unit_that_was_split_had_not_read_is_told_to_the_parts(
    line: OnRecord, outcomes: Outcomes
) -> None:
    attempt = line.running()
    said(line, "read", "not read")

    outcomes.finish(
        ended(attempt, R.SPLIT, heard=1), hook=line.the_hook(), at=later(60), parts=PARTS
    )

    told = [
        (each.unit, each.who, each.kind, each.text)
        for each in line.store.select(Remark)
        if each.unit != "fix"
    ]
    assert told == [(part.id, "person", "tell", "not read") for part in PARTS]


@pytest.mark.parametrize(("state", "cause"), [(QUEUED, ""), (WAITING, "trunk_red")])
def test_a_unit_that_is_told_something_leaves_the_queue_and_its_cards(
    line: OnRecord, outcomes: Outcomes, state: UnitState, cause: str
) -> None:
    unit = line.unit(state=state, attempt=1, submission="c" * 40, cause=cause)
    attempt = line.attempt("fix", 1, reason=R.SUBMITTED)
    kept = replace(attempt, commit="c" * 40, tree="t" * 40, digest="a note")
    line.store.write(Event.ATTEMPT_ENDED, kept, now=NOW, unit="fix")
    ask = words.landing_blocked(unit, "b.txt is not committed", ["b.txt"])
    line.raise_card(replace(ask, cause=parse(cause) if cause else ask.cause), unit)
    said(line, "one more thing")

    outcomes.tell(unit, at=later(5))

    unit, last = line.the_unit(), line.the_attempt()
    assert (unit.state, unit.resume, unit.submission, unit.cause, unit.spent) == (
        READY,
        True,
        "",
        "",
        0,
    )
    assert (last.reason, last.end, last.digest) == (R.TOLD, NOW, "a note")
    assert line.open_cards() == []
