"""What a candidate does to the judge itself, with a real daemon: it gets a verdict, and the others land."""

import shutil
from pathlib import Path

from factory.store.journal import Event
from factory.store.records import Attempt, Card, CardKind
from factory.store.unit import UnitState
from tests.acceptance.line import Line, files, line_in
from tests.acceptance.test_sandbox import confined

SETUP = """\
# inputs: deps.txt
test "$1" = build || python3 -m venv --without-pip "$UV_PROJECT_ENVIRONMENT"
for site in "$UV_PROJECT_ENVIRONMENT"/lib/python*/site-packages; do
    echo "$PWD/src" > "$site/app.pth"
done
"""
SAYS = "#!/bin/sh\ntest ! -e said.txt || { cat said.txt >&2; exit 1; }\n"
ONCE = 'agent = "scripted"\nworkers = 2\n[limits]\nattempts = 1\n'


def test_a_candidate_that_ends_each_python_at_its_start_gets_a_verdict(tmp_path: Path) -> None:
    contents = files() | {"conventions/workspace/setup.sh": SETUP, "src/app/__init__.py": ""}
    with line_in(tmp_path, contents) as line:
        ends = "write('src/sitecustomize.py', 'import os\\nos._exit(0)\\n')"
        line.drop("asks", ends)
        guard = line.card(CardKind.GUARD)
        line.answer(guard, "Cancel it")
        line.drop("ends", ends, allow=["edit-gates"])
        line.unit("ends")
        line.drop("one", "write('one.txt', 'x')")
        line.unit("one")

        assert line.store.open(Card) == []


@confined
def test_a_gate_that_speaks_like_a_failing_sandbox_is_red(tmp_path: Path) -> None:
    contents = files() | {"conventions/gates/20-says.sh": SAYS, "factory.toml": ONCE}
    with line_in(tmp_path, contents, sandbox="required") as line:
        line.drop("says", "write('said.txt', 'bwrap: No permissions to create a namespace')")
        card = line.card(CardKind.ATTEMPTS_EXHAUSTED)

        attempt = line.store.get(Attempt, "says", 1)
        assert attempt is not None
        assert (str(attempt.reason), attempt.detail) == ("gate_red", "gate 20-says is red")
        assert "bwrap: No permissions" in card.evidence


def test_judging_that_breaks_is_asked_about_across_a_restart_and_goes_on_once_it_is_mended(
    tmp_path: Path,
) -> None:
    with line_in(tmp_path) as line:
        line.drop("first", "write('first.txt', 'x')")
        line.unit("first")
        in_the_way = break_judging(line)
        line.drop("one", "write('one.txt', 'x')")
        line.unit(
            "one", UnitState.QUEUED, why="cannot be judged; factoryd tries again: FileExistsError"
        )
        line.stop()
        line.start()
        card = line.card(CardKind.CRASH_LOOP)
        held = line.unit("one", UnitState.WAITING, why=f"waits for {card.id}")
        in_the_way.unlink()
        line.answer(card, "Try again")
        line.unit("one")

        assert (
            "has no verdict: judging it fails with an error each time (FileExistsError"
            in card.question
        )
        assert held.submission
        assert line.attempts("one") == ["submitted"]
        assert [entry.unit for entry in line.entries(Event.UNIT_LANDED)] == ["first", "one"]


def break_judging(line: Line) -> Path:
    """Put a file in place of the caches of gates, without which none starts."""
    caches = line.places.work / "caches/gates"
    shutil.rmtree(caches)
    caches.touch()
    return caches
