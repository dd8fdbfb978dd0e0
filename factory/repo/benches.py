"""Benches: clean trees on which gates judge.

Invariant: a bench shows exactly the tree that is judged, and has only one user at a time. While a
judging waits, users that give way never hold all benches for longer than their patience.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from factory.repo.checkouts import Checkouts, all_but, patterns
from factory.repo.git import Git
from factory.repo.underway import Fit, is_noted


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A clean tree for gates, with venv, home and tmp beside it in `place`."""

    name: str
    place: Path
    benches: "Benches" = field(repr=False)

    @property
    def tree(self) -> Path:
        """The folder that gates run in."""
        return self.place / "tree"

    async def show(self, commit: str, *, keeps: tuple[str, ...] = ()) -> None:
        """Make the tree exactly `commit`, but keep the ignored files in `keeps`; renew `.git`."""
        await self.benches.reset(self.name, commit, clean=all_but(keeps), caches=keeps)
        excludes = "\n".join([*patterns(keeps), ""])
        await self.benches.renew_git(self.name, commit, excludes=excludes)

    async def ignored(self) -> list[str]:
        """Return what git ignores in the tree, without what common tools create."""
        return await self.benches.ignored(self.name)

    async def shows(self, tree: str) -> bool:
        """Whether `tree` is the last tree that the bench showed. Then the index equals it."""
        told = await self.benches.git(self.name).run("diff-index", "--cached", "--name-only", tree)
        return not told.out


Fitting = Callable[[Bench], Fit]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Yielding:
    """A user of a bench that gives way to judgings.

    `until`: the time, by the clock of the event loop, at which its patience ends.
    """

    give_way: Callable[[], object]  # ends its work, so that it gives the bench back
    until: float

    @property
    def patience(self) -> float:
        """Return the seconds for which it still gives way; 0 if its patience is over."""
        return max(0.0, self.until - anyio.current_time())


class Benches(Checkouts):
    """The pool of benches; each bench has at most one user at a time.

    A user is a judging, or it gives way to judgings (`Yielding`).
    """

    def __init__(
        self,
        *,
        own: Git,
        folder: Path,
        index_dir: Path,
        trunk_branch: str,
        size: int,
    ) -> None:
        super().__init__(
            own=own,
            folder=folder,
            index_dir=index_dir,
            trunk_branch=trunk_branch,
        )
        self._size = size
        # the users of the taken benches, newest last; None: a judging
        self._users: dict[str, Yielding | None] = {}
        self._waiting = 0  # how many judgings wait for a bench
        self._changed = anyio.Event()

    def resize(self, size: int) -> None:
        """From now on, allow `size` benches in use at a time; never interrupt a used bench."""
        self._size = size
        self.look_again()

    @property
    def idle(self) -> int:
        """The number of benches that nobody uses now."""
        return max(0, self._size - len(self._users))

    def look_again(self) -> None:
        """Wake every task that waits for a bench, so that it checks again for a free one."""
        self._changed.set()
        self._changed = anyio.Event()

    def begun(self) -> list[Bench]:
        """Return the free benches on which gates or a setup of an earlier daemon still run."""
        return [bench for bench in self._untaken() if is_noted(bench.place)]

    @asynccontextmanager
    async def take(
        self, fit: Fitting = lambda bench: Fit.OTHER, yielding: Yielding | None = None
    ) -> AsyncIterator[Bench]:
        """Wait for a free bench, and give the bench back at the end of the block.

        `fit` says how an earlier daemon's work on a bench fits what the caller wants to do. A bench
        is not taken if another caller may want its work. A judging has no `yielding`.
        """
        bench = await (self._for_judging(fit) if yielding is None else self._spare(fit, yielding))
        self._users[bench.name] = yielding
        if self._waiting:
            self.look_again()  # the judging that waits may need this bench
        try:
            yield bench
        finally:
            del self._users[bench.name]
            self.look_again()

    async def _for_judging(self, fit: Fitting) -> Bench:
        self._waiting += 1
        try:
            while (bench := self._free(fit)) is None:
                self._call_back()
                await self._changed.wait()
            return bench
        finally:
            self._waiting -= 1
            self.look_again()  # users that give way waited for this judging

    async def _spare(self, fit: Fitting, yielding: Yielding) -> Bench:
        while (bench := self._left_over(fit, yielding)) is None:
            with anyio.move_on_after(yielding.patience or None):
                await self._changed.wait()
        return bench

    def _left_over(self, fit: Fitting, yielding: Yielding) -> Bench | None:
        """Return a bench that no judging waits for; None if there is none.

        Without patience, it is a bench like a judging's. If an earlier daemon began the work, its
        bench is of no use to others, so only this user can end the work and give the bench back.
        """
        bench = self._free(fit)
        if bench is None or not self._waiting or not yielding.patience:
            return bench
        return bench if fit(bench) is Fit.SAME else None

    def _call_back(self) -> None:
        """Let the newest user with patience give way to a judging.

        A user without patience gives way only if such users have all of several benches. On the
        only bench it works to its end. Otherwise a line that always judges would never let it
        finish.
        """
        giving = [user for user in self._users.values() if user is not None]
        patient = [user for user in giving if user.patience]
        if patient:
            patient[-1].give_way()
        elif len(giving) == len(self._users) > 1:
            giving[-1].give_way()

    def _free(self, fit: Fitting) -> Bench | None:
        """Return the bench to take now; None if no bench is available."""
        if len(self._users) >= self._size:
            return None
        idle = None
        stale = None
        for bench in self._untaken():
            if not is_noted(bench.place):
                idle = idle or bench
                continue
            how = fit(bench)
            if how is Fit.SAME:
                return bench
            if how is Fit.STALE:
                stale = stale or bench
        return idle or stale

    def _untaken(self) -> list[Bench]:
        found = []
        for number in range(1, self._size + 1):
            name = f"b{number}"
            if name not in self._users:
                found.append(Bench(name=name, place=self.place(name), benches=self))
        return found
