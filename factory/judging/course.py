"""The course of one judging: which gates have run, and which run next.

Invariant: each planned trial has run, runs now, or is still to run.
"""

from collections.abc import Iterable, Mapping, Sequence

from factory.inference.rules import Gate
from factory.judging.progress import Done, Progress
from factory.judging.trials import Trial, batches
from factory.repo.underway import Record


class Course:
    """The course of a judging that this daemon or an earlier one began and recorded."""

    def __init__(
        self, record: Record, trials: Iterable[Trial] = (), left: Iterable[Sequence[str]] = ()
    ) -> None:
        self.record = record
        self._trials = {trial.key: trial for trial in trials}
        # batches still to run, as keys of trials; the trials of one batch run side by side
        self._left = list(map(list, left))

    def trial(self, gate: Gate, key: str) -> Trial:
        """Return the trial of that key with its earlier runs, or else a new trial."""
        return self._trials.get(key) or Trial(gate, key)

    def plan(self, trials: Sequence[Trial], *, shares: bool) -> None:
        """Plan the trials that are new; `shares`: the trials of a batch run in the same tree."""
        fresh = [trial for trial in trials if trial.key not in self._trials]
        for trial in fresh:
            self._trials[trial.key] = trial
        self.put(batches(fresh, shares=shares))

    def put(self, more: Iterable[Sequence[Trial]]) -> None:
        """Add batches after all others. The trials of one batch run side by side."""
        for batch in more:
            self._left.append([trial.key for trial in batch])

    def next(self, trials: Sequence[Trial]) -> list[Trial]:
        """Return the next trials to run side by side; an empty list when all have run."""
        wanted = {trial.key for trial in trials}
        for batch in self._left:
            found = [self._trials[key] for key in batch if key in wanted]
            if found:
                return found
        return []

    def take(self, batch: Sequence[Trial]) -> None:
        """Remove the batch from the batches still to run, because it runs now."""
        first = batch[0].key
        for left in self._left:
            if first in left:
                self._left.remove(left)
                return

    def progress(self, running: Mapping[str, str], *, layered: bool) -> Progress:
        """Return the progress; `running`: the running trials' keys, each with its run dir."""
        gates = dict[str, str]()
        done = dict[str, tuple[Done, ...]]()
        for key, trial in self._trials.items():
            gates[key] = trial.gate.digest
            done[key] = trial.done
        left = tuple(map(tuple, self._left))
        return Progress(gates=gates, done=done, running=running, layered=layered, left=left)
