"""What a continued session had used before."""

from dataclasses import replace

from factory.agents.output import Usage
from factory.agents.usage import of_session
from factory.store.journal import Event
from factory.store.records import Attempt
from tests.memory_store import MemoryStore
from tests.on_record import NOW

ONE = Attempt(
    unit="u",
    number=1,
    worker="w1",
    agent="a",
    start=NOW,
    session="s",
    tokens_input=10,
    tokens_output=2,
)


def test_the_earlier_attempts_of_the_same_session_are_added_up() -> None:
    store = MemoryStore()
    others = (
        replace(ONE, number=2, cost_usd=0.5),
        replace(ONE, number=3, session="another"),
        replace(ONE, number=5),
        replace(ONE, unit="v"),
    )
    for each in (ONE, *others):
        store.write(Event.ATTEMPT_NOTED, each, now=NOW)

    assert of_session(store, replace(ONE, number=4, resumed=True)) == Usage(20, 4, 0.5)
    assert of_session(store, replace(ONE, number=1, resumed=True)) == Usage(0, 0, 0.0)


def test_what_is_no_continuation_had_used_nothing() -> None:
    assert of_session(MemoryStore(), ONE) is None
