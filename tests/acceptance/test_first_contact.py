"""What a person sees from the first start until trunk is judged: the steps, and then the result."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.acceptance.line import Line, files, line_in

REPOSITORY = Path(__file__).parents[2]
FOLLOW = "import sys; from factory.cli.follow import follow; sys.exit(follow(sys.argv[1]))"
START = "import sys; from factory.cli.main import factoryd; sys.exit(factoryd(sys.argv[1:]))"
SETUP = "conventions/workspace/setup.sh"
GATE = "conventions/gates/20-slow.sh"


def waiting(go: Path, *said: str) -> str:
    lines = "".join(f"echo {line}\n" for line in said)
    return f"{lines}until [ -e {go} ]; do sleep 0.02; done\n"


def env_of(line: Line) -> dict[str, str]:
    return line.environment() | {"PYTHONPATH": str(REPOSITORY)}


def seen_running(line: Line, what: str, said: str) -> Any:
    """Wait until a command of that kind runs and has said so; what `status` tells of it."""

    def look() -> Any:
        running = json.loads(line.factory("status", "--json")[1])["running"]
        found = [each for each in running if (each["what"], each["said"]) == (what, said)]
        return found[0] if found else None

    return line.until(f"a {what} runs", look)


def test_status_names_the_setup_and_the_gate_that_run_and_their_last_words(tmp_path: Path) -> None:
    made, go = tmp_path / "made", tmp_path / "go"
    contents = files() | {SETUP: waiting(made, "fetching", "a package"), GATE: waiting(go, "half")}
    with line_in(tmp_path, contents) as line:
        setup = seen_running(line, "setup", "a package")
        screen = line.factory("status")[1]
        made.touch()
        gate = seen_running(line, "gate", "half")
        go.touch()
        line.until("trunk is green", lambda: "green" in line.factory("status")[1].splitlines()[0])

        after = json.loads(line.factory("status", "--json")[1])["running"]
        line.drop("one", "write('one.txt', 'x')")
        line.unit("one")
        facts = line.factory("log", "--json")[1]

    shown = {key: setup[key] for key in ("place", "unit", "name", "step", "steps", "said")}
    assert shown == {
        "place": "b1",
        "unit": "",
        "name": f"sh {SETUP}",
        "step": 1,
        "steps": 1,
        "said": "a package",
    }
    assert setup["usual_s"] is None
    assert "SETUP AND GATES\n  main · setup 1 of 1 · 0 s, first time · sh conventions/" in screen
    assert "\n    a package\n" in screen
    assert (gate["name"], gate["said"], gate["step"]) == ("20-slow", "half", None)
    assert after == []
    assert '"fact": "durations"' in facts  # how long the setup took is known from now on


def test_a_start_that_waits_names_each_step_and_the_verdicts_and_how_long_it_took(
    tmp_path: Path,
) -> None:
    go = tmp_path / "go"
    with line_in(tmp_path, files() | {GATE: waiting(go, "half")}) as line:
        child = subprocess.Popen(
            [sys.executable, "-c", FOLLOW, str(line.root)],
            env=env_of(line),
            stdout=subprocess.PIPE,
            text=True,
        )
        with child:
            assert child.stdout
            first = child.stdout.readline()
            while "20-slow" not in first:
                first = child.stdout.readline()
            go.touch()
            rest = child.stdout.read().splitlines()

    assert first == "  gate: 20-slow\n"
    assert [row.split()[:2] for row in rest[:-1]] == [["green", "10-whole"], ["green", "20-slow"]]
    assert rest[-1].startswith("main is green after ")
    assert child.returncode == 0


def test_on_a_terminal_one_line_shows_what_runs_and_its_last_words(tmp_path: Path) -> None:
    go = tmp_path / "go"
    with line_in(tmp_path, files() | {GATE: waiting(go, "half")}) as line:
        leader, follower = pty.openpty()
        child = subprocess.Popen(
            [sys.executable, "-c", FOLLOW, str(line.root)],
            env=env_of(line) | {"TERM": "xterm", "NO_COLOR": "1"},
            stdout=follower,
        )
        os.close(follower)
        seen = b""
        with child:
            while b"half" not in seen:
                seen += os.read(leader, 65536)
            go.touch()
            seen += rest_of(leader)

    assert b"gate (" in seen
    assert b"): 20-slow \xe2\x94\x82 half" in seen
    assert b"main is green after " in seen.splitlines()[-1]


def rest_of(leader: int) -> bytes:
    seen = b""
    try:
        while chunk := os.read(leader, 65536):
            seen += chunk
    except OSError:  # the program that had the terminal open has ended
        pass
    os.close(leader)
    return seen


def test_a_start_that_waits_shows_the_card_if_trunk_cannot_be_judged(tmp_path: Path) -> None:
    line = Line(tmp_path, files() | {SETUP: "echo no such package >&2\nexit 3\n"})
    try:
        done = subprocess.run(
            [sys.executable, "-c", START, "start", "--wait"],
            cwd=line.root,
            env=env_of(line),
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        again = subprocess.run(
            [sys.executable, "-c", START, "stop"], cwd=line.root, env=env_of(line), check=False
        )
    finally:
        line.close()

    assert (done.returncode, again.returncode) == (1, 0)
    lines = done.stdout.splitlines()
    (number,) = [n for n, row in enumerate(lines) if row == "main is unknown"]
    assert lines[number + 1].startswith("  E1  setup")
    assert "exit code 3" in " ".join(lines[number:])


def test_ctrl_c_ends_the_view_and_not_the_judging(tmp_path: Path) -> None:
    go = tmp_path / "go"
    with line_in(tmp_path, files() | {GATE: waiting(go, "half")}) as line:
        child = subprocess.Popen(
            [sys.executable, "-c", FOLLOW, str(line.root)],
            env=env_of(line),
            stdout=subprocess.PIPE,
            text=True,
        )
        with child:
            assert child.stdout
            while "20-slow" not in child.stdout.readline():
                pass
            child.send_signal(2)
            rest = child.stdout.read()
        go.touch()
        line.until("trunk is green", lambda: "green" in line.factory("status")[1].splitlines()[0])

    assert (child.returncode, rest) == (
        130,
        "\nthe daemon continues; to see its state: factory status\n",
    )
