"""Turns: which queued unit waits, because an attempt that conflicted changes the same path again.

Invariant: the paths come from the submitted trees, never from what a task says.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial

from factory.dispatch import contested
from factory.dispatch.contested import Behind, Contest
from factory.ground.aside import aside
from factory.ground.daemon_state import DaemonState
from factory.ground.errors import GitError
from factory.ground.plumbing import Change
from factory.repo.git import Git
from factory.store.ports import Store
from factory.store.spec import Spec
from factory.store.unit import Unit, UnitState


class Turns:
    """Compares the changes of queued units with the contested paths."""

    def __init__(self, *, store: Store, state: DaemonState, own: Git) -> None:
        self._store = store
        self._state = state
        self._own = own
        self._queued: Sequence[Unit] = ()  # the units of the last pass

    async def waiting(self, queued: Sequence[Unit], tip: str, at: datetime) -> dict[str, Behind]:
        """Return the units that must not land yet, each with the unit that it waits for."""
        self._queued = queued
        running = self._store.select(Unit, state=UnitState.RUNNING)
        holders = contested.holders(running, self._minutes, at)
        found = {}
        if holders:
            for unit in queued:
                with suppress(GitError):  # a later step of the same pass handles this error
                    wait = await self._wait(unit, holders, tip)
                    if wait is not None:
                        found[unit.id] = wait
        return found

    async def contest(self, unit: Unit, paths: Sequence[str]) -> Contest:
        """Return the conflict of a unit, with the other queued units that change these paths."""
        behind: list[str] = []
        for other in self._queued:
            if len(behind) == contested.MOST_BEHIND:
                break
            with suppress(GitError):
                if other.id != unit.id and await self._changed(other, paths):
                    behind.append(other.id)
        return Contest(tuple(paths), tuple(behind))

    async def _wait(self, unit: Unit, holders: Mapping[str, Unit], tip: str) -> Behind | None:
        ahead = {}
        for path in await self._changed(unit, holders):
            if contested.turn(holders[path]) < contested.turn(unit):
                ahead[path] = holders[path]
        if not ahead:
            return None
        # If trunk has changed such a path since, and the unit still merges, it changes another part
        # of the file.
        newer = await self._among(unit.base, tip, ahead)
        for path, holder in ahead.items():
            if holder.conflicts >= contested.TAKES or path not in newer:
                return Behind(holder.id, path)
        return None

    async def _changed(self, unit: Unit, paths: Collection[str]) -> list[str]:
        """Return those of the paths that the submission changes."""
        return await self._among(unit.base, unit.submission, paths)

    async def _among(self, before: str, after: str, paths: Collection[str]) -> list[str]:
        changes = await self._own.changed(before, after)
        return await aside(len(changes), partial(_touched, changes, frozenset(paths)))

    def _minutes(self, unit: Unit) -> float:
        spec = self._store.get(Spec, unit.id)
        own = spec.minutes if spec else None
        return own or self._state.settings.limits.minutes


def _touched(changes: Iterable[Change], paths: Collection[str]) -> list[str]:
    return [change.path for change in changes if change.path in paths]
