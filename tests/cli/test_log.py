import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from factory.agents.tail import LONGEST
from factory.cli import log, place
from factory.cli.log import SHOWN, Output, readable
from factory.cli.main import factory
from factory.store.journal import Event
from factory.store.unit import EndReason, UnitState
from tests.cli_line import NOW, Line


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Line:
    monkeypatch.chdir(tmp_path)
    line = Line(tmp_path)
    line.fact("trunk", {})
    line.unit("other", UnitState.READY)
    line.unit("fix-login", UnitState.RUNNING, attempt=2)
    line.attempt("fix-login", 1, end=NOW, reason=EndReason.GATE_RED, detail="test was red")
    line.attempt("fix-login", 2)
    return line


def run_dir(line: Line, number: int) -> Path:
    folder = line.root / ".factory" / "attempts" / "fix-login" / str(number)
    folder.mkdir(parents=True)
    return folder


def lines_of(out: str) -> list[str]:
    return [text.split("  ", 1)[1] for text in out.splitlines()]


def test_the_journal_is_told_oldest_first_without_what_no_person_wants(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    code = factory(["log"])

    assert code == 0
    assert lines_of(capsys.readouterr().out) == [
        "other: accepted as other.md",
        "fix-login: accepted as fix-login.md",
        "fix-login: attempt 1 ended: test was red",
        "fix-login: attempt 2 started on w1: claude",
    ]


def test_a_landing_is_told_once_with_short_hashes_and_lists_as_words(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    line.store.write(Event.LANDING_OPENED, now=NOW, to="b" * 40, units=["fix-login"])
    line.store.write(Event.UNIT_LANDED, now=NOW, unit="fix-login", attempt=2, commit="b" * 40)
    line.store.write(Event.LANDING_CLOSED, now=NOW, outcome="Landed")
    line.store.write(Event.VERDICT_GIVEN, now=NOW, unit="other", gate="test", ok=True, cached=False)
    line.store.write(
        Event.VERDICT_GIVEN,
        now=NOW,
        unit="other",
        gate="accept: x",
        ok=False,
        cached=False,
        before=True,
        stacked=True,
    )
    line.store.write(
        Event.VERDICT_GIVEN,
        now=NOW,
        unit="other",
        gate="test",
        ok=False,
        cached=False,
        stacked=True,
    )
    line.store.write(
        Event.UNIT_TOLD, now=NOW, unit="other", kind="tell", who="person", text="use Redis"
    )
    line.store.write(
        Event.REQUEST_DONE, now=NOW, request=1, kind="answer", outcome="other: cancelled"
    )
    line.store.write(Event.UNIT_PRIORITIZED, now=NOW, unit="other", was="2", priority=0)
    line.store.write(Event.CONFIG_CHANGED, now=NOW, keys=["workers", "agent"])

    factory(["log"])

    assert lines_of(capsys.readouterr().out)[-8:] == [
        f"fix-login: landed as {'b' * 10}",
        "other: test is green",
        "other: accept: x is red without the change",
        "other: test is red on top of units that had not landed",
        "other: person: use Redis",
        "by factory answer: other: cancelled",
        "other: priority 2 → 0",
        "config changed: keys workers, agent",
    ]


def test_of_one_unit_it_also_tells_what_its_agent_is_saying(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    (run_dir(line, 2) / "output.log").write_bytes(
        b"\x1b[32mlooking\x1b[0m around\n\x1b]0;evil\x07done\nhalf"
    )

    code = factory(["log", "fix-login"])

    assert code == 0
    assert lines_of(capsys.readouterr().out)[-2:] == ["│ looking around", "│ done"]


def test_as_json_it_is_one_event_a_line(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    factory(["log", "--json"])

    entries = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [entry["seq"] for entry in entries] == [1, 2, 3, 4, 5]
    assert entries[3] == entries[3] | {
        "event": "attempt.ended",
        "unit": "fix-login",
        "attempt": 1,
        "worker": "w1",
    }


def events_of(argv: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert factory(["log", *argv]) == 0
    return lines_of(capsys.readouterr().out)


@pytest.mark.parametrize(("count", "shown"), [(0, 0), (1, 1), (3, 3), (99, 5)])
def test_the_newest_events_are_counted_without_those_that_are_not_shown(
    line: Line, capsys: pytest.CaptureFixture[str], count: int, shown: int
) -> None:
    line.store.write(Event.UNIT_TOLD, now=NOW, unit="other", who="person", text="use Redis")
    line.fact("trunk", {})
    whole = events_of([], capsys)

    newest = events_of(["-n", str(count)], capsys)

    assert newest == whole[len(whole) - shown :]


def test_the_newest_events_as_json_are_all_kinds_of_events(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    line.fact("trunk", {})

    factory(["log", "--json", "-n", "2"])

    entries = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [entry["event"] for entry in entries] == ["attempt.started", "fact.changed"]


def test_of_one_unit_the_newest_events_and_as_many_lines_of_its_agent_are_shown(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    (run_dir(line, 2) / "output.log").write_bytes(b"one\ntwo\nthree\n")
    line.unit("late", UnitState.READY)

    assert events_of(["fix-login", "-n", "2"], capsys) == [
        "attempt 1 ended: test was red",
        "attempt 2 started on w1: claude",
        "│ two",
        "│ three",
    ]


def test_events_are_shown_since_a_duration_or_a_date(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    hour_ago, day_ago = NOW - timedelta(hours=1), NOW - timedelta(days=1)
    line.store.write(Event.UNIT_TOLD, now=day_ago, unit="other", who="person", text="a day")
    line.store.write(Event.UNIT_TOLD, now=hour_ago, unit="other", who="person", text="an hour")
    line.store.write(Event.UNIT_TOLD, now=NOW, unit="other", who="person", text="now")
    local = (hour_ago - timedelta(minutes=1)).astimezone()

    for since in ("2h", "90min", "90 m", "7000s", str(local), f"{local:%Y-%m-%d %H:%M:%S}"):
        assert events_of(["--since", since], capsys)[-2:] == [
            "other: person: an hour",
            "other: person: now",
        ], since
        assert len(events_of(["--since", since], capsys)) == 2
    assert events_of(["--since", "2h", "-n", "1"], capsys) == ["other: person: now"]
    assert events_of(["--since", "9999-01-01"], capsys) == []
    assert len(events_of(["--since", "3d"], capsys)) == 7


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--since", "yesterday"], "--since yesterday: this is neither a duration nor a date"),
        (["--since", "999999999d"], "neither"),
        (["--since", ""], "neither"),
        (["--since", "0001-01-01"], ""),
        (["-n", "-1"], "-n"),
        (["-n", "many"], "argument -n: 'many' is not a number such as 20"),
    ],
)
def test_a_wrong_beginning_is_a_usage_error(
    line: Line, argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = factory(["log", *argv])

    assert (code, said in capsys.readouterr().err) == (2 if said else code, True)


def test_an_unknown_unit_is_refused_with_a_did_you_mean(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    assert factory(["log", "fix-logn"]) == 1
    assert "did you mean fix-login?" in capsys.readouterr().err


def test_following_goes_on_with_events_and_output_until_the_unit_has_ended(line: Line) -> None:
    output = run_dir(line, 2) / "output.log"
    output.write_bytes(b"one\n")
    unit = line.unit("fix-login", UnitState.QUEUED, attempt=2)

    with place.store(str(line.root)) as con:
        told = log.follow(con, str(line.root), "fix-login", as_json=False, on=True)
        before = [next(told) for _ in range(5)]
        with output.open("ab") as file:
            file.write(b"two\n")
        after = next(told)
        landed = replace(unit, state=UnitState.LANDED)
        line.store.write(Event.UNIT_LANDED, landed, now=NOW, unit="fix-login", commit="c0ffee")
        rest = list(told)

    assert before[-1] == "  │ one"
    assert after == "  │ two"
    assert [text.split("  ")[1] for text in rest] == ["landed as c0ffee"]


def test_following_changes_over_to_the_next_attempt(line: Line) -> None:
    (run_dir(line, 2) / "output.log").write_bytes(b"second\n")

    with place.store(str(line.root)) as con:
        told = log.follow(con, str(line.root), "fix-login", as_json=False, on=True)
        assert "  │ second" in [next(told) for _ in range(4)]
        (run_dir(line, 3) / "output.log").write_bytes(b"third\n")
        line.attempt("fix-login", 3)
        more = [next(told), next(told)]

    assert more[0].endswith("attempt 3 started on w1: claude")
    assert more[1] == "  │ third"


def test_following_from_now_on_shows_a_new_attempt_from_its_first_line(line: Line) -> None:
    (run_dir(line, 2) / "output.log").write_bytes(b"second\n")

    with place.store(str(line.root)) as con:
        begin = log.Begin(seen=99, lines=0)
        told = log.follow(con, str(line.root), "fix-login", as_json=False, on=True, begin=begin)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "time.sleep",
                lambda _: (
                    (run_dir(line, 3) / "output.log").write_bytes(b"third\nmore\n")
                    and line.attempt("fix-login", 3)
                ),
            )
            shown = [next(told), next(told)]

    assert shown == ["  │ third", "  │ more"]


def test_following_reads_only_new_events_and_the_state_of_the_unit(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    line.unit("fix-login", UnitState.QUEUED, attempt=2)
    asked = list[str]()
    polls = []

    def poll(seconds: float) -> None:
        polls.append(asked.copy())
        asked.clear()
        if len(polls) == 3:
            raise InterruptedError

    monkeypatch.setattr("time.sleep", poll)
    with place.store(str(line.root)) as con:
        con.set_trace_callback(asked.append)
        told = log.follow(con, str(line.root), "fix-login", as_json=False, on=True)
        with pytest.raises(InterruptedError):
            list(told)

    assert len(polls[2]) == 2
    assert 'FROM "unit" WHERE "id"' in polls[2][0]
    assert 'FROM "journal" WHERE "seq" >' in polls[2][1]


def test_no_line_is_lost_or_told_twice_when_the_output_is_rotated(tmp_path: Path) -> None:
    path = tmp_path / "output.log"
    path.write_bytes(b"one\nha")
    output = Output(str(tmp_path))

    first = list(output.read())
    with path.open("ab") as file:
        file.write(b"lf\nlast of the old\n")
    path.rename(tmp_path / "output.1.log")
    path.write_bytes(b"first of the new\n")
    second = list(output.read())

    assert (first, second, list(output.read())) == (
        ["one"],
        ["half", "last of the old", "first of the new"],
        [],
    )


def test_only_the_end_of_a_long_output_is_told(tmp_path: Path) -> None:
    (tmp_path / "output.log").write_text("".join(f"line {number}\n" for number in range(5000)))

    told = list(Output(str(tmp_path)).read())

    assert told[-1] == "line 4999"
    assert len(told) < 1000


def test_a_run_that_has_not_spoken_says_nothing_until_it_does(tmp_path: Path) -> None:
    output = Output(str(tmp_path))

    assert list(output.read()) == []
    (tmp_path / "output.log").write_bytes("ü🙂\n".encode())
    assert list(output.read()) == ["ü🙂"]


def test_letters_cut_in_two_by_a_read_are_put_together(tmp_path: Path) -> None:
    path = tmp_path / "output.log"
    path.write_bytes(b"\xc3")
    output = Output(str(tmp_path))

    assert list(output.read()) == []
    with path.open("ab") as file:
        file.write(b"\xbc\n")
    assert list(output.read()) == ["ü"]


def test_an_endless_line_is_told_in_pieces(tmp_path: Path) -> None:
    (tmp_path / "output.log").write_bytes(b"")
    output = Output(str(tmp_path))
    assert list(output.read()) == []

    (tmp_path / "output.log").write_bytes(b"x" * (LONGEST + 1))

    assert list(output.read()) == ["x" * SHOWN + "…"]


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (
            '{"type":"assistant","message":{"content":[{"type":"text","text":"I see.\\nGo."}]}}',
            ["I see.", "Go."],
        ),
        ('{"message":{"content":[{"type":"tool_use","input":{"command":"ls -l"}}]}}', ["$ ls -l"]),
        (
            '{"type":"item.completed","item":{"type":"agent_message","text":"\\u001b[2Jdone"}}',
            ["done"],
        ),
        ('{"type":"turn.started"}', []),
        ("{not json", ["{not json"]),
        ("plain", ["plain"]),
        ("  ", []),
    ],
)
def test_of_an_agents_events_only_what_was_said_or_run_is_told(raw: str, told: list[str]) -> None:
    assert list(readable(raw)) == told
