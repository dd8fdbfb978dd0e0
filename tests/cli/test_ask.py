import os
import threading
from pathlib import Path

import pytest

from factory.cli import ask
from factory.cli.main import factory
from factory.store.journal import Event
from factory.store.unit import UnitState
from tests.cli_line import NOW, Line
from tests.journal import entries_of

QUEUED = "the next start does this; the daemon is not running (factoryd start)\n"


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Line:
    monkeypatch.chdir(tmp_path)
    line = Line(tmp_path)
    line.unit("fix-login", UnitState.HELD)
    line.unit("add-search", UnitState.RUNNING)
    line.unit("typo", UnitState.LANDED, commit="a" * 40, landed=NOW)
    line.unit("docs", UnitState.WAITING)
    line.unit("tried", UnitState.READY, attempt=1)
    line.card("E7", "fix-login")
    return line


@pytest.mark.parametrize(
    ("argv", "made"),
    [
        (["answer", "E7", "2"], ("answer", {"card": "E7", "unit": "fix-login", "always": False, "option": "2"})),
        (["answer", "e7", "a", "b"], ("answer", {"card": "E7", "unit": "fix-login", "always": False, "text": "a b"})),
        (["answer", "E7", "2 a"], ("answer", {"card": "E7", "unit": "fix-login", "always": False, "text": "2 a"})),
        (["tell", "add-search", "hurry up"], ("tell", {"unit": "add-search", "text": "hurry up"})),
        (["retry", "fix-login"], ("retry", {"unit": "fix-login"})),
        (["cancel", "add-search"], ("cancel", {"unit": "add-search"})),
        (["priority", "docs", "0"], ("priority", {"unit": "docs", "priority": 0})),
        (["pause"], ("pause", {})),
        (["resume"], ("resume", {})),
    ],
)  # fmt: skip
def test_with_the_daemon_down_a_request_is_queued_for_the_next_start(
    argv: list[str], made: tuple[str, object], line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    code = factory(argv)

    assert (code, capsys.readouterr().out) == (0, QUEUED)
    assert line.requests() == [made]
    assert (line.root / ".factory" / "wake").exists()


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["answer", "E7", "3"], 2, "no option 3; it has 1, 2"),
        (["answer", "E7", "1", "2"], 2, 'in quotes: factory answer E7 "1 2"'),
        (["answer", "E7", " "], 2, "a few words"),
        (["answer", "E7", "1", "--always"], 2, "not yet"),
        (["answer", "E77", "1"], 3, "did you mean E7?"),
        (["tell", "fix-logn", "x"], 3, "did you mean fix-login?"),
        (["tell", "fix-login", ""], 2, "the message is empty"),
        (["tell", "typo", "x"], 3, "typo is landed"),
        (["retry", "add-search"], 3, "worked on already"),
        (["retry", "typo"], 3, "typo is landed"),
        (["cancel", "typo"], 3, "typo is landed"),
        (["priority", "docs", "5"], 2, "no priority 5: it goes from 0 (now) to 4 (whenever)"),
        (["priority", "docs", "high"], 2, "'high' is not a number"),
        (["priority", "tried", "1"], 3, "tried has begun, so its priority stays 2"),
        (["priority", "typo", "1"], 3, "typo is landed"),
        (["cancel", "nothing-like-it"], 3, "there is no unit"),
    ],
)
def test_what_the_state_or_the_form_refuses_is_said_and_not_queued(
    argv: list[str], code: int, said: str, line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    assert factory(argv) == code
    assert said in capsys.readouterr().err
    assert line.requests() == []


@pytest.mark.parametrize("argv", [["cancel", "big"], ["retry", "big"], ["tell", "big", "x"]])
def test_who_asks_something_of_a_unit_that_was_split_hears_of_its_parts(
    argv: list[str], line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    line.unit("big", UnitState.SPLIT, needs=("big-a", "big-b"))

    assert factory(argv) == 3
    assert "big is split: its parts do its work now: big-a, big-b." in capsys.readouterr().err
    assert line.requests() == []


@pytest.mark.parametrize("kind", ["cancel", "retry"])
def test_several_units_are_asked_for_at_once_each_of_them_once(kind: str, line: Line) -> None:
    assert factory([kind, "fix-login", "docs", "fix-login"]) == 0
    assert line.requests() == [(kind, {"unit": "fix-login"}), (kind, {"unit": "docs"})]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["cancel", "fix-login", "add-search", "typo"], "typo is landed: nothing more"),
        (["cancel", "add-serch", "fix-login"], "'add-serch': did you mean add-search?"),
        (["retry", "fix-login", "add-search"], "add-search is running"),
    ],
)
def test_one_wrong_id_among_several_refuses_all(
    argv: list[str], said: str, line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    assert factory(argv) == 3

    err = capsys.readouterr().err
    assert said in err
    assert err.endswith("\n  nothing was done to the other units\n")
    assert line.requests() == []


def test_of_several_what_the_daemon_did_and_what_it_refused_is_reported(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    def serve() -> None:
        line.settle("refused", "fix-login is landing at this moment")
        line.settle("done", "add-search is cancelled")

    daemon = threading.Thread(target=serve)
    with line.daemon():
        daemon.start()
        code = factory(["cancel", "fix-login", "add-search"])
        daemon.join()

    assert (code, *capsys.readouterr()) == (
        3,
        "add-search is cancelled\n",
        "factory: fix-login is landing at this moment\n",
    )


def test_a_card_takes_one_answer_also_before_the_daemon_has_read_it(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    first = factory(["answer", "E7", "1"])
    second = factory(["answer", "E7", "2"])

    assert (first, second) == (0, 3)
    assert "one answer" in capsys.readouterr().err
    assert len(line.requests()) == 1


def test_a_closed_card_refuses_an_answer_and_says_what_it_was(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    line.card("E8", "fix-login", state="closed", answer="Redis", closed=NOW)

    assert factory(["answer", "E8", "1"]) == 3
    assert "E8 is closed: Redis" in capsys.readouterr().err


def test_a_card_that_concerns_no_unit_takes_an_answer(line: Line) -> None:
    line.card("E9")

    codes = [factory(["answer", "E9", "1"]), factory(["answer", "E9", "1"])]

    assert codes == [0, 3]


@pytest.mark.parametrize(
    ("state", "code", "out", "err"),
    [
        ("done", 0, "fix-login: tried again\n", ""),
        ("refused", 3, "", "factory: it has just landed\n"),
    ],
)
def test_with_the_daemon_up_the_outcome_is_waited_for_and_reported(
    state: str, code: int, out: str, err: str, line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = (out or err.removeprefix("factory: ")).strip()
    daemon = threading.Thread(target=line.settle, args=(state, outcome))
    with line.daemon():
        daemon.start()
        got = factory(["retry", "fix-login"])
        daemon.join()

    assert (got, *capsys.readouterr()) == (code, out, err)


def test_a_busy_daemon_is_not_waited_for_longer_than_promised(
    line: Line, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ask, "WAIT_S", 0.05)

    with line.daemon():
        code = factory(["pause"])

    assert (code, line.requests()) == (0, [("pause", {})])
    assert "does this next" in capsys.readouterr().out


def test_a_request_and_its_journal_entry_are_written_together(line: Line) -> None:
    factory(["tell", "fix-login", "hello"])

    made = [entry for entry in entries_of(line.store) if entry.event is Event.REQUEST_MADE]
    assert [(entry.unit, entry.detail["kind"]) for entry in made] == [("fix-login", "tell")]


def test_the_wake_mark_is_touched_again_by_each_request(line: Line) -> None:
    factory(["pause"])
    wake = line.root / ".factory" / "wake"
    os.utime(wake, (1, 1))

    factory(["resume"])

    assert wake.stat().st_mtime > 1
