"""How long gates took: read from the newest verdicts alone."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from factory.judging.measured import MOST_RUNS, Measured
from factory.store.journal import Event
from factory.store.records import Verdict
from tests.memory_store import MemoryStore

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
GREEN = Verdict(key="", gate="test", tree="t", ok=True, settled=True, at=NOW)


def test_only_the_newest_green_runs_count_oldest_first() -> None:
    store = MemoryStore()
    for number in range(MOST_RUNS + 50):
        at = NOW + timedelta(minutes=number)
        verdict = replace(GREEN, key=str(number), at=at, seconds=number, ok=number % 2 == 0)
        store.write(Event.VERDICT_GIVEN, verdict, now=at)

    seconds = Measured(store).of("test")

    assert [*seconds] == [*range(0, MOST_RUNS + 50, 2)]
    assert [*Measured(store).of("another")] == []


def test_no_more_verdicts_are_read_than_count() -> None:
    store = MemoryStore()
    for number in range(MOST_RUNS + 50):
        verdict = replace(GREEN, key=str(number), seconds=number)
        store.write(Event.VERDICT_GIVEN, verdict, now=NOW)

    assert [*Measured(store).of("test")] == [*range(50, MOST_RUNS + 50)]
