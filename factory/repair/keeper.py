"""The keeper: archives what finished units leave, deletes it after `keep.days`, and takes upkeep.

Invariant: a tree that an attempt made is never deleted. Anything else is deleted only in the
factory's own folders, for final units, and after all processes in them have ended.
"""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from pathlib import Path

import anyio

from factory.child import process
from factory.child.users import users
from factory.ground import faults
from factory.ground.daemon_state import DaemonState, now
from factory.ground.errors import GitError
from factory.repair.upkeep import Upkeep
from factory.repo.archive import AT_ONCE, RESCUE, Archive, Kept
from factory.repo.checkouts import ABANDONED, inside
from factory.repo.git import Git
from factory.repo.packing import Packing
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
    """Cleans up once a minute; if no unit has ended, it starts no process."""

    def __init__(
        self,
        *,
        store: Store,
        state: DaemonState,
        own: Git,
        trunk_ref: str,
        workspaces: Workspaces,
    ) -> None:
        self.store = store
        self.state = state
        self.workspaces = workspaces
        self.archive = Archive(own)
        self._upkeep = Upkeep(store=store, state=state, packing=Packing(own))
        self._own = own
        self._trunk_ref = trunk_ref
        self._caught_up = False
        self._pruned = datetime.min.replace(tzinfo=UTC)

    async def run(self) -> None:
        """Tick once a minute."""
        while True:
            if await self.state.guarded("keeper", self.tick, now()):
                await anyio.sleep(LOOK_SECONDS)

    async def tick(self, at: datetime) -> bool:
        """Do one pass and return True."""
        # Move the files first: a unit in the archive must not have a file in the folder of
        # unfinished units.
        await self._move_tasks()
        await self._move_refs(at)
        HighWater(self.state.places.high_water).note_seq(self.store.last_seq())
        if at - self._pruned >= PRUNE_EVERY:
            await self._prune(at)
            self._pruned = at
        await self._upkeep.tick(at)
        return True

    def strays(self) -> list[Path]:
        """Return the run dirs of finished attempts that still have running processes."""
        where = self.state.places
        found = set(process.runs_in(where.home / "attempts").values())
        for attempt in self.store.open(Attempt):
            found.discard(where.run_dir(attempt.unit, attempt.number))
        return sorted(found)

    async def put_away(self, name: str, at: datetime) -> bool:
        """Delete a workspace that no hook names, and keep its tree in the archive.

        Returns False if the workspace must stay.
        """
        place = self.workspaces.place(name)
        if users(place):
            return False
        is_over = True
        for run_dir in self.strays():
            is_over = await process.end(run_dir) and is_over
        if not is_over:
            return False
        base = await self._own.commit(self._trunk_ref)
        workspace = self.workspaces.at(name)
        try:
            snapshot = await self.workspaces.snapshot(workspace, base=base, aside=place)
        except (GitError, OSError):
            return False
        # keep the tree before the workspace is deleted; at worst, the tree is kept twice
        if snapshot.changed:
            message = f"Rescue {name}\n"
            made = await self.workspaces.commit(snapshot.tree, base=base, message=message)
            await self.archive.put({f"{RESCUE}{name}": made}, at)
        if snapshot.left_out or snapshot.too_big:
            return False
        await self.workspaces.drop(name)
        return True

    # ── finished units ──

    async def _move_refs(self, at: datetime) -> None:
        # an earlier daemon may have died after it moved a chain and before it recorded the move
        if not self._caught_up:
            self._note(await self.archive.entries(newest=True), at)
        if not self._caught_up or any(map(self._is_over, self.archive.units())):
            self._caught_up = False  # stays False until every move is on record
            refs = await self.archive.refs()
            names = [name for name in refs if self._is_over(name.partition("/")[0])]
            for first in range(0, len(names), AT_ONCE):
                some = {name: refs[name].commit for name in names[first : first + AT_ONCE]}
                # First move, then record: the recorded ref only says where to look, and factoryd
                # finds the commit with the old ref or the new one.
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
            self.store.write(
                Event.ATTEMPTS_ARCHIVED,
                *moved,
                now=at,
                count=len(moved),
            )

    async def _move_tasks(self) -> None:
        """Put each unit's task file into the unit's folder, to show which unit owns the folder.

        While the unit is unfinished, put a copy there; afterwards move the file itself, because a
        file in `taken` means an unfinished unit (rebuild.py).
        """
        taken = self.state.places.intake / "taken"
        for path in inside(taken):
            specs = self.store.select(Spec, source=path.name)
            is_settled = True
            folder = taken.with_name("replaced")  # the unit has a newer text
            if specs:
                is_settled = self._is_over(specs[0].unit)
                folder = self.state.places.unit_dir(specs[0].unit)
            with faults.step("archive.task"):
                if is_settled:
                    folder.mkdir(exist_ok=True)
                    path.rename(folder / path.name)
                elif folder.is_dir() and not (folder / path.name).exists():
                    part = folder / f".{path.name}.part"
                    shutil.copyfile(path, part)
                    part.replace(folder / path.name)
            await anyio.lowlevel.checkpoint()  # other tasks run between two files

    def _is_over(self, name: str, before: datetime | None = None) -> bool:
        unit = self.store.get(Unit, name)
        if unit is None or unit.state not in FINAL:
            return False
        if before is not None and unit.since >= before:
            return False
        return all(attempt.end for attempt in self.store.select(Attempt, unit=name))

    # ── old files ──

    async def _prune(self, at: datetime) -> None:
        where = self.state.places
        days = self.state.settings.keep.days
        if not days:
            return
        before = at - timedelta(days=days)
        begun = min(map(attrgetter("accepted"), self.store.open(Unit)), default=at)
        attempts = _older(where.home / "attempts", before)
        judged = _older(where.judged, min(before, begun))
        runs = [path for path in attempts if self._is_over(path.name, before)]
        logs = [path for path in judged if (path / "exit.json").exists()]
        with faults.step("archive.prune"):
            for path in (*runs, *logs):
                await self.workspaces.remove(path)
            away = await self._put_away_older(before, at)
        if runs or logs or away:
            self.store.write(
                Event.KEPT_PRUNED,
                now=at,
                runs=len(runs),
                logs=len(logs),
                workspaces=away,
            )

    async def _put_away_older(self, before: datetime, at: datetime) -> list[str]:
        """Put away the workspaces that factoryd abandoned before that time; return their names."""
        away = []
        for path in _older(self.state.places.work / "workspaces", before):
            if ABANDONED in path.name and await self.put_away(path.name, at):
                away.append(path.name)
        return away


def _older(folder: Path, before: datetime) -> list[Path]:
    """Return the entries of one of factoryd's folders that have not changed since that time."""
    return [path for path in inside(folder) if path.lstat().st_ctime < before.timestamp()]
