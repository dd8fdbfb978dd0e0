"""What lies about that no record names, and where the store and git disagree; each with what mends it.

Invariant: looking changes nothing; and what `mend` does loses nothing, for trees are kept before anything is deleted.
"""

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

from factory.child import process
from factory.child.proc import MARKER
from factory.child.users import users
from factory.ground.daemon_state import now
from factory.queue.trunk_watch import by_unit, newest
from factory.repair.catch_up import is_behind
from factory.repair.keeper import Keeper
from factory.repo.archive import ATTEMPTS, CHAINS
from factory.repo.checkouts import Checkouts
from factory.repo.trunk import Trunk
from factory.repo.underway import Underway
from factory.store.records import Attempt, Fact, Hook
from factory.store.unit import FINAL, Unit, UnitState

SCRATCH_AGE = timedelta(days=1)  # of a folder that `factory gate` makes and removes itself
FSCK_SECONDS = 60.0
BEHIND = (
    "The store is older than what has happened here: a copy of it was put back, or its last writes were lost in a "
    "power cut. The next start adds what git and the unit folders tell. Next: factoryd start"
)


class Finding(NamedTuple):
    """One thing that is not as it should be, and what mends it where that is safe."""

    said: str
    mend: Callable[[], Awaitable[object]] | None = None
    matters: bool = True


class Strays:
    """Looks at one factory, whether its daemon runs or not; mends only while none does."""

    def __init__(
        self, *, keeper: Keeper, trunk: Trunk, benches: Checkouts, underway: Underway
    ) -> None:
        self._keeper, self._trunk, self._benches, self._underway = keeper, trunk, benches, underway
        self._store, self._where, self._own = keeper.store, keeper.state.places, trunk.own

    async def find(self, *, daemon: bool) -> AsyncIterator[Finding]:
        """Everything; what a running daemon does at this moment is no stray."""
        for found in (
            *self._processes(daemon=daemon),
            *self._locks(daemon=daemon),
            *self._folders(now()),
        ):
            yield found
        if not daemon and is_behind(self._store, self._where):
            yield Finding(BEHIND)
        if wrong := await self._own.damage(FSCK_SECONDS):
            mend = f"factoryd stop, move {self._own.git_dir} aside, factoryd start: it is made anew, without attempts"
            yield Finding(f"The factory repository is damaged ({wrong}). To go on: {mend}.")
            return
        async for found in self._refs():
            yield found
        async for found in self._disagreements():
            yield found

    # ── strays ──

    def _processes(self, *, daemon: bool) -> Iterator[Finding]:
        judged = process.living(f"{MARKER}={self._where.judged}/") if not daemon else {}
        runs = {self._where.judged / name for name in judged.values()} - {*self._underway.runs()}
        runs |= {*self._keeper.strays()}
        for run_dir in sorted(runs):
            what = "/".join(run_dir.parts[-2:])
            yield Finding(
                f"Something of {what}, which is over, still runs.", partial(process.end, run_dir)
            )

    def _locks(self, *, daemon: bool) -> Iterator[Finding]:
        found = [] if daemon else sorted(self._own.git_dir.rglob("*.lock"))
        if found:
            yield Finding(
                f"{found[0]}{_more(found[1:])} was left by a git that was killed.", self._own.seize
            )

    def _folders(self, at: datetime) -> Iterator[Finding]:
        named = {hook.workspace for hook in self._store.select(Hook)}
        for name in self._keeper.workspaces.names():
            if name not in named:
                said = f"No worker uses the workspace {self._keeper.workspaces.place(name)}."
                yield Finding(said, partial(self._keeper.put_away, name, at), matters=False)
        most = self._keeper.state.settings.gates.benches
        for name in self._benches.names():
            if not re.fullmatch(r"b\d+", name) or int(name[1:]) > most:
                said = f"No gate uses the bench {self._benches.place(name)}."
                yield Finding(said, partial(self._benches.drop, name), matters=False)
        for path in sorted(self._where.work.glob("gate-*")):
            if path.lstat().st_ctime < (at - SCRATCH_AGE).timestamp() and not users(path):
                said = f"{path} was left by a `factory gate` that was killed."
                yield Finding(said, partial(self._keeper.workspaces.remove, path), matters=False)

    async def _refs(self) -> AsyncIterator[Finding]:
        nobodys = {
            name: kept.commit
            for name, kept in (await self._keeper.archive.refs()).items()
            if self._store.get(Unit, name.partition("/")[0]) is None
        }
        if nobodys:
            said = f"Of {min(nobodys)}{_more([*nobodys][1:])}, of which a ref keeps a tree, there is no record."
            yield Finding(said, partial(self._keeper.archive.put, nobodys, now()), matters=False)
        refs = (await self._own.text("for-each-ref", "--format=%(refname)")).splitlines()
        for ref in refs:
            if not ref.startswith(("refs/heads/", "refs/tags/", ATTEMPTS, CHAINS)):
                remove = f"git -C {self._own.git_dir} update-ref -d {ref}"
                yield Finding(
                    f"{ref} in the factory repository is none of its own; to remove it: {remove}"
                )

    # ── the store and git ──

    async def _disagreements(self) -> AsyncIterator[Finding]:
        units = {unit.id: unit for unit in self._store.select(Unit)}
        landings = by_unit(await self._trunk.landings())
        fact = self._store.get(Fact, "trunk")
        taken_out = set(json.loads(fact.value).get("missing", [])) if fact else set()
        for unit in units.values():
            landing = newest(self._store, unit, landings.get(unit.id, []))
            if unit.state is UnitState.LANDED and landing is None and unit.id not in taken_out:
                again = f"factory diff {unit.id} | git apply"
                yield Finding(
                    f"{unit.id} has landed on record, but neither {self._trunk.branch} nor its reflog holds "
                    f"{unit.commit[:10]}. To have its change again: {again}"
                )
            if unit.state is not UnitState.LANDED and landing:
                yield Finding(
                    f"{self._trunk.branch} holds {unit.id} ({landing.commit[:10]}), which is {unit.state} on record. "
                    "The next start records the landing: factoryd restart"
                )
        attempts = {
            attempt.commit: attempt for attempt in self._store.select(Attempt) if attempt.commit
        }
        missing = await self._own.missing(
            [*attempts, *(unit.submission for unit in units.values() if unit.submission)]
        )
        lost = sorted(
            {
                f"{attempts[each].unit}/{attempts[each].number}"
                for each in missing
                if each in attempts
            }
        )
        stuck = sorted(
            unit.id
            for unit in units.values()
            if unit.submission in missing and unit.state not in FINAL
        )
        if stuck:
            yield Finding(
                f"What was submitted of {', '.join(stuck)} is not in git any more. Next: factoryd restart"
            )
        if lost:
            yield Finding(
                f"The tree of {lost[0]}{_more(lost[1:])} is not in git any more.", matters=False
            )


def _more(others: Iterable[object]) -> str:
    count = len([*others])
    return f" (and {count} more)" if count else ""
