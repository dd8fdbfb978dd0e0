"""An adoption: this daemon continues what an earlier daemon began on a bench.

Invariant: an adopted run counts only for the case that began the run, and only while the bench
still shows the run's changes to the tree.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import anyio

from factory.inference.rules import Gate, digest
from factory.judging.batches import Batches, looked_at
from factory.judging.case import Case
from factory.judging.course import Course
from factory.judging.environments import Environments
from factory.judging.progress import Done, progress_of
from factory.judging.setups import SetupFailed
from factory.judging.trials import Ran, Trial, repeated
from factory.repo.underway import BrokenOff, Record, says_something


class Adoption:
    """Adopts a setup or gates that an earlier daemon began for one case."""

    def __init__(
        self, environments: Environments, batches: Batches, case: Case, gates: Sequence[Gate]
    ) -> None:
        self._environments = environments
        self._commands = environments.commands
        self._underway = environments.commands.underway
        self._batches = batches
        self._case = case
        self._gates = gates
        self._place = case.place
        self._building = environments.building(self._place, case.rules.setup)

    @property
    def about(self) -> str:
        """Digest of everything the judging depends on, except what can only be seen in the tree."""
        case = self._case
        parts = self._commands.machine.around(case.rules.setup)
        parts += [self._commands.sandbox.name, str(self._place.folder)]
        parts += [case.tree, repr(case.proof), str(case.reruns)]
        for gate in self._gates:
            parts.append(gate.digest)
        return digest("gates", *parts)

    @property
    def abouts(self) -> list[str]:
        """The digest of the judging, and the digests of the setups that come before it."""
        case = self._case.by_trunk
        by_trunk = self._environments.building(case.place, case.rules.setup)
        return [self.about, self._building.about, by_trunk.about]

    async def course(self) -> Course | SetupFailed | None:
        """Wait for this case's setup or gates on the bench, and return their course."""
        folder = self._place.folder
        record = self._underway.at(folder)
        if record is None or record.what == "setup":
            return await self._building.go_on(self._case.by_trunk.place)
        record = await self._underway.claim(folder, self.about)
        if record is None:
            return None
        try:
            return await self._resumed(record)
        # a daemon of another release wrote the record
        except (KeyError, TypeError, AttributeError):
            await self._underway.vacate(folder)
        except BrokenOff as broken:
            self._underway.let_go(folder, broken)
        return None

    async def _resumed(self, record: Record) -> Course:
        """Wait for the running batch, and check what it changed; raise BrokenOff."""
        progress = progress_of(record.found)
        known = {gate.digest: gate for gate in self._gates}
        trials = dict[str, Trial]()
        for key, gate in progress.gates.items():
            trials[key] = Trial(known[gate], key)
        for key, runs in progress.done.items():
            for done in runs:
                trials[key].runs.append(await self._recalled(record, done))
        ended = await self._followed(record, progress.running)
        if ended and not await self._can_be_told(ended.values(), layered=progress.layered):
            raise BrokenOff(self._case.bench.name, left=0)
        beside = len(progress.running) > 1
        batch = list[Trial]()
        for key, ran in ended.items():
            trial = trials[key]
            trial.runs.append(await looked_at(self._case, trial.gate, ran, beside=beside))
            batch.append(trial)
        again = [trials[key] for key in progress.running if key not in ended]
        shared = beside and not progress.layered
        again += await self._batches.again_of(self._case, batch, shared=shared)
        course = Course(record, trials.values(), progress.left)
        course.put(repeated(again, shares=self._batches.shares))
        self._batches.note(self._case, course)  # this must come before git shows the tree again
        return course

    async def _recalled(self, record: Record, done: Done) -> Ran:
        """Return a run that ended earlier, with the tracked files that the run changed."""
        ran = await self._run(record, done.run)
        if ran is None:
            raise BrokenOff(done.run, left=0)
        return replace(ran, rewrote=done.rewrote)

    async def _followed(self, record: Record, running: Mapping[str, str]) -> dict[str, Ran]:
        """Return the ended runs of a batch, by the keys of their trials."""
        ended = dict[str, Ran]()
        left = 0

        async def follow(key: str, name: str) -> None:
            nonlocal left
            ran = await self._run(record, name)
            if ran is None:
                return
            left += ran.exit.left
            if says_something(ran.exit):
                ended[key] = ran

        async with anyio.create_task_group() as together:
            for key, name in running.items():
                together.start_soon(follow, key, name)
        if left:
            raise BrokenOff(self._case.bench.name, left=left)
        return ended

    async def _run(self, record: Record, name: str) -> Ran | None:
        return await self._commands.resume(self._place, self._underway.run(record, name))

    async def _can_be_told(self, ended: Collection[Ran], *, layered: bool) -> bool:
        """Whether the bench still shows what was judged. If not, a run's changes are unknown."""
        if not await self._case.bench.shows(self._case.tree):
            return False
        if not layered:
            return True
        return all(ran.wrote for ran in ended) and not await self._case.changed()
