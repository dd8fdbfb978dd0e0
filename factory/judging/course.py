"""The course of one judging: which gates have run, and which run next.

Invariant: each trial that was planned has run, runs, or is left to run.
"""

from collections.abc import Iterable, Mapping, Sequence

from factory.inference.rules import Gate
from factory.judging.progress import Progress
from factory.judging.trials import Trial, batches
from factory.repo.underway import Record


class Course:
    """What is noted in a record: an earlier daemon's, or one of our own."""

    def __init__(
        self, record: Record, trials: Iterable[Trial] = (), left: Iterable[Sequence[str]] = ()
    ) -> None:
        self.record = record
        self._trials = {trial.key: trial for trial in trials}
        self._left = [list(batch) for batch in left]  # keys of those that run side by side

    def trial(self, gate: Gate, key: str) -> Trial:
        """The trial of that key, with what it ran before."""
        return self._trials.get(key) or Trial(gate, key)

    def plan(self, trials: Sequence[Trial], *, shares: bool) -> None:
        """Let those run of which nothing is known yet."""
        fresh = [trial for trial in trials if trial.key not in self._trials]
        self._trials |= {trial.key: trial for trial in fresh}
        self.put(batches(fresh, shares=shares))

    def put(self, more: Iterable[Sequence[Trial]]) -> None:
        """Let these run after all others, each batch side by side."""
        self._left += [[trial.key for trial in batch] for batch in more]

    def next(self, trials: Sequence[Trial]) -> list[Trial]:
        """Those of the trials that run next, side by side; none when all have run."""
        wanted = {trial.key for trial in trials}
        fitting = ([key for key in batch if key in wanted] for batch in self._left)
        keys = next(filter(None, fitting), [])
        return [self._trials[key] for key in keys]

    def take(self, batch: Sequence[Trial]) -> None:
        """Let these run now."""
        keys = {trial.key for trial in batch}
        first = next(each for each in self._left if keys.intersection(each))
        self._left.remove(first)

    def progress(self, running: Mapping[str, str], *, layered: bool) -> Progress:
        """How far it has come; `running`: the run dirs of those that run now, by their keys."""
        return Progress(
            gates={key: trial.gate.digest for key, trial in self._trials.items()},
            done={key: trial.done for key, trial in self._trials.items()},
            running=running,
            layered=layered,
            left=tuple(map(tuple, self._left)),
        )
