"""The keeper: moves what finished units leave out of the way, and deletes it when it is older than `keep.days`.

Invariant: a tree that an attempt made is never deleted; anything else only in folders of the factory's own, of final
units, when nothing works there any more.
"""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio

from factory.child import proc, process
from factory.child.users import users
from factory.ground import faults
from factory.ground.daemon_state import DaemonState, now
from factory.ground.errors import GitError
from factory.repo.archive import AT_ONCE, RESCUE, Archive, Kept
from factory.repo.checkouts import ABANDONED, is_real
from factory.repo.git import Git
from factory.repo.workspaces import Workspaces
from factory.store.high_water import HighWater
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Attempt
from factory.store.spec import Spec
from factory.store.unit import FINAL, Unit

LOOK_SECONDS = 60.0
PRUNE_EVERY = timedelta(hours=6)


class Keeper:
    """Off the hot path: a look a minute, in which no process is started where no unit has ended."""

    def __init__(
        self, *, store: Store, state: DaemonState, own: Git, trunk_ref: str, workspaces: Workspaces
    ) -> None:
        self.store, self.state, self.workspaces, self.archive = (
            store,
            state,
            workspaces,
            Archive(own),
        )
        self._own, self._trunk_ref = own, trunk_ref
        self._caught_up, self._pruned = False, datetime.min.replace(tzinfo=UTC)

    async def run(self) -> None:
        """Tick once a minute."""
        while True:
            if await self.state.guarded("keeper", self.tick, now()):
                await anyio.sleep(LOOK_SECONDS)

    async def tick(self, at: datetime) -> bool:
        """One pass; True once it is through."""
        await (
            self._move_tasks()
        )  # first: of what is in the archive no file lies among the unfinished ones
        await self._move_refs(at)
        HighWater(self.state.places.high_water).note_seq(self.store.last_seq())
        if at - self._pruned >= PRUNE_EVERY:
            await self._prune(at)
            self._pruned = at
        return True

    def strays(self) -> list[Path]:
        """The run dirs of attempts that are over and of which something still runs."""
        folder = self.state.places.home / "attempts"
        found = {str(folder / name) for name in process.living(f"{proc.MARKER}={folder}/").values()}
        where = self.state.places
        current = {str(where.run_dir(each.unit, each.number)) for each in self.store.open(Attempt)}
        return sorted(map(Path, found - current))

    async def put_away(self, name: str, at: datetime) -> bool:
        """Delete a workspace that no hook names, its tree kept in the archive; False where it must stay."""
        place = self.workspaces.place(name)
        if users(place) or not all([await process.end(run_dir) for run_dir in self.strays()]):
            return False
        base = await self._own.commit(self._trunk_ref)
        try:
            snapshot = await self.workspaces.snapshot(
                self.workspaces.at(name), base=base, aside=place
            )
        except (GitError, OSError):
            return False
        if snapshot.changed:  # kept first: killed in between, it is kept twice
            made = await self.workspaces.commit(
                snapshot.tree, base=base, message=f"Rescue {name}\n"
            )
            await self.archive.put({f"{RESCUE}{name}": made}, at)
        is_whole = not (snapshot.left_out or snapshot.too_big)
        if is_whole:
            await self.workspaces.drop(name)
        return is_whole

    # ── what has ended ──

    async def _move_refs(self, at: datetime) -> None:
        if not self._caught_up:  # a daemon may have died between a chain and the record of it
            self._note(await self.archive.entries(newest=True), at)
        if not self._caught_up or any(map(self._is_over, self.archive.units())):
            self._caught_up = False  # until all of it is on record
            refs = await self.archive.refs()
            names = [name for name in refs if self._is_over(name.partition("/")[0])]
            for first in range(0, len(names), AT_ONCE):
                some = {name: refs[name].commit for name in names[first : first + AT_ONCE]}
                # World first: the ref on record is only where to look; the commit can be found by either.
                self._note(await self.archive.put(some, at), at)
        self._caught_up = True

    def _note(self, kept: Mapping[str, Kept], at: datetime) -> None:
        moved = []
        for name, (commit, ref) in kept.items():
            unit, _, number = name.partition("/")
            attempt = self.store.get(Attempt, unit, int(number)) if number.isdigit() else None
            if attempt and attempt.commit == commit and attempt.ref != ref:
                moved.append(replace(attempt, ref=ref))
        if moved:
            self.store.write(Event.ATTEMPTS_ARCHIVED, *moved, now=at, count=len(moved))

    async def _move_tasks(self) -> None:
        """Each unit's folder gets its task file, so that whose it is can be told without the store (rebuild.py).

        A copy while the unit is unfinished, then the file itself: what lies among the taken ones is unfinished.
        """
        taken = self.state.places.intake / "taken"
        for path in sorted(taken.iterdir()) if taken.is_dir() else ():
            spec = next(
                iter(self.store.select(Spec, source=path.name)), None
            )  # none: its unit has another text now
            folder = self.state.places.unit_dir(spec.unit) if spec else taken.with_name("replaced")
            with faults.step("archive.task"):
                if spec is None or self._is_over(spec.unit):
                    folder.mkdir(exist_ok=True)
                    path.rename(folder / path.name)
                elif folder.is_dir() and not (folder / path.name).exists():
                    part = folder / f".{path.name}.part"
                    shutil.copyfile(path, part)
                    part.replace(folder / path.name)
            await anyio.lowlevel.checkpoint()  # thousands may wait

    def _is_over(self, name: str, before: datetime | None = None) -> bool:
        unit = self.store.get(Unit, name)
        final = unit is not None and unit.state in FINAL and (before is None or unit.since < before)
        return final and all(attempt.end for attempt in self.store.select(Attempt, unit=name))

    # ── what is old ──

    async def _prune(self, at: datetime) -> None:
        where, days = self.state.places, self.state.settings.keep.days
        if not days:
            return
        before = at - timedelta(days=days)
        begun = min((unit.accepted for unit in self.store.open(Unit)), default=at)
        runs = [
            path
            for path in _older(where.home / "attempts", before)
            if self._is_over(path.name, before)
        ]
        logs = [
            path
            for path in _older(where.judged, min(before, begun))
            if (path / "exit.json").exists()
        ]
        aside = [
            path.name
            for path in _older(where.work / "workspaces", before)
            if ABANDONED in path.name
        ]
        with faults.step("archive.prune"):
            for path in (*runs, *logs):
                await self.workspaces.remove(path)
            away = [name for name in aside if await self.put_away(name, at)]
        if runs or logs or away:
            self.store.write(
                Event.KEPT_PRUNED, now=at, runs=len(runs), logs=len(logs), workspaces=away
            )


def _older(folder: Path, before: datetime) -> Iterator[Path]:
    """What lies in a folder of ours and has not changed since."""
    for path in sorted(folder.iterdir()) if is_real(folder) else ():
        if path.lstat().st_ctime < before.timestamp():
            yield path
