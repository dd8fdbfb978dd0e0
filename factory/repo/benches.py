"""Benches: clean trees on which gates judge.

Invariant: a bench shows exactly the tree that is judged, and has only one user at a time.
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


class Benches(Checkouts):
    """The pool of benches; each bench has at most one user at a time."""

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
        self._taken: set[str] = set()
        self._changed = anyio.Event()

    def resize(self, size: int) -> None:
        """From now on, allow `size` benches in use at a time; never interrupt a used bench."""
        self._size = size
        self.look_again()

    def look_again(self) -> None:
        """Wake every task that waits for a bench, so that it checks again for a free one."""
        self._changed.set()
        self._changed = anyio.Event()

    def begun(self) -> list[Bench]:
        """Return the free benches on which gates or a setup of an earlier daemon still run."""
        return [bench for bench in self._untaken() if is_noted(bench.place)]

    @asynccontextmanager
    async def take(self, fit: Fitting = lambda bench: Fit.OTHER) -> AsyncIterator[Bench]:
        """Wait for a free bench, and give the bench back at the end of the block.

        `fit` says how an earlier daemon's work on a bench fits what the caller wants to do. A bench
        is not taken if another caller may want its work.
        """
        while (bench := self._free(fit)) is None:
            await self._changed.wait()
        self._taken.add(bench.name)
        try:
            yield bench
        finally:
            self._taken.discard(bench.name)
            self.look_again()

    def _free(self, fit: Fitting) -> Bench | None:
        """Return the bench to take now; None if no bench is available."""
        if len(self._taken) >= self._size:
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
            if name not in self._taken:
                found.append(Bench(name=name, place=self.place(name), benches=self))
        return found
