"""What failed waits longer and longer, by the loop's clock."""

import anyio
import pytest

from factory.judging.retries import LONGEST_S, KeptRetries, Retries, sentence_of
from tests.memory_store import MemoryStore


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The loop's clock, set by the test."""
    clock = [100.0]
    monkeypatch.setattr(anyio, "current_time", lambda: clock[0])
    return clock


async def test_each_failure_doubles_the_wait_up_to_five_minutes(now: list[float]) -> None:
    retries, waits = Retries(), list[float]()
    for _ in range(10):
        retries.fail("one")
        waits += retries.waits()

    assert waits == [2, 4, 8, 16, 32, 64, 128, 256, LONGEST_S, LONGEST_S]
    assert (retries.failures("one"), retries.failures("two")) == (10, 0)


async def test_it_is_due_when_its_wait_is_over(now: list[float]) -> None:
    retries = Retries()
    assert retries.is_due("one")

    retries.fail("one")
    assert not retries.is_due("one")
    now[0] += 2

    assert retries.is_due("one")
    assert retries.waits() == []


async def test_what_is_forgotten_begins_anew(now: list[float]) -> None:
    retries = Retries()
    for name in ("one", "two", "two"):
        retries.fail(name)

    retries.keep(["two"])
    assert (retries.failures("one"), retries.failures("two")) == (0, 2)
    retries.forget("two", "never")

    assert retries.is_due("two")


async def test_how_often_something_failed_is_kept_across_a_restart_and_when_it_is_due_is_not(
    now: list[float],
) -> None:
    store = MemoryStore()
    before = KeptRetries(store, "broken")
    for _ in range(2):
        before.fail("one")
    before.fail("two")

    after = KeptRetries(store, "broken")

    assert (after.failures("one"), after.is_due("one"), after.fail("one")) == (2, True, 3)
    after.keep({"one"})
    assert (after.failures("two"), KeptRetries(store, "broken").failures("one")) == (0, 3)
    assert KeptRetries(store, "another").failures("one") == 0


async def test_what_broke_is_said_in_the_same_words_on_whichever_bench() -> None:
    errors = [OSError(f"no room in /state/benches/b{bench}/tree\nmore") for bench in (1, 12)]

    assert {sentence_of(error) for error in errors} == {"OSError: no room in /state/benches/…/tree"}
    assert sentence_of(ValueError()) == "ValueError"
    assert (
        sentence_of(ExceptionGroup("of a task group", [ExceptionGroup("x", [KeyError("a")])]))
        == "KeyError: 'a'"
    )
