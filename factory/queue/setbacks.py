"""Handles steps of units that failed without a verdict, because of factoryd or the machine.

Invariant: each step is retried after longer and longer waits. After the third failure, a card asks
a person. A restart does not reset the count. No other unit waits for the step.
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
    """Counts the failed steps of each unit, and finally raises a card."""

    def __init__(self, *, store: Store, state: DaemonState, outcomes: Outcomes) -> None:
        self._store, self._state, self._outcomes = store, state, outcomes
        self.retries = KeptRetries(store, "broken")
        self._uncounted: dict[str, tuple[Candidate, Exception]] = {}

    def later(self, unit: Unit, said: str, ask: Ask, at: datetime) -> None:
        """Let the unit try again later; after the third failure, raise the card."""
        if self.retries.fail(unit.id) >= BREAKS:
            self.retries.forget(unit.id)
            self._outcomes.wait(unit, ask, at)
            return
        self._outcomes.note(unit, f"cannot be judged; factoryd tries again: {said}", at)

    def keep_trying(self, unit: Unit, ask: Ask, at: datetime) -> None:
        """Let the unit try again later, without end; from the third failure on, show the card.

        The card closes when the unit lands or goes back, so nobody has to answer it.
        """
        failures = self.retries.fail(unit.id)
        said = ask.cause.about or ask.question
        self._outcomes.note(unit, f"cannot be judged; factoryd tries again: {said}", at)
        if failures >= BREAKS:
            self._outcomes.warn(unit, ask, at)

    def judging_broke(self, candidate: Candidate, error: Exception) -> None:
        """Note that judging failed without a verdict; the next pass acts on it."""
        self._uncounted[candidate.unit.id] = candidate, error
        self._state.queue.send()

    def count(self, tip: str, at: datetime) -> Iterator[str]:
        """Yield the units whose judging failed; count only those judged directly on trunk.

        If other candidates are below a unit, one of them may be the cause.
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
