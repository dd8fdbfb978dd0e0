"""The accounts as the records tell them, and what a running attempt is let use."""

from dataclasses import replace
from pathlib import Path

import pytest

from factory.agents.output import Usage
from factory.dispatch.budget import Amount, Short
from factory.dispatch.ledger import Ledger, Meter
from factory.ground.settings import Budget
from factory.store.journal import Event
from factory.store.records import Attempt
from tests.on_record import NOW, OnRecord


def uses(line: OnRecord, usd: float, held: float, name: str = "fix") -> Attempt:
    """A running attempt that has told of so much, for which so much is held back."""
    attempt = replace(line.running(name, worker=f"w-{name}"), cost_usd=usd, reserved_usd=held)
    line.store.write(Event.ATTEMPT_NOTED, attempt, now=NOW)
    return attempt


@pytest.mark.parametrize(("cap", "over"), [(0.5, True), (9, False)])
def test_a_cap_that_was_lowered_while_no_daemon_ran_holds_for_what_still_runs(
    tmp_path: Path, cap: float, over: bool
) -> None:
    line = OnRecord(tmp_path)
    attempt = uses(line, 1.0, 3.0)
    meter, ledger = Meter(), Ledger(line.store, Budget(unit_usd=cap), NOW)

    assert meter.read(ledger, attempt, Usage(cost=1.0)) == (attempt, over)


def test_what_is_held_back_for_others_is_not_there_for_the_next(tmp_path: Path) -> None:
    line = OnRecord(tmp_path)
    uses(line, 0.5, 3.0)
    unit = line.unit("next")

    assert Ledger(line.store, Budget(day_usd=6), NOW).reserve(unit, "claude", 45) == Amount(
        3.0, 0, 45
    )
    assert Ledger(line.store, Budget(day_usd=4), NOW).reserve(unit, "claude", 45) is Short.LATER
    assert Ledger(line.store, Budget(day_usd=2), NOW).reserve(unit, "claude", 45) is Short.DAY
    assert Ledger(line.store, Budget(), NOW).reserve(unit, "claude", 45) == Amount()
