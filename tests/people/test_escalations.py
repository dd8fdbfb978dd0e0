"""Cards: what they offer, how they fold, what an answer does."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.ground.errors import RefusedByState, UsageError
from factory.people import cards as words
from factory.people import line_cards
from factory.people.actions import written
from factory.people.causes import TRUNK_GONE, Ask, agent_trouble, cause
from factory.people.line_cards import RedTrunk
from factory.store.journal import Event
from factory.store.records import CardKind, Remark
from factory.store.unit import Unit, UnitState
from tests.on_record import NOW, OnRecord, later

HELD, WAITING, READY, QUEUED = UnitState.HELD, UnitState.WAITING, UnitState.READY, UnitState.QUEUED


@pytest.fixture
def line(tmp_path: Path) -> OnRecord:
    return OnRecord(tmp_path)


def a_unit(**fields: Any) -> Unit:
    return Unit(
        id="fix",
        title="Fix",
        state=HELD,
        since=NOW,
        accepted=NOW,
        **({"attempt": 3, "spent": 3} | fields),
    )


def trunk_rewritten(*, inferred: bool) -> Ask:
    return line_cards.trunk_rewritten(
        RedTrunk(branch="main", commit="c" * 40, tail="E", log="x.log", inferred=inferred),
        {"10-lint": ("b.py", "a[1].py")},
        read_from=["conventions/gates/10-lint.sh"],
        form="",
    )


def trunk_red(*gates: str) -> Ask:
    red = RedTrunk(branch="main", commit="c" * 40, tail="E 1", log="x.log")
    return line_cards.trunk_red(red, gates)


ASKS: dict[str, tuple[Ask, CardKind, list[str]]] = {
    "question": (
        words.question(a_unit(), "A or B?", ["A", "B"]),
        CardKind.QUESTION,
        ["answer", "answer"],
    ),
    "open question": (words.question(a_unit(), "How?", []), CardKind.QUESTION, ["answer"]),
    "exhausted": (
        words.attempts_exhausted(a_unit(), last="red", evidence="E", limit=3),
        CardKind.ATTEMPTS_EXHAUSTED,
        ["retry", "split", "cancel"],
    ),
    "conflict": (
        words.conflict(a_unit(), "conflicts in a.py"),
        CardKind.CONFLICT,
        ["retry", "cancel"],
    ),
    "crash loop": (words.crash_loop(a_unit(), "killed"), CardKind.CRASH_LOOP, ["retry", "cancel"]),
    "no gate": (line_cards.no_gate(), CardKind.NO_GATE, ["wait", "approve", "cancel"]),
    "setup": (
        line_cards.setup_failed(sentence="pip failed.", tail="E"),
        CardKind.SETUP,
        ["recheck", "cancel"],
    ),
    "rules": (line_cards.wrong_rules("a.toml: nonsense"), CardKind.CONFIG, ["wait", "cancel"]),
    "prompt": (
        line_cards.wrong_prompt("unit.md: line 3", "k"),
        CardKind.CONFIG,
        ["wait", "cancel"],
    ),
    "accept": (words.already_accepted(a_unit(), "pytest"), CardKind.ACCEPT, ["cancel", "approve"]),
    "no Markdown": (
        words.no_markdown(a_unit(), "fix.md"),
        CardKind.CRASH_LOOP,
        ["cancel", "recheck"],
    ),
    "unreadable": (
        words.unreadable(a_unit(), "bad object."),
        CardKind.CRASH_LOOP,
        ["recheck", "afresh", "cancel"],
    ),
    "stuck": (
        words.stuck(a_unit(), cause("stuck", "queue"), since=NOW, limits={"gates": 60}, told="E"),
        CardKind.STUCK,
        ["wait", "cancel"],
    ),
    "need missing": (
        words.need_missing(a_unit(), cause("stuck", "fix"), "needs a", ["a"]),
        CardKind.STUCK,
        ["wait", "unneed", "cancel"],
    ),
    "limited": (
        line_cards.runtime_limited("claude", "529", evidence="E"),
        CardKind.RUNTIME,
        ["wait", "recheck"],
    ),
    "failing": (
        line_cards.runtime_failing("claude", "exit 1", evidence="E"),
        CardKind.RUNTIME,
        ["wait", "recheck"],
    ),
    "model": (words.no_model(a_unit(), "claude", "opus"), CardKind.RUNTIME, ["approve", "cancel"]),
    "need": (
        words.need_cancelled(a_unit(needs=("base",)), ["base"]),
        CardKind.QUESTION,
        ["unneed", "cancel"],
    ),
    "trunk red": (
        trunk_red("test"),
        CardKind.TRUNK_RED,
        ["repair Make test green on main again", "wait", "approve"],
    ),
    "trunk repaired by a gate of a file": (
        trunk_rewritten(inferred=False),
        CardKind.TRUNK_RED,
        ["wait", "repair Commit the changes that 10-lint makes to main", "wait", "wait", "approve"],
    ),
    "trunk repaired by an inferred gate": (
        trunk_rewritten(inferred=True),
        CardKind.TRUNK_RED,
        [
            "wait",
            "repair Commit the changes that 10-lint makes to main",
            'restore {"10-lint": ["b.py", "a[1].py"]}',
            'leave_out ["10-lint"]',
            "approve",
        ],
    ),
    "guard": (
        words.guard(a_unit(), CardKind.GUARD, "it changes a gate", ["Makefile"]),
        CardKind.GUARD,
        ["retry", "approve", "cancel"],
    ),
    "too big": (
        words.too_big(a_unit(), "it is 18 GiB", ["x: 18 GiB"], where="/w", submitted=True),
        CardKind.GUARD,
        ["retry", "judge", "cancel"],
    ),
    "rules too large": (
        line_cards.rules_too_large([("pyproject.toml", 2 << 20)]),
        CardKind.SETUP,
        ["wait", "cancel"],
    ),
    "scope": (
        words.guard(a_unit(), CardKind.OUT_OF_SCOPE, "it touches b.py", ["b.py"]),
        CardKind.OUT_OF_SCOPE,
        ["retry", "approve", "cancel"],
    ),
    "ours": (
        words.guard(
            a_unit(), CardKind.OUT_OF_SCOPE, "it touches .factory", [".Factory/x"], liftable=False
        ),
        CardKind.OUT_OF_SCOPE,
        ["retry", "cancel"],
    ),
    "review": (
        words.review(a_unit(), said="done"),
        CardKind.REVIEW,
        ["approve", "retry", "simplify", "cancel"],
    ),
    "runtime": (
        line_cards.runtime_trouble("claude", "claude is missing."),
        CardKind.RUNTIME,
        ["recheck", "cancel"],
    ),
    "login": (
        line_cards.not_logged_in("claude", "/login", evidence="401"),
        CardKind.RUNTIME,
        ["recheck", "cancel"],
    ),
    "blocked": (
        words.landing_blocked(a_unit(), "dirty", ["a.py"]),
        CardKind.LANDING_BLOCKED,
        ["wait", "cancel"],
    ),
    "refused": (
        words.landing_refused(a_unit(), "git add\nended with 1", "chown"),
        CardKind.LANDING_BLOCKED,
        ["wait", "cancel"],
    ),
    "unknown": (
        words.landing_unknown("fix", "landing:c", "git died", ""),
        CardKind.LANDING_BLOCKED,
        ["wait"],
    ),
    "unread": (
        line_cards.trunk_unreadable("main", "git fetch ended with 1", ""),
        CardKind.CONFIG,
        ["wait"],
    ),
    "spent": (
        words.unit_spent(a_unit(), used="$1", cap="$1"),
        CardKind.BUDGET,
        ["approve", "cancel"],
    ),
    "day": (
        line_cards.day_spent(cause("day", "d:$1"), used="$1", cap="$1"),
        CardKind.BUDGET,
        ["wait", "spend_on", "cancel"],
    ),
    "gone": (line_cards.trunk_gone("main"), CardKind.CONFIG, ["wait"]),
    "disk": (line_cards.disk_full("/d"), CardKind.DISK, ["wait"]),
    "config": (line_cards.bad_config("factory.toml: line 1"), CardKind.CONFIG, ["wait"]),
}
SHARED = [
    "no gate",
    "setup",
    "rules",
    "prompt",
    "trunk red",
    "runtime",
    "blocked",
    "day",
    "gone",
    "disk",
    "config",
    "accept",
    "need",
    "stuck",
    "need missing",
]


def test_a_setup_that_fails_for_a_folder_that_setuptools_takes_for_a_package_says_what_to_do() -> (
    None
):
    tail = (
        "error: Multiple top-level packages discovered in a flat-layout: ['conventions', 'shop']."
    )

    asked = line_cards.setup_failed(sentence="The setup of this repository failed.", tail=tail)

    assert asked.question == (
        "The setup of this repository failed. setuptools takes conventions/ for a package. Rename it (git mv "
        "conventions .conventions), or list the project's packages in pyproject.toml ([tool.setuptools] packages). "
        "This did not count as an attempt. What now?"
    )


def test_the_card_about_a_killed_gate_does_not_promise_that_setup_runs_again() -> None:
    asked = line_cards.setup_failed(sentence="Gate test was ended by SIGKILL.")

    again, _ = asked.choices
    assert again[:2] == (
        "Try again",
        "the failed step runs again; fix the problem first (trunk, network, tools)",
    )


def test_who_is_not_logged_in_is_told_how_to() -> None:
    known, unknown = (
        line_cards.not_logged_in("odd", login, evidence="401") for login in ("odd login", "")
    )

    assert known.question.startswith(
        "odd is not logged in: log it in (odd login), then try again. If you set a variable"
    )
    assert unknown.question.startswith(
        "odd is not logged in: log it in, then try again. If you set a variable"
    )
    assert known.where == "factory doctor --agent odd"


@pytest.mark.parametrize("name", ASKS)
def test_each_card_has_its_options_of_which_the_first_is_recommended(
    line: OnRecord, name: str
) -> None:
    ask, kind, actions = ASKS[name]

    card = line.raise_card(ask)

    assert (card.id, card.kind, card.since, card.state) == ("E1", kind, NOW, "open")
    assert [option.action for option in card.options] == actions
    assert [option.key for option in card.options] == [str(at) for at in range(1, len(actions) + 1)]
    assert all(option.label and option.effect for option in card.options)
    assert card.recommended == "1"
    assert "\n" not in card.question


def test_every_kind_of_card_can_be_raised_by_somebody() -> None:
    assert {kind for _, kind, _ in ASKS.values()} == set(CardKind)


def test_a_long_and_broken_sentence_becomes_one_short_line() -> None:
    ask = words.question(a_unit(), "\n\n  Which one?" + "!" * 500 + "\nmore", [])

    assert ask.question.startswith("fix asks: Which one?!!!")
    assert ask.question.endswith("…")
    assert len(ask.question) < 200
    assert ask.evidence.endswith("more")


# ── folding ──


def test_one_cause_is_one_card_that_counts_the_units_it_stopped(line: OnRecord) -> None:
    units = [line.unit(name, WAITING) for name in ("a", "b", "c")]

    card = line.raise_card(line_cards.no_gate(), *units, units[0])

    assert (card.id, card.unit, card.units, card.count) == ("E1", "a", ("a", "b", "c"), 3)
    assert line.open_cards() == [("E1", CardKind.NO_GATE, ("a", "b", "c"))]


def test_the_same_again_writes_nothing(line: OnRecord) -> None:
    unit = line.unit("a", WAITING)
    line.raise_card(line_cards.no_gate(), unit)
    before = line.events()

    line.raise_card(line_cards.no_gate(), unit)

    assert line.events() == before


def test_newer_evidence_replaces_the_older_and_none_does_not(line: OnRecord) -> None:
    line.raise_card(line_cards.runtime_trouble("claude", "not logged in", evidence="401"))
    line.raise_card(line_cards.runtime_trouble("claude", "not logged in"))
    assert line.the_card().evidence == "401"

    line.raise_card(line_cards.runtime_trouble("claude", "not logged in", evidence="403"))
    assert line.the_card().evidence == "403"


def test_a_card_about_the_line_says_what_is_so_now_and_keeps_its_answer(line: OnRecord) -> None:
    line.raise_card(trunk_red("test"))
    line.escalations.answer("E1", "2", now=NOW)

    card = line.raise_card(trunk_red("test", "lint"))

    assert "fails test, lint" in card.question
    assert (card.id, card.answer, card.state) == ("E1", "Wait", "open")


def test_units_stopped_by_one_cause_in_turn_write_nothing_new(line: OnRecord) -> None:
    units = [line.unit(name, QUEUED) for name in ("a", "b")]
    for unit in units:
        line.raise_card(words.landing_blocked(unit, "dirty", ["x.py"]), unit)
    before = line.events()

    for unit in (*units, *units):
        line.raise_card(words.landing_blocked(unit, "dirty", ["x.py"]), unit)

    assert line.events() == before
    assert line.the_card().question.startswith("a is green")


def test_two_causes_are_two_cards_and_a_closed_one_is_not_opened_again(line: OnRecord) -> None:
    line.raise_card(line_cards.runtime_trouble("claude", "missing"))
    line.raise_card(line_cards.runtime_trouble("codex", "missing"))
    line.escalations.close(agent_trouble("claude"), now=NOW, why="it is there")
    line.raise_card(line_cards.runtime_trouble("claude", "missing"))

    assert [name for name, _, _ in line.open_cards()] == ["E2", "E3"]


def test_a_unit_that_is_stopped_anew_leaves_the_older_card_of_that_kind(line: OnRecord) -> None:
    unit, other = line.unit("a", QUEUED), line.unit("b", QUEUED)
    line.raise_card(words.landing_blocked(unit, "dirty", ["a.py", "b.py"]), unit, other)

    line.raise_card(words.landing_blocked(unit, "dirty", ["b.py"]), unit)

    assert line.open_cards() == [
        ("E1", CardKind.LANDING_BLOCKED, ("b",)),
        ("E2", CardKind.LANDING_BLOCKED, ("a",)),
    ]


def test_units_that_the_same_file_keeps_from_landing_are_one_card_that_names_it(
    line: OnRecord,
) -> None:
    unit, other = line.unit("a", QUEUED), line.unit("b", QUEUED)
    line.raise_card(words.landing_blocked(unit, "Work is in the way.", ["b.py", "a.py"]), unit)

    line.raise_card(words.landing_blocked(other, "Work is in the way.", ["a.py"]), other)

    assert line.open_cards() == [("E1", CardKind.LANDING_BLOCKED, ("a", "b"))]
    assert "Work is in the way: a.py. factoryd did" in line.the_card().question


def test_an_answer_about_one_mistake_does_not_stand_for_the_next_one(line: OnRecord) -> None:
    line.raise_card(line_cards.wrong_rules("a.toml: nonsense"))
    line.escalations.answer("E1", "1", now=NOW)
    line.raise_card(line_cards.wrong_rules("a.toml: nonsense"))
    assert line.the_card().answer == "I fix it on trunk"

    line.raise_card(line_cards.wrong_rules("b.toml: nonsense"))

    assert (line.the_card().answer, "b.toml" in line.the_card().question) == ("", True)


@pytest.mark.parametrize(
    "ask",
    [
        lambda unit: words.attempts_exhausted(unit, last="exit 1", evidence="", limit=3),
        lambda unit: words.conflict(unit, "conflicts"),
        lambda unit: words.crash_loop(unit, "it was lost"),
    ],
)
def test_a_command_is_run_again_and_takes_no_hint(
    line: OnRecord, ask: Callable[[Unit], Ask]
) -> None:
    unit = line.unit(state=HELD, agent="run", spent=1)
    card = line.raise_card(ask(unit), unit)
    assert [option.label for option in card.options] == ["Run it again", "Cancel it"]

    with pytest.raises(UsageError, match="must be answered with one of its options"):
        line.escalations.answer("E1", "mind the cache", now=NOW)

    assert line.escalations.answer("E1", "1", now=NOW) == "fix: run again"
    assert (line.the_unit().state, line.the_unit().bonus) == (READY, 1)


@given(raised=st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from("abc")), max_size=20))
def test_however_often_raised_a_cause_has_one_open_card_and_a_unit_is_on_one(
    raised: list[tuple[str, str]],
) -> None:
    line = OnRecord(Path("/nowhere"))
    units = {name: line.unit(name, WAITING) for name in "abc"}

    for agent, name in raised:
        line.raise_card(line_cards.runtime_trouble(agent, "missing"), units[name])

    stopped = [unit for _, _, on_card in line.open_cards() for unit in on_card]
    assert sorted(stopped) == sorted({name for _, name in raised})


# ── answers ──


def held(line: OnRecord, ask: Ask, state: UnitState = HELD, **fields: Any) -> None:
    line.raise_card(ask, line.unit("fix", state, **fields))


def test_an_answer_is_taken_once(line: OnRecord) -> None:
    held(line, words.conflict(a_unit(), "conflicts"))
    line.escalations.answer("E1", "1", now=later(5))

    card = line.the_card()
    assert (card.state, card.answer, card.closed) == (
        "closed",
        "Try again on the newest trunk",
        later(5),
    )
    with pytest.raises(RefusedByState, match="E1 is closed"):
        line.escalations.answer("E1", "2", now=later(6))


def test_a_card_that_never_was_takes_none(line: OnRecord) -> None:
    with pytest.raises(RefusedByState, match="E9 is not a card of this line"):
        line.escalations.answer("E9", "1", now=NOW)


@pytest.mark.parametrize("choice", ["0", "3", "99", "", "  ", "²"])
def test_a_number_out_of_range_is_refused_and_nothing_changes(line: OnRecord, choice: str) -> None:
    held(line, words.question(a_unit(), "A or B?", ["A", "B"]))
    before = line.events()

    with pytest.raises(UsageError, match="it has 1, 2"):
        line.escalations.answer("E1", choice, now=NOW)

    assert line.events() == before
    assert line.the_unit().state is HELD


@pytest.mark.parametrize("choice", ["2", " 2 ", "Cancel it", "cancel IT"])
def test_an_option_is_meant_by_its_number_or_by_its_label(line: OnRecord, choice: str) -> None:
    held(line, words.conflict(a_unit(), "conflicts"))

    said = line.escalations.answer("E1", choice, now=NOW)

    assert said == "fix: cancelled"
    assert line.the_unit().state is UnitState.CANCELLED


def test_a_number_is_the_options_number_even_where_another_is_labelled_so(line: OnRecord) -> None:
    held(line, words.question(a_unit(), "How many?", ["2", "1"]))

    line.escalations.answer("E1", "1", now=NOW)

    assert line.the_card().answer == "2"


def remarks(line: OnRecord) -> list[tuple[str, str, str]]:
    return [(each.who, each.kind, each.text) for each in line.store.select(Remark, unit="fix")]


def test_the_answer_to_a_question_is_told_and_the_session_goes_on(line: OnRecord) -> None:
    held(line, words.question(a_unit(), "A or B?", ["A", "B"]))

    said = line.escalations.answer("E1", "2", now=NOW)

    assert said == "fix: continues with your answer"
    assert remarks(line) == [("person", "answer", "B")]
    unit = line.the_unit()
    assert (unit.state, unit.resume, unit.why) == (READY, True, "E1 was answered")


def test_free_text_answers_a_question(line: OnRecord) -> None:
    held(line, words.question(a_unit(), "A or B?", ["A", "B"]))

    line.escalations.answer("E1", " Neither: use C ", now=NOW)

    assert remarks(line) == [("person", "answer", "Neither: use C")]
    assert line.the_unit().resume


def test_the_label_of_an_option_is_kept_as_the_agent_wrote_it(line: OnRecord) -> None:
    held(line, words.question(a_unit(), "?", ["  Ünïcode & <b>", "x"]))

    line.escalations.answer("E1", "1", now=NOW)

    assert line.the_card().answer == "  Ünïcode & <b>"


@pytest.mark.parametrize(
    "name", ["exhausted", "conflict", "crash loop", "guard", "scope", "review"]
)
def test_free_text_sends_a_unit_back_with_the_comment(line: OnRecord, name: str) -> None:
    held(line, ASKS[name][0], attempt=3, spent=3, submission="s")

    said = line.escalations.answer("E1", "Keep the old API", now=NOW)

    assert said == "fix: tried again"
    assert remarks(line) == [("person", "review", "Keep the old API")]
    unit = line.the_unit()
    assert (unit.state, unit.bonus, unit.submission) == (READY, 3, "")
    assert unit.fresh is (name in ("guard", "scope"))


@pytest.mark.parametrize(
    ("name", "option", "kind"),
    [("exhausted", "Split it into smaller tasks", "split"), ("review", "3", "simplify")],
)
def test_what_a_person_asks_the_next_attempt_for_is_told_to_it(
    line: OnRecord, name: str, option: str, kind: str
) -> None:
    held(line, ASKS[name][0], attempt=3, spent=3, submission="s")

    line.escalations.answer("E1", option, now=NOW)

    ((who, told, _),) = remarks(line)
    unit = line.the_unit()
    assert (who, told) == ("person", kind)
    assert (unit.state, unit.bonus, unit.submission, unit.fresh) == (READY, 3, "", kind == "split")


def test_neither_a_run_unit_nor_a_part_is_asked_to_be_split_and_a_run_unit_is_not_made_smaller() -> (
    None
):
    script = a_unit(agent="run")

    asks = [
        words.attempts_exhausted(script, last="red", evidence="E", limit=3),
        words.attempts_exhausted(a_unit(), last="red", evidence="E", limit=3, is_part=True),
        words.review(script, said=""),
    ]

    actions = {written(action) for ask in asks for _, _, action in ask.choices}
    assert actions == {"rerun", "retry", "approve", "cancel"}


@pytest.mark.parametrize("name", SHARED)
def test_free_text_is_no_answer_where_nobody_could_be_told(line: OnRecord, name: str) -> None:
    held(line, ASKS[name][0], QUEUED, submission="s")

    with pytest.raises(UsageError, match="E1 must be answered with one of its options"):
        line.escalations.answer("E1", "I am on it", now=NOW)

    assert line.the_card().state == "open"
    assert line.the_unit().submission == "s"


def test_try_again_grants_as_many_attempts_once_more_and_takes_none_back(line: OnRecord) -> None:
    held(line, ASKS["exhausted"][0], spent=2, bonus=5)

    line.escalations.answer("E1", "1", now=NOW)

    assert line.the_unit().bonus == 5
    assert remarks(line) == []


@pytest.mark.parametrize("name", ["guard", "scope", "review"])
def test_approved_the_submission_goes_back_to_the_queue(line: OnRecord, name: str) -> None:
    ask, kind, actions = ASKS[name]
    held(line, ask, submission="s")

    line.escalations.answer("E1", str(actions.index("approve") + 1), now=NOW)

    unit = line.the_unit()
    assert (unit.state, unit.submission, unit.approved) == (QUEUED, "s", (str(kind),))


def test_approved_before_its_first_attempt_a_unit_is_ready(line: OnRecord) -> None:
    held(line, ASKS["accept"][0])

    line.escalations.answer("E1", "2", now=NOW)

    unit = line.the_unit()
    assert (unit.state, unit.approved) == (READY, ("accept",))


def test_an_approval_that_finds_the_unit_queued_is_written_on_it(line: OnRecord) -> None:
    held(line, ASKS["trunk red"][0], QUEUED, submission="s", cause="trunk_red")

    line.escalations.answer("E1", "3", now=NOW)

    unit = line.the_unit()
    assert (unit.state, unit.approved, unit.cause) == (QUEUED, ("trunk_red",), "")


@pytest.mark.parametrize("answer", ["Cancel the waiting units", "Try again"])
def test_a_unit_that_asks_anew_or_is_answered_elsewhere_is_on_no_older_card_any_more(
    line: OnRecord, answer: str
) -> None:
    unit = line.unit(state=QUEUED, submission="c" * 40)
    line.raise_card(words.landing_blocked(unit, "Uncommitted work is in the way.", ["a.py"]), unit)
    waiting = line.change("fix", state=WAITING, cause="setup:pip failed.")

    setup = line.raise_card(line_cards.setup_failed(sentence="pip failed."), waiting)
    assert line.open_cards() == [("E2", CardKind.SETUP, ("fix",))]
    line.escalations.answer(setup.id, answer, now=NOW)

    assert line.open_cards() == []


def test_starting_again_from_trunk_is_a_fresh_attempt(line: OnRecord) -> None:
    unit = line.unit(state=WAITING, cause="unreadable:fix", submission="c" * 40)
    card = line.raise_card(words.unreadable(unit, "bad object."), unit)

    line.escalations.answer(card.id, "Start again from trunk", now=NOW)

    unit = line.the_unit()
    assert (unit.state, unit.fresh, unit.submission, line.open_cards()) == (READY, True, "", [])


def test_an_answer_acts_on_every_unit_of_the_card_but_those_that_are_over(line: OnRecord) -> None:
    units = [line.unit(name, WAITING, cause="no_gate") for name in ("a", "b")]
    over = line.unit("over", UnitState.LANDED)
    line.raise_card(line_cards.no_gate(), *units, over)

    said = line.escalations.answer("E1", "3", now=NOW)

    assert said == "a, b: cancelled"
    assert [line.the_unit(name).state for name in ("a", "b", "over")] == [
        UnitState.CANCELLED,
        UnitState.CANCELLED,
        UnitState.LANDED,
    ]


def test_i_will_see_to_it_leaves_the_card_open_and_the_units_waiting(line: OnRecord) -> None:
    held(line, line_cards.no_gate(), WAITING, cause="no_gate")

    assert line.escalations.answer("E1", "1", now=NOW) == "noted"

    card = line.the_card()
    assert (card.state, card.answer) == ("open", "I add a gate")
    assert line.the_unit().state is WAITING
    with pytest.raises(RefusedByState, match="already has this answer"):
        line.escalations.answer("E1", "1", now=NOW)


def test_who_waits_may_still_decide_otherwise(line: OnRecord) -> None:
    held(line, line_cards.no_gate(), WAITING, cause="no_gate")
    line.escalations.answer("E1", "1", now=NOW)

    line.escalations.answer("E1", "2", now=NOW)

    assert line.the_card().state == "closed"
    assert line.the_unit().approved == ("no_gate",)


def test_a_repair_is_hung_once_and_its_card_stays_until_trunk_is_green(line: OnRecord) -> None:
    held(line, ASKS["trunk red"][0], WAITING, submission="s", cause="trunk_red")

    said = line.escalations.answer("E1", "1", now=NOW)

    assert said == "created repair unit repair-trunk"
    assert line.repairs == [("Make test green on main again", "E 1")]
    assert line.the_card().state == "open"
    with pytest.raises(RefusedByState):
        line.escalations.answer("E1", "1", now=NOW)
    assert len(line.repairs) == 1


def test_try_again_closes_the_card_of_a_shared_cause_and_lets_the_pool_release(
    line: OnRecord,
) -> None:
    held(line, ASKS["setup"][0], WAITING, cause="setup")

    said = line.escalations.answer("E1", "1", now=NOW)

    assert said == "noted; the waiting units continue"
    assert line.open_cards() == []
    assert line.the_unit().state is WAITING


def test_an_answer_whose_effect_breaks_leaves_no_trace(line: OnRecord) -> None:
    held(line, ASKS["conflict"][0], UnitState.RUNNING)
    line.change("fix", state=READY)
    before = line.events()

    with pytest.raises(Exception, match="cannot go from ready to ready"):
        line.escalations.answer("E1", "1", now=NOW)

    assert line.events() == before
    assert line.the_card().state == "open"


# ── defaults ──


def test_at_the_deadline_the_default_is_taken(line: OnRecord) -> None:
    held(line, words.question(a_unit(), "A or B?", ["A", "B"], default="2", deadline_s=60))
    assert line.escalations.next_deadline() == later(60)

    line.escalations.overdue(later(59))
    assert line.the_card().state == "open"
    line.escalations.overdue(later(60))

    assert (line.the_card().state, line.the_card().answer) == ("closed", "B")
    assert line.the_unit().state is READY
    assert line.escalations.next_deadline() is None


def test_a_clock_that_is_set_back_a_day_does_not_put_a_deadline_off_by_one(line: OnRecord) -> None:
    held(line, words.question(a_unit(), "A or B?", ["A", "B"], default="2", deadline_s=60))

    line.escalations.overdue(later(-86_400))
    assert line.escalations.next_deadline() == later(-86_340)
    line.escalations.overdue(later(-86_340))

    assert line.open_cards() == []


def test_a_deadline_without_a_default_and_a_default_without_a_deadline_wait_for_a_person(
    line: OnRecord,
) -> None:
    line.raise_card(words.question(a_unit(), "?", ["A"], deadline_s=60))
    line.raise_card(words.question(a_unit(attempt=4), "?", ["A"], default="1"))

    line.escalations.overdue(later(1e6))

    assert line.escalations.next_deadline() is None
    assert len(line.open_cards()) == 2


def test_the_earliest_deadline_is_due_next(line: OnRecord) -> None:
    for attempt, seconds in ((1, 90), (2, 30), (3, 60)):
        ask = words.question(a_unit(attempt=attempt), "?", ["A"], default="1", deadline_s=seconds)
        line.raise_card(ask)

    assert line.escalations.next_deadline() == later(30)


# ── closing by itself ──


def test_a_card_is_closed_when_its_cause_is_gone(line: OnRecord) -> None:
    line.raise_card(line_cards.trunk_gone("main"))

    line.escalations.close(TRUNK_GONE, now=later(5), why="it is back")
    line.escalations.close(TRUNK_GONE, now=later(6), why="twice is no harm")

    card = line.the_card()
    assert (card.state, card.closed, card.closed_why, card.answer) == (
        "closed",
        later(5),
        "it is back",
        "",
    )


def test_all_cards_of_a_kind_close_together(line: OnRecord) -> None:
    for sentence in ("pip failed", "npm failed"):
        line.raise_card(line_cards.setup_failed(sentence=sentence))
    line.raise_card(line_cards.no_gate())

    line.escalations.close_kind(CardKind.SETUP, now=NOW, why="works")

    assert [kind for _, kind, _ in line.open_cards()] == [CardKind.NO_GATE]


def test_a_card_that_stops_nobody_any_more_is_closed(line: OnRecord) -> None:
    units = [line.unit(name, WAITING) for name in ("a", "b")]
    line.raise_card(line_cards.no_gate(), *units)

    line.escalations.leave("a", now=NOW, why="cancelled")
    assert (line.the_card().units, line.the_card().count) == (("b",), 1)

    line.escalations.leave("b", now=NOW, why="b was cancelled")
    assert (line.the_card().state, line.the_card().closed_why) == ("closed", "b was cancelled")


def test_a_card_about_the_line_itself_outlives_the_units_that_joined_it(line: OnRecord) -> None:
    line.raise_card(ASKS["trunk red"][0])
    line.raise_card(ASKS["trunk red"][0], line.unit("a", WAITING))

    line.escalations.leave("a", now=NOW, why="cancelled")

    assert line.open_cards() == [("E1", CardKind.TRUNK_RED, ())]


def test_remarks_are_numbered_as_they_were_said(line: OnRecord) -> None:
    line.unit("fix")
    said: Sequence[tuple[str, str]] = [
        ("agent", "A or B?"),
        ("person", "A"),
        ("person", "and hurry"),
    ]

    for who, text in said:
        line.escalations.remark("fix", "tell", text, now=NOW, who=who)

    assert [(each.seq, each.who, each.text) for each in line.store.select(Remark, unit="fix")] == [
        (1, "agent", "A or B?"),
        (2, "person", "A"),
        (3, "person", "and hurry"),
    ]


@pytest.mark.parametrize("name", ASKS)
def test_every_option_of_every_card_can_be_taken(line: OnRecord, name: str) -> None:
    ask, kind, actions = ASKS[name]
    waits = name in SHARED and kind not in (CardKind.ACCEPT, CardKind.QUESTION)
    state = QUEUED if kind is CardKind.LANDING_BLOCKED else WAITING if waits else HELD

    for at, action in enumerate(actions, 1):
        unit = f"unit-{at}"
        own = replace(ask, cause=cause(ask.cause.name, f"{ask.cause.about}:{at}"))
        card = line.raise_card(own, line.unit(unit, state, submission="s", cause=own.cause.key))
        line.escalations.answer(card.id, str(at), now=NOW)

        verb = action.partition(" ")[0]
        assert (line.the_card(card.id).state == "open") == (verb in ("wait", "repair"))
        assert line.the_unit(unit).state is EXPECTED[verb](state)


EXPECTED: dict[str, Callable[[UnitState], UnitState]] = {
    "spend_on": lambda state: state,
    "answer": lambda state: READY,
    "split": lambda state: READY,
    "simplify": lambda state: READY,
    "retry": lambda state: READY,
    "afresh": lambda state: READY,
    "unneed": lambda state: READY,
    "approve": lambda state: QUEUED,
    "judge": lambda state: QUEUED,
    "cancel": lambda state: UnitState.CANCELLED,
    "wait": lambda state: state,
    "repair": lambda state: state,
    "recheck": lambda state: state,
    "restore": lambda state: state,
    "leave_out": lambda state: state,
}


def test_the_journal_says_what_was_answered(line: OnRecord) -> None:
    held(line, ASKS["conflict"][0])

    line.escalations.answer("E1", "2", now=NOW)

    assert line.events("fix") == [
        Event.TASK_ACCEPTED,
        Event.CARD_RAISED,
        Event.CARD_ANSWERED,
        Event.UNIT_CANCELLED,
    ]
