"""Adoptions: what an earlier daemon began on a bench, and this one goes on with.

Invariant: an adopted run counts only for the very case that it was begun for, and only while the
bench still shows what it did to the tree.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

import anyio

from factory.inference.rules import Gate, digest
from factory.judging.batches import Batches, looked_at
from factory.judging.case import Case
from factory.judging.course import Course
from factory.judging.environments import Environments
from factory.judging.progress import Done, Progress, progress_of
from factory.judging.setups import SetupFailed
from factory.judging.trials import Ran, Trial, repeated
from factory.repo.underway import BrokenOff, Record, says_something


class Adoptions:
    """Adopts setups and gates."""

    def __init__(self, environments: Environments, batches: Batches) -> None:
        self._setups = environments.setups
        self._commands = environments.commands
        self._underway = environments.commands.underway
        self._batches = batches

    def about(self, case: Case, gates: Sequence[Gate]) -> str:
        """Digest of all that a judging depends on, as far as no look at the tree tells it."""
        around = self._commands.machine.around(case.rules.setup)
        sandbox, folder = self._commands.sandbox.name, str(case.place.folder)
        digests = [gate.digest for gate in gates]
        parts = [case.tree, repr(case.proof), str(case.reruns), *digests]
        return digest("gates", *around, sandbox, folder, *parts)

    def abouts(self, case: Case, gates: Sequence[Gate]) -> list[str]:
        """The same, and the digests of the setups that come before it."""
        found = [self.about(case, gates)]
        for each in (case, case.by_trunk):
            found.append(self._setups.about(each.place, case.rules.setup))
        return found

    async def adopt(self, case: Case, gates: Sequence[Gate]) -> Course | SetupFailed | None:
        """What an earlier daemon began on this bench for this case, once what runs has ended."""
        place = case.place
        record = self._underway.at(place.folder)
        if record is None or record.what == "setup":
            return await self._setups.go_on(place, case.rules.setup, case.by_trunk.place)
        record = await self._underway.claim(place.folder, self.about(case, gates))
        if record is None:
            return None
        try:
            return await self._resumed(case, gates, record)
        except (KeyError, TypeError, AttributeError):  # another release wrote the record
            await self._underway.vacate(place.folder)
        except BrokenOff as broken:
            self._underway.let_go(place.folder, broken)
        return None

    async def _resumed(self, case: Case, gates: Sequence[Gate], record: Record) -> Course:
        """Wait for the batch that runs, and look at what it did; raises BrokenOff."""
        progress = progress_of(record.found)
        known = {gate.digest: gate for gate in gates}
        trials = dict[str, Trial]()
        for key, gate in progress.gates.items():
            trials[key] = Trial(known[gate], key)
        for key, runs in progress.done.items():
            for done in runs:
                trials[key].runs.append(await self._recalled(case, record, done))
        ended = await self._followed(case, record, progress)
        if ended and not await _can_be_told(case, ended.values(), layered=progress.layered):
            raise BrokenOff(case.bench.name, left=0)
        beside = len(progress.running) > 1
        for key, ran in ended.items():
            looked = await looked_at(case, trials[key].gate, ran, beside=beside)
            trials[key].runs.append(looked)
        again = [trials[key] for key in progress.running if key not in ended]
        shared = beside and not progress.layered
        batch = [trials[key] for key in ended]
        again += await self._batches.again_of(case, batch, shared=shared)
        course = Course(record, trials.values(), progress.left)
        course.put(repeated(again, shares=self._batches.shares))
        self._batches.note(case, course)  # before the tree is shown again
        return course

    async def _recalled(self, case: Case, record: Record, done: Done) -> Ran:
        """A run that had ended, with what it was seen to have changed."""
        ran = await self._commands.resume(case.place, self._underway.run(record, done.run))
        if ran is None:
            raise BrokenOff(done.run, left=0)
        return replace(ran, rewrote=done.rewrote)

    async def _followed(self, case: Case, record: Record, progress: Progress) -> dict[str, Ran]:
        """How the runs of a batch ended, by the keys of their trials; not those broken off."""
        ended = dict[str, Ran]()

        async def follow(key: str, name: str) -> None:
            ran = await self._commands.resume(case.place, self._underway.run(record, name))
            if ran is not None:
                ended[key] = ran

        async with anyio.create_task_group() as together:
            for key, name in progress.running.items():
                together.start_soon(follow, key, name)
        left = sum(ran.exit.left for ran in ended.values())
        if left:
            raise BrokenOff(case.bench.name, left=left)
        return {key: ran for key, ran in ended.items() if says_something(ran.exit)}


async def _can_be_told(case: Case, ended: Collection[Ran], *, layered: bool) -> bool:
    """Whether the bench still shows what was judged, so that what a run changed can be seen."""
    if not await case.bench.shows(case.tree):
        return False
    if not layered:
        return True
    return all(ran.wrote for ran in ended) and not await case.changed()
