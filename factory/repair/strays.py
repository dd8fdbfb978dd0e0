"""Finds files without a record, and differences between the store and git, each with a remedy.

Invariant: looking changes nothing, and `mend` loses nothing, because factoryd keeps the trees
before it deletes anything.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sized
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

from factory.child import process
from factory.child.users import users
from factory.ground.daemon_state import now
from factory.queue.trunk_watch import by_unit, newest
from factory.repair.catch_up import is_behind
from factory.repair.keeper import Keeper
from factory.repo.archive import ATTEMPTS, CHAINS
from factory.repo.checkouts import Checkouts
from factory.repo.trunk import Trunk
from factory.repo.underway import Underway
from factory.store.fact_values import value_of
from factory.store.records import Attempt, Hook
from factory.store.unit import FINAL, Unit, UnitState

_OURS = ("refs/heads/", "refs/tags/", ATTEMPTS, CHAINS)
SCRATCH_AGE = timedelta(days=1)  # a younger folder may belong to a `factory gate` that runs
FSCK_SECONDS = 60.0
BEHIND = (
    "The store is older than what has happened here: a copy of it was put back, or its last writes"
    " were lost in a power cut. The next start adds what git and the unit folders tell."
    " Next: factoryd start"
)


class Finding(NamedTuple):
    """One problem, and the action that fixes it if that is safe."""

    said: str
    mend: Callable[[], Awaitable[object]] | None = None
    matters: bool = True


class Strays:
    """Checks one factory, whether its daemon runs or not; fixes only while none runs."""

    def __init__(
        self,
        *,
        keeper: Keeper,
        trunk: Trunk,
        benches: Checkouts,
        underway: Underway,
    ) -> None:
        self._keeper = keeper
        self._trunk = trunk
        self._benches = benches
        self._underway = underway
        self._store = keeper.store
        self._where = keeper.state.places
        self._own = trunk.own

    async def find(self, *, daemon: bool) -> AsyncIterator[Finding]:
        """Yield every finding; files that a running daemon uses now are no strays."""
        for found in self._lying(daemon=daemon):
            yield found
        if not daemon and is_behind(self._store, self._where):
            yield Finding(BEHIND)
        wrong = await self._own.damage(FSCK_SECONDS)
        if wrong:
            move = f"move {self._own.git_dir} aside"
            mend = f"factoryd stop, {move}, factoryd start: it makes a new one, without attempts"
            yield Finding(f"The factory repository is damaged ({wrong}). To go on: {mend}.")
            return
        async for found in self._refs():
            yield found
        units = self._store.select(Unit)
        async for found in self._landings(units):
            yield found
        async for found in self._trees(units):
            yield found

    # ── strays ──

    def _lying(self, *, daemon: bool) -> Iterator[Finding]:
        yield from self._processes(daemon=daemon)
        if not daemon:
            yield from self._locks()
        yield from self._folders(now())

    def _processes(self, *, daemon: bool) -> Iterator[Finding]:
        runs = set(self._keeper.strays())
        if not daemon:
            judged = set(process.runs_in(self._where.judged).values())
            runs |= judged.difference(self._underway.runs())
        for run_dir in sorted(runs):
            what = "/".join(run_dir.parts[-2:])
            said = f"Something of {what}, which is over, still runs."
            yield Finding(said, partial(process.end, run_dir))

    def _locks(self) -> Iterator[Finding]:
        found = sorted(self._own.git_dir.rglob("*.lock"))
        if found:
            said = f"{found[0]}{_more(found)} was left behind by a killed git."
            yield Finding(said, self._own.seize)

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
                said = f"{path} was left behind by a killed `factory gate`."
                yield Finding(said, partial(self._keeper.workspaces.remove, path), matters=False)

    async def _refs(self) -> AsyncIterator[Finding]:
        archive = self._keeper.archive
        nobodys = {}
        for name, kept in (await archive.refs()).items():
            if self._store.get(Unit, name.partition("/")[0]) is None:
                nobodys[name] = kept.commit
        if nobodys:
            whose = f"{min(nobodys)}{_more(nobodys)}"
            said = f"Of {whose}, of which a ref keeps a tree, there is no record."
            yield Finding(said, partial(archive.put, nobodys, now()), matters=False)
        refs = await self._own.text("for-each-ref", "--format=%(refname)")
        for ref in refs.splitlines():
            if not ref.startswith(_OURS):
                remove = f"git -C {self._own.git_dir} update-ref -d {ref}"
                said = f"{ref} in the factory repository is none of its own; to remove it: {remove}"
                yield Finding(said)

    # ── the store and git ──

    async def _landings(self, units: Iterable[Unit]) -> AsyncIterator[Finding]:
        """Yield the units that have landed only on record, or only on trunk."""
        branch = self._trunk.branch
        landings = by_unit(await self._trunk.landings())
        taken_out = set(value_of(self._store, "trunk", {}).get("missing", []))
        for unit in units:
            landing = newest(self._store, unit, landings.get(unit.id, []))
            has_landed = unit.state is UnitState.LANDED
            if has_landed and landing is None and unit.id not in taken_out:
                where = f"neither {branch} nor its reflog holds {unit.commit[:10]}"
                again = f"factory diff {unit.id} | git apply"
                said = f"{unit.id} has landed on record, but {where}."
                yield Finding(f"{said} To have its change again: {again}")
            if landing and not has_landed:
                said = f"{branch} holds {unit.id} ({landing.commit[:10]})"
                next_start = "The next start records the landing: factoryd restart"
                yield Finding(f"{said}, which is {unit.state} on record. {next_start}")

    async def _trees(self, units: Iterable[Unit]) -> AsyncIterator[Finding]:
        """Yield findings about recorded commits that are no longer in git."""
        attempts = {}
        for attempt in self._store.select(Attempt):
            attempts[attempt.commit] = f"{attempt.unit}/{attempt.number}"
        commits = {*attempts, *(unit.submission for unit in units)} - {""}
        missing = await self._own.missing(commits)
        stuck = []
        for unit in units:
            if unit.submission in missing and unit.state not in FINAL:
                stuck.append(unit.id)
        if stuck:
            whose = ", ".join(sorted(stuck))
            said = f"What was submitted of {whose} is not in git any more."
            yield Finding(f"{said} Next: factoryd restart")
        lost = sorted(attempts[each] for each in missing.intersection(attempts))
        if lost:
            said = f"The tree of {lost[0]}{_more(lost)} is not in git any more."
            yield Finding(said, matters=False)


def _more(found: Sized) -> str:
    """Return how many more there are, as text to add to the first one."""
    return f" (and {len(found) - 1} more)" if len(found) > 1 else ""
