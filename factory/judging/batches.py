"""Batches: the gates of a batch run side by side on a bench, one batch after the other.

Invariant: each batch begins with the exact tree that would land. A run's changes are noted before
git shows the tree again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import anyio
from anyio import to_thread

from factory.ground.scope import within
from factory.inference.rules import Gate
from factory.judging import scratch
from factory.judging.case import Case
from factory.judging.commands import Commands, Order
from factory.judging.course import Course
from factory.judging.standing import Ready
from factory.judging.trials import Ran, Trial, repeated
from factory.judging.verdicts import Verdicts
from factory.repo.underway import Run


class Batches:
    """Runs batches of gates; `verdicts` knows the gates' time limits."""

    def __init__(self, commands: Commands, verdicts: Verdicts) -> None:
        self._commands = commands
        self._verdicts = verdicts

    @property
    def shares(self) -> bool:
        """Whether the gates of a batch share a tree, because the sandbox has no layers."""
        return not self._commands.sandbox.layers

    async def run(
        self, case: Case, trials: Sequence[Trial], ready: Ready, course: Course, *, clean: bool
    ) -> None:
        """Run the trials, then repeat the red ones; `clean`: the tree is as it would land."""
        shares = self.shares
        course.plan(trials, shares=shares)
        while batch := course.next(trials):
            # Do this before git shows the tree again, because git then undoes the gates' changes.
            self.note(case, course)
            if not clean:
                await case.lay_out(ready)
            clean = False
            await to_thread.run_sync(scratch.empty, case.place)
            course.take(batch)
            await self._run_batch(case, course, batch)
            again = await self.again_of(case, batch, shared=shares and len(batch) > 1)
            course.put(repeated(again, shares=shares))
        self.note(case, course)
        await to_thread.run_sync(scratch.forget_layers, case.place)

    async def _run_batch(self, case: Case, course: Course, batch: Sequence[Trial]) -> None:
        underway = self._commands.underway
        folder = case.place.folder
        runs = dict[str, Run]()
        for trial in batch:
            runs[trial.key] = underway.fresh(folder, trial.gate.name, course.record)
        # Write the record first, so that the next daemon can continue these runs if this one dies.
        self.note(case, course, runs)
        beside = len(batch) > 1
        async with anyio.create_task_group() as together:
            for trial in batch:
                together.start_soon(self._run, case, trial, runs[trial.key], beside)

    async def _run(self, case: Case, trial: Trial, run: Run, beside: bool) -> None:
        gate = trial.gate
        order = Order(
            argv=gate.command,
            script=gate.script,
            seconds=self._verdicts.limit(gate, len(trial.runs), proving=not case.reruns),
            judging=True,
            beside=beside,
        )
        ran = await self._commands.run(order, case.place, run)
        trial.runs.append(await looked_at(case, gate, ran, beside=beside))

    def note(self, case: Case, course: Course, runs: Mapping[str, Run] | None = None) -> None:
        """Record the course's progress for the next daemon; `runs`: the runs of this moment."""
        running = {key: run.folder.name for key, run in (runs or {}).items()}
        layered = len(running) > 1 and not self.shares
        progress = course.progress(running, layered=layered)
        self._commands.underway.note(case.place.folder, course.record, progress.told())

    async def again_of(self, case: Case, batch: Sequence[Trial], *, shared: bool) -> list[Trial]:
        """Return the trials of a batch that must run again; `shared`: they ran in the same tree.

        In a shared tree, another gate's changes may have made a gate red, so each red gate runs
        again alone. If the tree was changed, all gates run again, because any of them may have
        changed it.
        """
        if not shared:
            return [trial for trial in batch if case.reruns and self._may_rerun(trial)]
        has_passed = any(trial.last.succeeded for trial in batch)
        if has_passed and await case.changed():
            for trial in batch:
                trial.runs.clear()
            return [*batch]
        return [trial for trial in batch if trial.red]

    def _may_rerun(self, trial: Trial) -> bool:
        return trial.red and len(trial.runs) <= self._verdicts.reruns(trial.gate)


async def looked_at(case: Case, gate: Gate, ran: Ran, *, beside: bool) -> Ran:
    """Return the run; if it succeeded, add the tracked files that it changed without permission.

    `beside`: other gates ran at the same time. Without layers, their changes cannot be
    distinguished.
    """
    is_alone = bool(ran.wrote) or not beside
    if not (ran.succeeded and is_alone):
        return ran
    changed = await case.changed(ran.wrote)
    rewrote = [path for path in changed if not within(path, gate.rewrites)]
    return replace(ran, rewrote=tuple(rewrote))
