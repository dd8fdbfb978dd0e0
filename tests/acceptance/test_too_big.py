"""What is too big to be read or kept, with a real daemon: a person is asked, nothing is lost, and nothing waits."""

from pathlib import Path

import pytest

from factory.store.records import Attempt, CardKind
from factory.store.unit import UnitState
from tests.acceptance.line import Line
from tests.acceptance.test_hanging import HANGS, stopped_at_once

HUGE = (
    "os.truncate(os.open('huge.bin', os.O_CREAT | os.O_RDWR), 18 << 30); write('work.txt', 'fine')"
)


def test_a_sparse_file_is_asked_about_the_rest_lands_by_an_answer_and_all_of_it_stays(
    line: Line,
) -> None:
    line.drop("huge", HUGE)
    line.drop("calm", "write('calm.txt', 'fine')")
    card = line.card(CardKind.GUARD)
    line.unit("calm")

    line.answer(card, "Judge it without them")
    line.unit("huge")

    assert "huge.bin (18 GiB)" in card.question
    kept = Path(card.where) / "huge.bin"
    assert (kept.stat().st_size, kept.stat().st_blocks) == (18 << 30, 0)
    assert sorted(line.on_trunk()) == ["calm", "huge"]
    assert line.git("ls-files", "huge.bin", "work.txt") == "work.txt"


def test_a_test_file_that_nobody_reads_is_asked_about_and_sent_back_the_next_attempt_is_told(
    line: Line,
) -> None:
    big = "with open('test_big.py', 'wb') as file: file.truncate(64 << 20)"
    line.drop(
        "big",
        f"write('work.txt', 'fine')\nif attempt == 1:\n    {big}\nelse:\n    assert '64 MiB' in told",
    )
    card = line.card(CardKind.GUARD)

    line.answer(card, "make it smaller")
    line.unit("big")

    assert "test_big.py (64 MiB)" in card.question
    assert line.attempts("big") == ["guard", "submitted"]
    assert line.git("ls-files", "test_big.py") == ""


@pytest.mark.parametrize("call", [" add -A ", " diff-files "])
def test_a_stop_at_once_does_not_wait_for_a_snapshot_which_the_next_start_takes(
    cold: Line, call: str
) -> None:
    cold.wrap_git(on=call, before=HANGS)
    cold.start()
    cold.drop("one", "write('one.txt', 'fine')")
    cold.until("git hangs", (cold.folder / "once").exists)

    stopped_at_once(cold)

    cold.start()
    cold.unit("one", UnitState.LANDED)
    attempt = cold.store.get(Attempt, "one", 1)
    assert attempt is not None
    assert (cold.attempts("one"), attempt.left_out) == (["submitted"], ())
