import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from factory.cli import say
from factory.cli.main import factory
from factory.store.journal import Event
from factory.store.records import CardKind, Option
from factory.store.unit import UnitState
from tests.cli_line import NOW, Line
from tests.terminal import seen_on_terminal


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Line:
    monkeypatch.chdir(tmp_path)
    return Line(tmp_path)


@pytest.fixture
def busy(line: Line) -> Line:
    line.fact(
        "trunk", {"branch": "main", "commit": "3f2a91c0d1e2f3", "state": "green", "gates_red": []}
    )
    line.fact("warnings", ["gates run unsandboxed"])
    line.unit("fix-login", UnitState.HELD, why="it asked", attempt=1)
    line.unit("add-search", UnitState.RUNNING, title="Add search", attempt=2)
    line.attempt("add-search", 2)
    line.hook("w1", "add-search", 2)
    line.hook("w2")
    line.unit("speed-up", UnitState.QUEUED, title="Speed up")
    line.unit("docs", UnitState.WAITING, why="waits for add-search")
    line.unit("typo", UnitState.LANDED, commit="a" * 40, landed=datetime.now(UTC))
    line.card("E7", "fix-login", question="fix-login asks: which store?")
    return line


def screen(capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert factory(["status"]) == 0
    return capsys.readouterr().out.splitlines()


def test_what_needs_a_person_comes_first_then_moving_queue_waiting_landed_and_warnings(
    busy: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    with busy.daemon():
        lines = screen(capsys)

    assert lines == [
        "factoryd running · 1 of 2 workers busy · main 3f2a91c0d1 green",
        "1 waiting · 1 running · 1 queued · 1 held · 1 landed",
        "",
        "NEEDS YOU",
        "  E7  question · 12 min",
        "      fix-login asks: which store?",
        "      1  Redis       the next attempt is told",
        "      2  In-process  the next attempt is told",
        "      factory answer E7 1",
        "",
        "MOVING",
        "  w1  add-search  working 4 min  attempt 2, claude  Add search",
        "",
        "QUEUE",
        "  1  speed-up  waiting  Speed up",
        "",
        "WAITING",
        "  docs  waiting 5 min  waits for add-search",
        "",
        "LANDED LAST",
        f"  {'a' * 10}  typo  {lines[-6].split('typo')[1].strip()}",
        "",
        "! gates run unsandboxed",
        "! no spending limit set (budget.day_usd)",
        "",
        "next: factory show E7  (the evidence, before you answer)",
    ]


def test_rejected_files_are_shown_with_their_reasons_one_on_a_line(
    busy: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    why = "line 2: unknown key 'priorty': did you mean priority?"
    files = [{"file": "wrong.md", "why": why}, {"file": "x\x1b[2J.md", "why": "y" * 200}]
    busy.fact("rejected", {"files": files, "count": 12})

    lines = screen(capsys)

    begin = lines.index("REJECTED")
    assert lines[begin + 1] == f"  wrong.md  {why}"
    assert lines[begin + 2].startswith("  x.md      yyyy")
    assert lines[begin + 3] == "  … and 10 more (in inbox/rejected/)"


def test_with_the_daemon_down_it_still_answers_and_says_how_to_start(
    busy: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = screen(capsys)

    assert lines[0] == "factoryd stopped · start it: factoryd start · main 3f2a91c0d1 green"


def the_next_step(capsys: pytest.CaptureFixture[str]) -> str:
    lines = screen(capsys)
    assert ("Nothing needs you." in lines) is not lines[-1].startswith("next: ")
    return lines[-1].removeprefix("next: ").partition("  (")[0]


def test_with_the_daemon_down_and_work_left_the_last_line_is_how_to_start(
    busy: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = screen(capsys)

    assert lines[-1] == "next: factoryd start  (until then nothing moves)"


def test_the_last_line_is_the_command_that_helps_most(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = []
    with line.daemon():
        line.unit("gone", UnitState.LANDED, commit="a" * 40, landed=NOW)
        steps.append(the_next_step(capsys))
        line.fact("trunk", {"missing": ["gone"]})
        steps.append(the_next_step(capsys))
        line.fact("rejected", {"files": [{"file": "a b.md", "why": "bad"}], "count": 1})
        steps.append(the_next_step(capsys))
        line.fact("paused", {"by": "you", "since": "2026-01-05T12:00:00Z"})
        steps.append(the_next_step(capsys))
        line.unit("fix", UnitState.READY)
        steps.append(the_next_step(capsys))
        for name in ("E1", "E2"):
            line.card(name, "fix")
        steps.append(screen(capsys)[-1])

    assert steps == [
        "! no spending limit set (budget.day_usd)",
        "factory retry gone",
        "factory check 'inbox/rejected/a b.md'",
        "factory check 'inbox/rejected/a b.md'",
        "factory resume",
        "next: factory show E1  (the evidence, before you answer; 1 more after it)",
    ]


def test_with_the_daemon_down_what_has_ended_does_not_move_and_what_works_on_does(
    busy: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    over = screen(capsys)
    busy.attempt("add-search", 2, pid=os.getpid())
    alive = screen(capsys)
    folder = busy.root / ".factory/attempts/add-search/2"
    folder.mkdir(parents=True)
    (folder / "exit.json").touch()
    assert screen(capsys) == over

    begin = over.index("ENDED; THE NEXT START PROCESSES THEM")
    assert (over[begin + 1], "MOVING" in over) == ("  add-search  attempt 2, claude", False)
    assert "  w1  add-search  working 4 min  attempt 2, claude  Add search" in alive


def test_an_empty_line_says_that_nothing_needs_you_and_where_to_drop(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    assert screen(capsys)[1:] == [
        "no units yet: drop a task file into inbox/",
        "",
        "Nothing needs you.",
        "",
        "! no spending limit set (budget.day_usd)",
    ]


def test_escapes_in_names_and_texts_do_not_reach_the_screen(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    line.unit("fix", UnitState.WAITING, why="waits \x1b[2J" + "日本語" * 60)
    line.card("E1", "fix", question="\x1b]0;title\x07" + "Should it? " * 30, count=3)

    assert "\x1b" not in "".join(screen(capsys))


def test_many_rows_are_cut_with_a_count(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(20):
        line.unit(f"unit-{number}", UnitState.READY)
        line.card(f"E{number}")

    lines = screen(capsys)

    assert [text for text in lines if "more" in text] == [
        "  … and 9 more (factory status --json has all)",
        "  … and 12 more (factory status --json has all)",
    ]
    assert "  E10  question  Which store?" in lines
    assert "  each with its options: factory show E3" in lines


def test_options_are_told_whole_however_long_their_labels(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    label = "I bring it back, or name another branch to land on"
    option = Option(key="1", label=label, effect="it goes on", action="answer")
    card = line.card("E1")
    line.store.write(Event.CARD_FOLDED, replace(card, options=(option,)), now=NOW)

    assert f"      1  {label}: it goes on" in screen(capsys)


def test_a_unit_that_waits_is_listed_unless_an_open_card_above_is_about_it_alone(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("alone", "first", "second", "answered"):
        line.unit(name, UnitState.WAITING)
    line.card("E1", "alone")
    folded = line.card("E2", "first")
    line.store.write(
        Event.CARD_FOLDED, replace(folded, units=("first", "second"), count=2), now=NOW
    )
    line.card("E3", "answered", answer="Redis")

    lines = screen(capsys)

    listed = [
        text.split()[0] for text in lines[lines.index("WAITING") + 1 :] if text.startswith("  ")
    ]
    assert sorted(listed) == ["answered", "first", "second"]
    assert "  E1  question · alone · 12 min" in lines
    assert "  E2  question · 2 units · 12 min" in lines


def test_what_landed_and_warnings_are_cut_with_a_count(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(7):
        line.unit(f"unit-{number}", UnitState.LANDED, commit="a" * 40, landed=NOW)
    line.fact("warnings", [f"warning {number}" for number in range(11)])

    lines = screen(capsys)

    assert [text for text in lines if "more" in text] == [
        "  … and 2 more (factory log has all)",
        "  … and 3 more (factory status --json has all)",
    ]


def test_with_the_daemon_down_what_lies_in_the_inbox_is_counted(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    (line.root / "inbox").mkdir()
    for name in ("fix.md", ".half.md", "notes.txt"):
        (line.root / "inbox" / name).write_text("do it")

    assert "task files in inbox/, accepted by the next start: 1" in screen(capsys)


def test_a_first_file_that_was_dropped_this_moment_is_seen(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    (line.root / "inbox").mkdir()
    (line.root / "inbox/fix.md").write_text("do it")

    with line.daemon():
        assert "no units yet: the daemon is reading inbox/" in screen(capsys)
    with line.daemon():
        assert "inbox/" not in "".join(screen(capsys)[2:])


def test_a_paused_line_and_an_open_sandbox_are_said(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    line.fact("paused", {"by": "you"})
    line.fact("sandbox", {"mode": "off", "says": "unsandboxed: gates run as you"})

    with line.daemon():
        lines = screen(capsys)

    assert lines[0] == "factoryd running, paused · 0 of 0 workers busy"
    assert "! unsandboxed: gates run as you" in lines


def test_json_is_what_the_contract_promises(busy: Line, capsys: pytest.CaptureFixture[str]) -> None:
    code = factory(["status", "--json"])

    seen = json.loads(capsys.readouterr().out)
    assert code == 0
    assert seen["schema"] == 1
    assert [card["id"] for card in seen["escalations"]] == ["E7"]


def test_colours_appear_on_a_terminal_only_and_no_color_is_heeded(busy: Line) -> None:
    shown = {}
    for setting in ("", "1"):
        shown[setting] = seen_on_terminal(
            ["status"], busy.root, columns=80, environ={"NO_COLOR": setting}
        )

    assert "\x1b[1mNEEDS YOU\x1b[0m" in shown[""]
    assert "\x1b" not in shown["1"]


@pytest.fixture
def wordy(busy: Line) -> Line:
    """A line with long texts everywhere, among them wide letters and a long id."""
    busy.unit("x" * 50, UnitState.WAITING, why="waits for " + "日本語の文書" * 40)
    busy.unit("search", UnitState.RUNNING, title="The search finds words in every page " * 3)
    busy.attempt("search", 1, pid=os.getpid())
    busy.hook("w3", "search", 1)
    busy.card("E1", "fix-login", question="Should it? " * 30, kind=CardKind.GUARD, count=3)
    busy.card("E2", answer="No, but " * 20)
    busy.card("E3", question="文書を" * 50, deadline=NOW, default="1")
    busy.fact("warnings", ["w" * 30 + " " + "v" * 20 + " and more words" * 9])
    busy.fact("rejected", {"files": [{"file": "wrong.md", "why": "bad " * 50}], "count": 1})
    budget = {"day_usd": 50.0, "day_tokens": 10_000_000, "day_minutes": 600.0, "unit_usd": 2.0}
    busy.fact("budget", budget)
    return busy


@pytest.mark.parametrize("columns", [60, 80, 140])
def test_on_a_terminal_every_line_fits_and_no_id_is_cut(wordy: Line, columns: int) -> None:
    with wordy.daemon():
        lines = seen_on_terminal(["status"], wordy.root, columns=columns).splitlines()

    too_wide = [text for text in lines if say.width(text) > columns]
    assert too_wide == []
    assert max(map(say.width, lines)) > columns - 6  # the width is used
    assert "x" * 50 in " ".join(lines).split()
    cut = [text for text in lines if "日本語の文書" in text]
    assert len(cut) == 1
    assert cut[0].endswith("…")
    assert say.width(cut[0]) >= columns - 1  # a wide letter leaves one cell at most


def test_a_wide_terminal_shows_more_of_a_title_than_a_narrow_one(wordy: Line) -> None:
    shown = {}
    for columns in (60, 140):
        lines = seen_on_terminal(["status"], wordy.root, columns=columns).splitlines()
        titles = [text for text in lines if "The search finds words" in text]
        shown[columns] = titles[0].partition("The search")[2]

    assert len(shown[60]) + 30 < len(shown[140])


def test_without_a_terminal_nothing_is_cut(wordy: Line, capsys: pytest.CaptureFixture[str]) -> None:
    lines = screen(capsys)

    assert "…" not in "".join(lines).replace("“", "")
    waiting = next(text for text in lines if text.startswith(f"  {'x' * 50}"))
    assert waiting.endswith("日本語の文書" * 40)


def test_watching_goes_on_until_interrupted(busy: Line) -> None:
    program = (
        "import sys; from factory.cli.main import factory; sys.exit(factory(['status', '--watch']))"
    )
    env = {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=busy.root, env=env, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout
        heads = [
            next(text for text in child.stdout if text.startswith("factoryd")) for _ in range(2)
        ]
        child.send_signal(signal.SIGINT)
        child.communicate(
            timeout=60
        )  # to its end: what closes the pipe first would end it otherwise

    assert heads == ["factoryd stopped · start it: factoryd start · main 3f2a91c0d1 green\n"] * 2
    assert child.returncode == 130
