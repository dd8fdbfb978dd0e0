"""`sudo git …` once: git refuses to land, one card says so, and the daemon starts all the same."""

import shutil
import signal
from pathlib import Path

from factory.store.records import CardKind
from factory.store.unit import UnitState
from tests.acceptance.line import Line


def taken(line: Line) -> list[Path]:
    """A file for each folder of loose objects that is not there: no new one can be made, not even by root."""
    objects = line.root / ".git/objects"
    return [
        path for path in (objects / f"{number:02x}" for number in range(256)) if not path.exists()
    ]


def test_what_git_refuses_to_land_is_a_card_and_a_restart_brings_the_daemon_back(
    line: Line,
) -> None:
    in_the_way = taken(line)
    for path in in_the_way:
        path.touch()
    line.drop("one", "write('one.txt', 'fine')")
    card = line.card(CardKind.LANDING_BLOCKED)
    assert card.question.startswith("one is green, but git refused to land it: git unpack-objects")
    assert "To fix it: mv " in card.evidence

    line.stop(signal.SIGHUP)
    line.start()
    line.drop("asks", "leave('question.md', 'Which?')")

    asked = line.card(CardKind.QUESTION)  # the rest of the line works
    assert (asked.unit, line.unit("one", UnitState.QUEUED).id) == ("asks", "one")
    assert line.factory("doctor")[1].count("is in the place of a folder") == 1
    for path in in_the_way:
        path.unlink()
    line.unit("one")
    line.no_card(CardKind.LANDING_BLOCKED)


def test_a_landing_that_was_broken_off_and_cannot_be_looked_into_does_not_keep_the_daemon_from_starting(
    cold: Line,
) -> None:
    cold.wrap_git(on=" --ff-only ", before="kill -9 $PPID; exit 1")
    cold.start()
    cold.drop("one", "write('one.txt', 'fine')")
    cold.gone()
    broken = cold.folder / "broken"
    broken.touch()
    refuses = f'case "$*" in *"ls-files -s -z") [ -e {broken} ] && echo "fatal: no right" >&2 && exit 128;; esac'
    (cold.bin / "git").write_text(f'#!/bin/sh\n{refuses}\nexec {shutil.which("git")} "$@"\n')

    cold.start()

    card = cold.card(CardKind.LANDING_BLOCKED)
    assert card.question.startswith("factoryd cannot find out whether one landed: git ls-files")
    assert cold.status()["daemon"]["state"] == "running"
    cold.drop("asks", "leave('question.md', 'Which?')")
    assert cold.card(CardKind.QUESTION).unit == "asks"
    broken.unlink()
    cold.unit("one")
    cold.no_card(CardKind.LANDING_BLOCKED)
