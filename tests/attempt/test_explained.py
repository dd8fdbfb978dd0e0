"""What a refused attempt does not fit, found after its unit was sent back."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from factory.attempt.outcomes import Outcomes, Refusal
from factory.store.ports import Store
from factory.store.records import Attempt, Card, Clash, Verdict
from factory.store.sqlite import SqliteStore
from factory.store.unit import EndReason, Unit, UnitState
from tests.journal import entries_of, fold
from tests.on_record import NOW, OnRecord
from tests.store_contract import tables

ROOT = Path(__file__).parents[2]
RED = Refusal(
    EndReason.GATE_RED,
    "gate test is red",
    red=[Verdict(key="k", gate="test", tree="t", ok=False, settled=True, at=NOW, command="x")],
)
SAID = "green alone; red together with `other` (landed aaaaaaa): gate test is red"
FOUND = replace(
    RED,
    detail=SAID,
    clashes=(Clash(unit="other", commit="a" * 40, title="Other"),),
    notes=("Note.",),
)


def sent_back(folder: Path, store: Store | None = None, *, attempts: int = 1) -> OnRecord:
    """A unit whose only attempt was red."""
    line = OnRecord(folder, store=store)
    line.unit("other", text="Make the other thing.")
    text = f"---\nattempts: {attempts}\n---\ndo it"
    line.unit("fix", UnitState.QUEUED, text=text, attempt=1, submission="c" * 40, base="b" * 40)
    line.attempt("fix", 1, reason=EndReason.SUBMITTED)
    outcomes(line).send_back(line.the_unit(), RED, NOW)
    return line


def outcomes(line: OnRecord) -> Outcomes:
    """What ends attempts."""
    return Outcomes(
        store=line.store, state=line.state, escalations=line.escalations, hang=line.hang
    )


def explain(path: Path) -> None:
    """Explain the attempt in the store at that path."""
    with closing(SqliteStore(path)) as store:
        line = OnRecord(path.parent, store=store)
        outcomes(line).explain(replace(line.the_unit(), attempt=1), FOUND, NOW)


def test_the_next_attempt_and_the_unit_say_it(tmp_path: Path) -> None:
    line = sent_back(tmp_path, attempts=3)

    outcomes(line).explain(line.the_unit(), FOUND, NOW)

    attempt, unit = line.the_attempt(), line.the_unit()
    assert (attempt.detail, attempt.clashes) == (SAID, FOUND.clashes)
    assert attempt.digest.startswith(
        f"The attempt ended: gate_red.\n{SAID}\nNote.\n\nWhat landed meanwhile:\n"
        "- `other` (landed aaaaaaa): Other\n    Make the other thing.\n\n"
        "What this unit (fix) is for: Fix\nThe result must do both. Do not undo what landed.\n"
    )
    assert (unit.state, unit.why) == (UnitState.READY, f"attempt 1 ended: {SAID}")


def test_the_open_card_says_it_first(tmp_path: Path) -> None:
    line = sent_back(tmp_path)

    outcomes(line).explain(line.the_unit(), FOUND, NOW)

    (card,) = line.store.open(Card)
    assert (card.id, card.question) == (
        "E1",
        f"fix is {SAID}. It failed after 1 attempt. What now?",
    )


def test_after_a_later_red_attempt_card_and_digest_still_say_it(tmp_path: Path) -> None:
    line = sent_back(tmp_path, attempts=2)
    outcomes(line).explain(line.the_unit(), FOUND, NOW)
    line.change("fix", state=UnitState.QUEUED, attempt=2)
    line.attempt("fix", 2, reason=EndReason.SUBMITTED)

    outcomes(line).send_back(line.the_unit(), RED, NOW)

    (card,) = line.store.open(Card)
    assert card.question == (
        f"fix was {SAID} (attempt 1). "
        "It failed after 2 attempts; the last one: gate test is red. What now?"
    )
    assert "- `other` (landed aaaaaaa): Other" in line.the_attempt(number=2).digest
    assert line.the_attempt(number=2).clashes == ()


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line.change("fix", state=UnitState.CANCELLED),
        lambda line: line.attempt("fix", 1, reason=EndReason.CANCELLED),
    ],
)
def test_after_the_end_of_the_unit_nothing_is_written(
    tmp_path: Path, change: Callable[[OnRecord], object]
) -> None:
    line = sent_back(tmp_path)
    change(line)
    before = line.store.last_seq()

    outcomes(line).explain(line.the_unit(), FOUND, NOW)

    assert line.store.last_seq() == before


def test_a_later_attempt_keeps_its_own_reason(tmp_path: Path) -> None:
    line = sent_back(tmp_path, attempts=3)
    sent = line.the_unit()
    line.change("fix", state=UnitState.RUNNING, attempt=2, why="works")
    line.attempt("fix", 2)

    outcomes(line).explain(sent, FOUND, NOW)

    assert (line.the_attempt().detail, line.the_unit().why) == (SAID, "works")


@pytest.mark.parametrize(("side", "is_said"), [("before", False), ("after", True)])
def test_killed_on_either_side_attempt_and_card_say_the_same(
    tmp_path: Path, side: str, is_said: bool
) -> None:
    path = tmp_path / "store.sqlite"
    with closing(SqliteStore(path)) as store:
        sent_back(tmp_path, store)
    program = (
        "import sys; from pathlib import Path; from tests.attempt.test_explained import explain; "
        "explain(Path(sys.argv[1]))"
    )
    env = os.environ | {"FACTORY_FAULT": f"store.attempt.explained:{side}"}

    died = subprocess.run(
        [sys.executable, "-c", program, str(path)], cwd=ROOT, env=env, check=False
    )

    assert died.returncode == -signal.SIGKILL
    with closing(SqliteStore(path)) as store:
        (card,) = store.open(Card)
        attempt, unit = store.get(Attempt, "fix", 1), store.get(Unit, "fix")
        assert attempt
        assert unit
        assert (SAID in card.question, attempt.detail == SAID) == (is_said, is_said)
        assert unit.state is UnitState.HELD
        assert fold(entries_of(store)) == tables(store)
