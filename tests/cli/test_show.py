import json
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from factory.cli.main import factory
from factory.store.journal import Event
from factory.store.records import Clash, Verdict
from factory.store.unit import EndReason, UnitState
from tests import printed
from tests.cli_line import NOW, Line

ENV = {
    "PATH": "/usr/bin:/bin:/usr/local/bin",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
}


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Line:
    monkeypatch.chdir(tmp_path)
    line = Line(tmp_path)
    line.unit("fix-login", UnitState.RUNNING, title="Fix \x1b[31mlogin", attempt=2, why="retried")
    red = {
        "end": NOW,
        "reason": EndReason.GATE_RED,
        "detail": "test was red",
        "tokens_input": 12,
        "cost_usd": 0.5,
    }
    line.attempt("fix-login", 1, **red)
    line.attempt("fix-login", 2)
    verdict = Verdict(
        key="k", gate="test", tree="c" * 40, ok=False, settled=True, at=NOW, seconds=12.5
    )
    line.store.write(Event.VERDICT_GIVEN, verdict, now=NOW, unit="fix-login", cached=True)
    line.unit("docs", UnitState.WAITING, needs=("fix-login", "fix-logn"), why="waits for fix-login")
    line.card("E7", "docs", evidence="see\x1b]0;x\x07 here", where="factory log docs")
    return line


def test_a_unit_is_shown_with_its_attempts_and_verdicts(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    code = factory(["show", "fix-login"])

    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert lines[:3] == ["Fix login", "fix-login · running 5 min", "  retried"]
    assert lines[5].split()[2:] == [
        "claude",
        "gate_red",
        "12+0",
        "tokens",
        "$0.50",
        "test",
        "was",
        "red",
    ]
    assert lines[6].split()[2:] == ["claude", "running"]
    assert lines[-1] == "  red  test  cccccccccc  12 s  kept"


def test_paths_that_an_attempt_could_not_submit_are_shown_whole(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    long = f"{'deep/' * 30}.GIT/x"
    line.unit("odd", UnitState.LANDED, commit="a" * 40, landed=NOW)
    line.attempt("odd", 1, end=NOW, reason=EndReason.SUBMITTED, left_out=(long, "git~1/\x1b[31mx"))

    factory(["show", "odd"])
    out = capsys.readouterr().out
    factory(["show", "odd", "--json"])

    assert f"  1  {long}\n  1  git~1/x\n" in out
    assert json.loads(capsys.readouterr().out)["attempts"][0]["left_out"] == [
        long,
        "git~1/\x1b[31mx",
    ]
    factory(["show", "fix-login"])
    assert "LEFT OUT" not in capsys.readouterr().out


def test_a_landed_unit_that_trunk_no_longer_holds_is_said_to_be_so(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    line.unit("typo", UnitState.LANDED, commit="a" * 40, landed=NOW)
    line.fact("trunk", {"missing": ["typo"]})

    factory(["show", "typo"])

    assert "not on it" in capsys.readouterr().out


def test_json_of_a_unit_is_what_the_contract_promises(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    factory(["show", "fix-login", "--json"])

    seen = json.loads(capsys.readouterr().out)
    assert {"id", "title", "state", "commit", "on_trunk", "attempts", "verdicts"} <= seen.keys()
    assert seen["attempts"][0]["tokens"] == {"input": 12, "output": 0}


def test_a_card_is_shown_with_its_evidence_and_how_to_answer(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    code = factory(["show", "e7"])

    out = capsys.readouterr().out
    assert code == 0
    assert "factory answer E7 1" in out
    assert out.endswith("      stops: docs\n      read: factory log docs\n\nsee here\n")


def test_a_closed_card_shows_its_answer(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    line.card("E8", state="closed", answer="Redis")

    factory(["show", "E8"])

    assert "closed: Redis" in capsys.readouterr().out


def test_what_is_neither_unit_nor_card_is_refused(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    assert factory(["show", "E99"]) == 1
    assert factory(["show", "nobody"]) == 1
    assert factory(["log", "e7"]) == 1

    none, unknown, card = capsys.readouterr().err.splitlines()[::2]
    assert (none, unknown) == (
        "factory: there is no card E99",
        "factory: there is no unit 'nobody'",
    )
    assert card == "factory: E7 is a card, not a unit"


def test_why_as_json_has_the_needs_the_cards_and_the_events(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    code = factory(["why", "docs", "--json"])

    seen = json.loads(capsys.readouterr().out)
    printed.check("why", seen)
    assert code == 0
    assert (seen["unit"], seen["state"], seen["cards"]) == ("docs", "waiting", ["E7"])
    assert seen["needs"] == [
        {"unit": "fix-login", "state": "running", "why": "retried"},
        {"unit": "fix-logn", "state": None, "why": ""},
    ]
    assert [event["event"] for event in seen["events"]] == ["task.accepted", "card.raised"]


def test_why_tells_where_the_parts_of_a_split_unit_are(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    line.unit("big-a", UnitState.LANDED)
    line.unit("big-b", UnitState.READY, why="waits for a free worker")
    line.unit("big", UnitState.SPLIT, needs=("big-a", "big-b"), why="its parts: big-a, big-b")

    factory(["why", "big"])

    assert capsys.readouterr().out.splitlines()[:2] == [
        "big is split: its parts: big-a, big-b",
        "  its part big-b, which is ready (waits for a free worker): factory why big-b",
    ]


def test_why_tells_what_a_unit_waits_for_and_what_led_there(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    code = factory(["why", "docs"])

    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert lines[:6] == [
        "docs is waiting: needs fix-login, which is running; needs fix-logn, which does",
        "not exist yet: did you mean fix-login?",
        "  needs fix-login, which is running (retried): factory why fix-login",
        "  needs fix-logn, which is no unit: did you mean fix-login?",
        "  E7 waits for your answer: factory show E7",
        "",
    ]
    assert [text.split("  ")[1] for text in lines[6:]] == [
        "accepted as docs.md",
        "E7 asks (question): Which store?",
    ]


PROVES = "---\naccept: [make proof, test -e b]\n---\ndo it"


def test_why_names_the_accept_commands_and_how_long_each_may_take(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    line.unit("new", UnitState.READY, text=PROVES)
    line.unit("done", UnitState.QUEUED, text=PROVES, proven="c" * 40)
    line.unit("past", UnitState.LANDED, text=PROVES)
    proof = Verdict(
        key="p", gate="accept: make proof", tree="t", ok=True, settled=True, at=NOW, seconds=50
    )
    line.store.write(Event.VERDICT_GIVEN, proof, now=NOW)

    told = {}
    for name in ("new", "done", "past"):
        factory(["why", name])
        lines = capsys.readouterr().out.splitlines()
        told[name] = [text for text in lines if text.startswith("  accept")]

    assert told == {
        "new": [
            "  accept must fail on trunk, within 2 min: `make proof`",
            "  accept must fail on trunk, within 10 min: `test -e b`",
        ],
        "done": [
            "  accept must pass on the change, within 2 min: `make proof`",
            "  accept must pass on the change, within 30 min: `test -e b`",
        ],
        "past": [],
    }


def test_the_time_limit_in_factory_toml_is_the_limit_of_accept_commands(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    line.fact("config", {"gates.timeout_s": {"value": 90, "source": "factory.toml"}})
    line.unit("new", UnitState.READY, text=PROVES)

    factory(["why", "new", "--json"])

    seen = json.loads(capsys.readouterr().out)
    printed.check("why", seen)
    assert seen["accept"] == [
        {"command": "make proof", "limit_s": 90},
        {"command": "test -e b", "limit_s": 90},
    ]


@pytest.fixture
def git(line: Line) -> Callable[..., str]:
    folder = line.root / ".factory" / "git"
    subprocess.run(["git", "init", "-q", "--bare", folder], env=ENV, check=True)

    def run(*argv: str, stdin: bytes = b"") -> str:
        who = {
            f"GIT_{role}_{part}": "a@b"
            for role in ("AUTHOR", "COMMITTER")
            for part in ("NAME", "EMAIL")
        }
        done = subprocess.run(
            ["git", *argv], cwd=folder, env=ENV | who, input=stdin, capture_output=True, check=True
        )
        return done.stdout.decode().strip()

    return run


def commit(git: Callable[..., str], content: bytes, *parents: str) -> str:
    blob = git("hash-object", "-w", "--stdin", stdin=content)
    tree = git("mktree", stdin=f"100644 blob {blob}\tfile.txt\n".encode())
    return git(
        "commit-tree", tree, "-m", "m", *(word for parent in parents for word in ("-p", parent))
    )


def test_diff_gives_the_exact_bytes_of_what_landed_is_queued_or_was_left_by_the_last_attempt(
    line: Line, git: Callable[..., str], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    base = commit(git, b"old\n")
    new = commit(git, b"new \x1b[2J\xff\n", base)
    line.unit("landed", UnitState.LANDED, commit=new)
    line.unit("queued", UnitState.QUEUED, submission=new, base=base)
    line.unit("red", UnitState.READY)
    line.attempt("red", 1, base=base, commit=new, end=NOW)
    line.attempt("red", 2)

    patches = []
    for name in ("landed", "queued", "red"):
        assert factory(["diff", name]) == 0
        patches.append(capfdbinary.readouterr().out)

    assert b"-old\n+new \x1b[2J\xff\n" in patches[0]
    assert patches[0] == patches[1] == patches[2]


def test_diff_of_a_unit_that_changed_nothing_yet_says_so(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    assert factory(["diff", "fix-login"]) == 1
    assert "nothing yet" in capsys.readouterr().err


def test_diff_of_a_unit_of_which_an_attempt_changed_nothing_says_so_beside_the_empty_patch(
    line: Line, git: Callable[..., str], capfd: pytest.CaptureFixture[str]
) -> None:
    base = commit(git, b"old\n")
    line.unit("empty", UnitState.HELD)
    line.attempt("empty", 1, base=base, commit=commit(git, b"old\n", base), end=NOW)

    assert factory(["diff", "empty"]) == 0

    assert capfd.readouterr() == ("", "empty: nothing was changed\n")


def test_diff_of_one_attempt_is_what_that_one_left_also_once_it_is_archived(
    line: Line, git: Callable[..., str], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    base = commit(git, b"old\n")
    first, second = commit(git, b"first\n", base), commit(git, b"second\n", base)
    line.unit("over", UnitState.LANDED, commit=second)
    line.attempt("over", 1, base=base, commit=first, ref="refs/factory/archive/2026-11", end=NOW)
    line.attempt("over", 2, base=base, commit=second, end=NOW)
    line.attempt("over", 3, base=base, end=NOW)

    codes = [factory(["diff", "over", "--attempt", number]) for number in ("1", "3", "4")]

    told = capfdbinary.readouterr()
    assert codes == [0, 1, 2]
    assert b"-old\n+first\n" in told.out
    assert b"attempt 3 of over left no tree" in told.err
    assert b"over has no attempt 4; it has 1, 2, 3" in told.err


def test_a_unit_is_shown_with_what_is_kept_of_each_attempt(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = line.root / ".factory/attempts/over/2"
    folder.mkdir(parents=True)
    line.unit("over", UnitState.LANDED, commit="c" * 40, landed=NOW)
    old = {"commit": "a" * 40, "tree": "b" * 40, "ref": "refs/factory/archive/2026-10"}
    line.attempt("over", 1, **old, end=NOW)
    line.attempt("over", 2, commit="d" * 40, ref="refs/factory/attempts/over/2", end=NOW)
    line.attempt("over", 3, end=NOW)

    factory(["show", "over"])

    lines = [text.split() for text in capsys.readouterr().out.partition("KEPT\n")[2].splitlines()]
    assert lines[0] == [
        "1",
        "archive",
        "2026-10",
        "a" * 10,
        "tree",
        "b" * 10,
        "run",
        "dir",
        "pruned",
    ]
    assert lines[1] == ["2", "ref", "d" * 10, str(folder)]
    assert lines[2] == ["3", "no", "tree", "run", "dir", "pruned"]


def test_what_the_last_attempt_was_told_is_shown_harmlessly_while_it_is_there(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = line.root / ".factory/attempts/docs/1"
    folder.mkdir(parents=True)
    (folder / "prompt.md").write_text("Do \x1b[2Jit.\n")
    line.attempt("docs", 1, end=NOW)
    line.attempt("docs", 2, end=NOW)  # it never began

    codes = factory(["show", "docs", "--prompt"]), factory(["show", "fix-login", "--prompt"])

    told = capsys.readouterr()
    assert (codes, told.out) == ((0, 1), "Do it.\n")
    assert "of fix-login there is no prompt" in told.err


def test_show_and_why_say_which_landed_unit_a_red_one_does_not_fit(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "green alone; red together with `docs` (landed 0736708): gate test is red"
    line.unit("sem2", UnitState.HELD, attempt=1, why="waits for your answer to E8")
    clash = Clash(unit="docs", commit="0736708" + "0" * 33, title="Docs")
    line.attempt("sem2", 1, end=NOW, reason=EndReason.GATE_RED, detail=said, clashes=(clash,))

    factory(["why", "sem2"])
    why = capsys.readouterr().out
    factory(["show", "sem2"])
    shown = capsys.readouterr().out
    factory(["show", "sem2", "--json"])
    told = json.loads(capsys.readouterr().out)

    assert f"attempt 1: {said}" in " ".join(why.split())
    assert f"attempt 1: {said}" in " ".join(shown.split())
    assert told["attempts"][0]["clashes"] == [asdict(clash)]
