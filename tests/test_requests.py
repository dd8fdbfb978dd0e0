"""What commands asked for: done or refused, once, in order, as a whole."""

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from factory.attempt.outcomes import Outcomes
from factory.dispatch.pauses import note_end, resting
from factory.ground.errors import StoreError
from factory.people import cards as words
from factory.people import line_cards
from factory.requests import Requests
from factory.store.journal import Event
from factory.store.records import Fact, Remark, Request, Step
from factory.store.unit import FINAL, EndReason, Unit, UnitState
from tests.journal import entries_of
from tests.nothing_submitted import NothingSubmitted
from tests.on_record import NOW, OnRecord, later

HELD, WAITING, READY, QUEUED, RUNNING = (
    UnitState.HELD,
    UnitState.WAITING,
    UnitState.READY,
    UnitState.QUEUED,
    UnitState.RUNNING,
)


class Asked(OnRecord):
    """A line with requests."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.hung: list[tuple[str, str]] = []
        outcomes = Outcomes(
            store=self.store, state=self.state, escalations=self.escalations, hang=self._hang
        )
        self.requests = Requests(
            store=self.store,
            state=self.state,
            escalations=self.escalations,
            outcomes=outcomes,
            submissions=NothingSubmitted(),
            hang=self._hang,
        )
        self._count = 0

    def _hang(self, name: str, text: str, at: datetime, ignored: tuple[str, ...] = ()) -> str:
        self.hung.append((name, text))
        return "fix-2"

    def make(self, kind: str, **args: Any) -> int:
        """Write a request down, as a command does."""
        return self.make_raw(kind, json.dumps(args))

    def make_raw(self, kind: str, args: str) -> int:
        """The same, whatever its arguments look like."""
        self._count += 1
        request = Request(id=self._count, kind=kind, args=args, at=NOW)
        self.store.write(Event.REQUEST_MADE, request, now=NOW)
        return request.id

    def outcome(self, number: int) -> tuple[str, str]:
        """(state, sentence)."""
        request = self.store.get(Request, number)
        assert request is not None
        return request.state, request.outcome

    def ask(self, kind: str, **args: Any) -> tuple[str, str]:
        """Make it, have it done, and return its outcome."""
        number = self.make(kind, **args)
        self.requests.tick(later(5))
        return self.outcome(number)


@pytest.fixture
def line(tmp_path: Path) -> Asked:
    return Asked(tmp_path)


async def test_nothing_asked_for_is_nothing_done_and_nobody_is_woken(line: Asked) -> None:
    assert line.requests.tick(NOW) == 0
    assert not await line.state.pool.wait(0)


async def test_requests_are_done_in_their_order_and_once_and_then_every_loop_looks(
    line: Asked,
) -> None:
    line.unit()
    numbers = [
        line.make("pause"),
        line.make("pause"),
        line.make("resume"),
        line.make("cancel", unit="fix"),
    ]

    assert line.requests.tick(NOW) == 4
    assert line.requests.tick(NOW) == 0

    assert [line.outcome(number)[0] for number in numbers] == ["done", "refused", "done", "done"]
    assert line.events().count(Event.UNIT_CANCELLED) == 1
    assert await line.state.pool.wait(0)
    assert await line.state.queue.wait(0)


def test_a_request_of_an_unknown_kind_is_refused(line: Asked) -> None:
    state, said = line.ask("dance")

    assert state == "refused"
    assert said.startswith("not yet: this daemon is older than the command dance")


@pytest.mark.parametrize(
    "args", ["", "{", "[1]", "null", "7", "{}", '{"card": 1}', '{"unit": null}']
)
@pytest.mark.parametrize("kind", ["answer", "tell", "retry", "cancel", "priority"])
def test_a_request_that_cannot_be_understood_keeps_no_later_one_waiting(
    line: Asked, kind: str, args: str
) -> None:
    bad = line.make_raw(kind, args)
    good = line.make("pause")

    line.requests.tick(NOW)

    assert line.outcome(bad)[0] == "refused"
    assert line.outcome(bad)[1]
    assert line.outcome(good)[0] == "done"


# ── answer ──


def test_an_answer_by_number_and_one_by_text(line: Asked) -> None:
    for name in ("a", "b"):
        unit = line.unit(name, HELD, attempt=1)
        line.raise_card(words.question(unit, "?", ["A", "B"]), unit)

    assert line.ask("answer", card="E1", option="2") == ("done", "a: continues with your answer")
    assert line.ask("answer", card="E2", text="Neither") == (
        "done",
        "b: continues with your answer",
    )

    assert [each.text for each in line.store.select(Remark)] == ["B", "Neither"]


def test_two_answers_to_one_card_are_one_done_and_one_refused(line: Asked) -> None:
    unit = line.unit(state=HELD)
    line.raise_card(words.conflict(unit, "conflicts"), unit)
    first, second = (
        line.make("answer", card="E1", option="1"),
        line.make("answer", card="E1", option="2"),
    )

    line.requests.tick(NOW)

    assert line.outcome(first) == ("done", "fix: tried again")
    assert line.outcome(second) == ("refused", "E1 is closed")
    assert line.the_unit().state is READY


def test_a_refused_answer_leaves_no_trace_but_its_refusal(line: Asked) -> None:
    unit = line.unit(state=HELD)
    line.raise_card(words.conflict(unit, "conflicts"), unit)

    state, said = line.ask("answer", card="E1", option="9")

    assert (state, said) == ("refused", "E1 has no option '9'; it has 1, 2")
    assert line.the_card().state == "open"
    assert line.events()[-2:] == [Event.REQUEST_MADE, Event.REQUEST_DONE]


# ── tell, retry, cancel ──


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        (READY, "fix: its next attempt reads this"),
        (WAITING, "fix: its next attempt reads this"),
        (RUNNING, "fix: its agent reads this before its work is submitted"),
        (
            HELD,
            "fix: its next attempt reads this. If your answer lets it land unchanged, no agent reads this",
        ),
    ],
)
def test_what_is_told_is_there_for_the_next_attempt(
    line: Asked, state: UnitState, sentence: str
) -> None:
    line.unit(state=state)

    assert line.ask("tell", unit="fix", text="mind the cache") == ("done", sentence)

    assert [(each.who, each.kind, each.text) for each in line.store.select(Remark, unit="fix")] == [
        ("person", "tell", "mind the cache")
    ]
    assert line.the_unit().state is state


@pytest.mark.parametrize(("state", "cause"), [(QUEUED, ""), (WAITING, "trunk_red")])
def test_what_was_submitted_is_taken_back_to_be_told(
    line: Asked, state: UnitState, cause: str
) -> None:
    line.unit(state=state, attempt=1, submission="s", cause=cause)
    line.attempt("fix", 1, reason=EndReason.SUBMITTED)

    sentence = "fix: taken out of the queue; its agent first works on your message"
    assert line.ask("tell", unit="fix", text="mind the cache") == ("done", sentence)

    assert (line.the_unit().state, line.the_attempt().reason) == (READY, EndReason.TOLD)
    assert [each.text for each in line.store.select(Remark, unit="fix")] == ["mind the cache"]


def test_what_lands_at_this_moment_cannot_be_told_any_more(line: Asked) -> None:
    line.unit(state=QUEUED, attempt=1, submission="s")
    line.attempt("fix", 1, reason=EndReason.SUBMITTED)
    step = Step(id="landing:c", kind="landing", data=json.dumps({"units": [["fix", "c"]]}), at=NOW)
    line.store.write(Event.LANDING_OPENED, step, now=NOW)

    outcome = line.ask("tell", unit="fix", text="mind the cache")

    assert outcome == (
        "refused",
        "fix is landing at this moment, so no agent reads your message. Add a new task for what is left to do.",
    )
    assert line.store.select(Remark, unit="fix") == []
    assert line.the_unit().state is QUEUED


def test_a_command_cannot_be_told_anything(line: Asked) -> None:
    line.unit(state=RUNNING, agent="run")

    outcome = ("refused", "fix is a shell command (run:): no agent reads your message.")
    assert line.ask("tell", unit="fix", text="mind the cache") == outcome
    assert line.store.select(Remark, unit="fix") == []


@pytest.mark.parametrize("kind", ["tell", "retry", "cancel"])
def test_an_unknown_unit_is_refused(line: Asked, kind: str) -> None:
    assert line.ask(kind, unit="nope", text="x") == ("refused", "There is no unit nope.")


OVER = [(kind, state) for kind in ("tell", "retry", "cancel") for state in sorted(FINAL)]


@pytest.mark.parametrize(
    ("kind", "state"), [each for each in OVER if each != ("retry", "cancelled")]
)
def test_nothing_more_happens_to_a_unit_that_is_over(
    line: Asked, kind: str, state: UnitState
) -> None:
    line.unit(state=state)

    assert line.ask(kind, unit="fix", text="x") == (
        "refused",
        f"fix is {state}: nothing more happens to it.",
    )


def test_retried_by_hand_a_cancelled_unit_is_done_again_as_a_new_one(line: Asked) -> None:
    line.unit(state=UnitState.CANCELLED, text="do it well")

    told = line.ask("retry", unit="fix")

    assert told == ("done", "fix is cancelled; a new unit of the same text: fix-2")
    assert line.hung == [("fix.md", "do it well")]
    assert line.the_unit().state is UnitState.CANCELLED


@pytest.mark.parametrize(("missing", "state"), [(["fix"], "done"), (["other"], "refused")])
def test_a_landed_unit_is_done_again_only_where_trunk_lacks_it(
    line: Asked, missing: list[str], state: str
) -> None:
    line.unit(state=UnitState.LANDED, text="do it well")
    fact = Fact(name="trunk", value=json.dumps({"missing": missing}))
    line.store.write(Event.FACT_CHANGED, fact, now=NOW)

    assert line.ask("retry", unit="fix")[0] == state
    assert len(line.hung) == (state == "done")


def test_a_cancelled_unit_without_a_task_on_record_cannot_be_done_again(line: Asked) -> None:
    over = Unit(id="fix", title="Fix", state=UnitState.CANCELLED, since=NOW, accepted=NOW)
    line.store.write(Event.UNIT_CANCELLED, over, now=NOW, unit="fix")

    told = line.ask("retry", unit="fix")

    assert told == ("refused", "The task file of fix is not on record any more: drop it again.")


def test_retried_by_hand_the_rest_of_its_agent_is_over(line: Asked) -> None:
    line.unit(state=WAITING, attempt=1, not_before=later(9e5))
    line.attempt("fix", 1)
    limited = replace(line.the_attempt(), end=NOW, reason=EndReason.LIMIT)
    note_end(line.store, line.escalations, limited, reset=later(9e5), now=NOW)
    assert resting(line.store, NOW) != {}

    line.make("retry", unit="fix")
    line.requests.tick(NOW)

    assert (line.the_unit().state, line.the_unit().not_before, resting(line.store, NOW)) == (
        READY,
        None,
        {},
    )


@pytest.mark.parametrize("state", [HELD, WAITING, READY])
def test_retried_by_hand_a_unit_is_ready_with_a_new_round_of_attempts(
    line: Asked, state: UnitState
) -> None:
    unit = line.unit(state=state, spent=3, submission="s", cause="no_gate", not_before=later(99))
    line.raise_card(line_cards.no_gate(), unit)

    assert line.ask("retry", unit="fix") == ("done", "fix is tried again")

    unit = line.the_unit()
    assert (unit.state, unit.bonus, unit.submission, unit.cause, unit.not_before) == (
        READY,
        3,
        "",
        "",
        None,
    )
    assert line.open_cards() == []


@pytest.mark.parametrize("state", [RUNNING, QUEUED])
def test_what_is_being_worked_on_is_not_retried(line: Asked, state: UnitState) -> None:
    line.unit(state=state)

    assert line.ask("retry", unit="fix") == (
        "refused",
        f"fix is {state}: it is being worked on already",
    )


@pytest.mark.parametrize("state", [HELD, WAITING, READY, QUEUED, RUNNING])
def test_cancelled_a_unit_is_over_and_its_cards_are_closed(line: Asked, state: UnitState) -> None:
    unit = line.unit(state=state)
    line.raise_card(words.conflict(unit, "conflicts"), unit)

    outcome, said = line.ask("cancel", unit="fix")

    assert outcome == "done"
    assert ("factoryd ends its agent" in said) is (state is RUNNING)
    assert (line.the_unit().state, line.the_unit().why) == (
        UnitState.CANCELLED,
        "cancelled by hand",
    )
    assert line.open_cards() == []


def test_what_is_landing_at_this_moment_is_not_cancelled(line: Asked) -> None:
    line.unit(state=QUEUED)
    line.unit("other", QUEUED)
    step = Step(
        id="landing:c",
        kind="landing",
        data=json.dumps({"plan": {}, "units": [["fix", "c"]]}),
        at=NOW,
    )
    line.store.write(Event.LANDING_OPENED, step, now=NOW)

    assert line.ask("cancel", unit="fix")[0] == "refused"
    assert line.ask("cancel", unit="other")[0] == "done"

    assert line.the_unit().state is QUEUED


# ── priority ──


@pytest.mark.parametrize("state", [READY, WAITING, HELD])
def test_before_its_first_attempt_a_unit_gets_another_priority(
    line: Asked, state: UnitState
) -> None:
    line.unit(state=state, why="as before")

    outcome = line.ask("priority", unit="fix", priority=0)

    assert outcome == ("done", "fix has priority 0 now")
    unit = line.the_unit()
    assert (unit.priority, unit.state, unit.why) == (0, state, "as before")
    (entry,) = [each for each in entries_of(line.store) if each.event is Event.UNIT_PRIORITIZED]
    assert (entry.unit, entry.detail) == ("fix", {"was": "2", "priority": 0})


@pytest.mark.parametrize(
    ("state", "attempt", "number", "said"),
    [
        (READY, 1, 0, "The first attempt of fix has begun, so its priority stays 2."),
        (RUNNING, 1, 0, "The first attempt of fix has begun, so its priority stays 2."),
        (READY, 0, 5, "There is no priority 5."),
        (READY, 0, -1, "There is no priority -1."),
        (UnitState.CANCELLED, 0, 1, "fix is cancelled: nothing more happens to it."),
    ],
)
def test_another_priority_is_refused(
    line: Asked, state: UnitState, attempt: int, number: int, said: str
) -> None:
    line.unit(state=state, attempt=attempt)

    assert line.ask("priority", unit="fix", priority=number) == ("refused", said)
    assert line.the_unit().priority == 2


# ── pause ──


def paused(line: Asked) -> Any:
    fact = line.store.get(Fact, "paused")
    return json.loads(fact.value) if fact else None


def test_paused_nothing_new_starts_until_it_is_resumed(line: Asked) -> None:
    assert line.ask("pause")[0] == "done"
    assert (line.state.paused, line.state.takes_work) == (True, False)
    assert paused(line) == {"by": "you", "since": "2026-01-05T12:00:05.000000Z"}

    assert line.ask("resume") == ("done", "resumed")
    assert (line.state.paused, line.state.takes_work, paused(line)) == (False, True, None)


def test_paused_twice_and_resumed_twice_is_said(line: Asked) -> None:
    assert line.ask("resume") == ("refused", "The line is not paused.")
    line.ask("pause")
    assert line.ask("pause") == ("refused", "The line is paused already.")


# ── the store fails ──


def test_a_request_that_the_store_fails_at_is_neither_done_nor_refused_and_is_done_later(
    line: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, failures = line.store.write, [StoreError("disk full")]

    def fails(event: Event, *records: Any, **told: Any) -> int:
        if event is Event.REQUEST_DONE and failures:
            raise failures.pop()
        return write(event, *records, **told)

    monkeypatch.setattr(line.store, "write", fails)
    number = line.make("pause")

    with pytest.raises(StoreError):
        line.requests.tick(later(5))
    assert (line.outcome(number), line.state.paused) == (("pending", ""), False)
    line.requests.tick(later(6))

    assert (line.outcome(number)[0], line.state.paused) == ("done", True)
