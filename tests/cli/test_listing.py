import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from factory.cli.main import factory
from factory.store.unit import UnitState
from tests import printed
from tests.cli_line import NOW, Line


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Line:
    monkeypatch.chdir(tmp_path)
    line = Line(tmp_path)
    line.unit("gone", UnitState.LANDED, minutes=50, commit="b" * 40, landed=NOW)
    line.unit("typo", UnitState.LANDED, minutes=40, commit="a" * 40, landed=NOW)
    line.unit("old", UnitState.CANCELLED, minutes=30, why="cancelled by hand")
    line.unit("fix-login", UnitState.RUNNING, minutes=20, title="Fix \x1b[31mlogin", attempt=1)
    line.unit("docs", UnitState.WAITING, minutes=10, needs=("fix-login",))
    line.unit("search", UnitState.READY, minutes=5)
    line.fact("trunk", {"branch": "main", "missing": ["gone"]})
    return line


def screen(capsys: pytest.CaptureFixture[str], *argv: str) -> list[str]:
    assert factory(["list", *argv]) == 0
    return capsys.readouterr().out.splitlines()


def test_all_units_are_listed_newest_first_in_the_words_of_status(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    assert screen(capsys) == [
        "search     ready 5 min       waits for factoryd start",
        "docs       waiting 10 min    needs fix-login, which is running",
        "fix-login  running 20 min    Fix login",
        "old        cancelled 30 min  cancelled by hand",
        "typo       landed 40 min     aaaaaaaaaa Title of typo",
        "gone       landed 50 min     not on trunk any more; again: factory retry gone",
    ]


def test_units_of_one_state_and_a_number_of_units(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [text.split()[0] for text in screen(capsys, "--state", "Landed")] == ["typo", "gone"]
    assert screen(capsys, "--state", "landed", "-n", "1")[1:] == [
        "… and 1 more (factory list --state landed -n 2)"
    ]
    assert screen(capsys, "-n", "0") == ["… and 6 more (factory list -n 6)"]
    assert screen(capsys, "--state", "split") == ["no unit is split"]


def test_without_a_number_the_list_is_bounded(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(50):
        line.unit(f"new-{number}", UnitState.WAITING, minutes=1)

    lines = screen(capsys)

    assert (len(lines), lines[-1]) == (51, "… and 6 more (factory list -n 56)")


def test_as_json_it_is_one_object(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    seen = json.loads(screen(capsys, "--json", "-n", "5")[0])

    printed.check("list", seen)
    assert [unit["id"] for unit in seen["units"]] == ["search", "docs", "fix-login", "old", "typo"]
    assert seen["units"][1]["why"] == "needs fix-login, which is running"
    assert (seen["more"], seen["units"][4]["on_trunk"]) == (1, True)
    assert datetime.fromisoformat(seen["at"]) <= datetime.now(UTC)


def test_an_empty_line_says_where_to_drop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Line(tmp_path)

    assert screen(capsys) == ["no units yet: drop a task file into inbox/"]


@pytest.mark.parametrize(("typed", "meant"), [("runing", ": did you mean running?"), ("x", "")])
def test_an_unknown_state_is_a_usage_error_with_all_states(
    line: Line, typed: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert factory(["list", "--state", typed]) == 2

    assert capsys.readouterr().err == (
        f"factory: there is no state {typed!r}{meant}\n"
        "  the states: waiting, ready, running, queued, held, landed, split, cancelled\n"
    )
