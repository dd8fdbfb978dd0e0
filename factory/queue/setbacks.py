"""Units about which a step broke: the factory's own fault, or the machine's, and no verdict.

Invariant: each is tried again later and later, and a person is asked at the third time, also
across restarts; no other unit waits for it.
"""

from collections.abc import Iterator
from datetime import datetime

from factory.attempt.outcomes import Outcomes
from factory.ground.daemon_state import DaemonState
from factory.judging.retries import BREAKS, KeptRetries, sentence_of, trace_of
from factory.people import cards as words
from factory.people.causes import Ask
from factory.queue.candidate import Candidate
from factory.store.ports import Store
from factory.store.unit import Unit


class Setbacks:
    """Counts what breaks about one unit, and asks about it in the end."""

    def __init__(self, *, store: Store, state: DaemonState, outcomes: Outcomes) -> None:
        self._store, self._state, self._outcomes = store, state, outcomes
        self.retries = KeptRetries(store, "broken")
        self._uncounted: dict[str, tuple[Candidate, Exception]] = {}

    def later(self, unit: Unit, said: str, ask: Ask, at: datetime) -> None:
        """Try again later what broke about a unit, or ask a person."""
        if self.retries.fail(unit.id) >= BREAKS:
            self.retries.forget(unit.id)
            self._outcomes.wait(unit, ask, at)
            return
        self._outcomes.note(unit, f"cannot be judged, and is tried again: {said}", at)

    def judging_broke(self, candidate: Candidate, error: Exception) -> None:
        """Note that there is no verdict; what is to be done about it, the next pass does."""
        self._uncounted[candidate.unit.id] = candidate, error
        self._state.queue.send()

    def count(self, tip: str, at: datetime) -> Iterator[str]:
        """Count those that were judged alone, on trunk itself; give all whose judging broke.

        Behind others it may be one of them that breaks it.
        """
        for name, (candidate, error) in list(self._uncounted.items()):
            unit = self._store.get(Unit, name)
            if unit and unit.submission == candidate.unit.submission:
                if candidate.parent == tip:
                    said, told = sentence_of(error), trace_of(error)
                    ask = words.unjudged(name, said, unit=unit, evidence=told)
                    self.later(unit, said, ask, at)
                yield name
            del self._uncounted[name]
