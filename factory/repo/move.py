"""One move of trunk, from the old commit of a plan to its new commit.

Invariant: git makes the move, by its own compare-and-swap or fast-forward. Uncommitted files of the
user, tracked or ignored, stay unchanged.
"""

import math
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from factory.child import process
from factory.ground import faults
from factory.ground.errors import GitError, TooLong
from factory.repo.branch import PUT_BACK, Branch
from factory.repo.checkout import Checkout, checkouts, patiently
from factory.repo.landing_plan import Blocked, Landed, LandingPlan, Moved, Outcome

# Seconds that a landing waits until the user's git has switched branches. It does not wait longer,
# because a git that waits for an editor can take hours.
SWITCH_S = 1.0
PATIENCE_S = 3.0  # seconds that a landing waits for a lock of somebody else's git
GIT_S = 300.0  # time limit in seconds of one git command of a landing
_LANDING = "factoryd: landing"
_MERGE = (
    "merge",
    "--ff-only",
    "--no-squash",
    "--no-autostash",
    "--no-overwrite-ignore",
    "--no-verify-signatures",
    "--no-stat",
    "--no-progress",
    "-q",
)
_ANY_END = tuple(range(-64, 256))  # exit codes


class Move:
    """Carries out a plan, or cleans up if our git died while it carried out the plan."""

    def __init__(self, trunk: Branch, plan: LandingPlan) -> None:
        self._trunk = trunk
        self._plan = plan
        path = Path(plan.checkout or trunk.repository.root)
        git_dir = Path(plan.git_dir) if plan.checkout else trunk.repository.git_dir
        self.place = Checkout(path, git_dir, trunk.ref, trunk.user)

    async def run(self, begun: Callable[[int], None]) -> Outcome:
        """Move trunk. `begun` gets our git's pid before git does anything."""
        lock = await _stays(self._locks())
        if lock:
            what_to_do = "if none does, a killed git left the file: remove it."
            why = f"{lock} exists: another git command runs there; {what_to_do}"
            return Blocked("locked", why, look=(lock,))
        if self._plan.checkout:
            return await self._fast_forward(begun)
        return await self._swap(begun)

    async def is_over(self, now: datetime) -> bool:
        """Whether no git works on this move any more. If a git hangs, end it."""
        plan = self._plan
        is_locked = any(lock.exists() for lock in self._locks())
        if await self.place.quiet(plan.to, PATIENCE_S, alone=is_locked):
            return True
        # the time limit was lost when the daemon ended
        if plan.pid and now.timestamp() - plan.at > GIT_S:
            with faults.step("landing.mend"):
                process.end_left_behind(plan.pid, plan.to)
        return False

    async def clean_up(self) -> None:
        """Complete or undo what our git began, and remove the locks of our git."""
        plan = self._plan
        if not plan.pid:  # git never ran
            return
        if plan.checkout and self.place.path.is_dir() and not await self._trunk.holds(plan.to):
            await self._mend()
        self._unlock()

    # ── where trunk is checked out ──

    async def _fast_forward(self, begun: Callable[[int], None]) -> Outcome:
        trunk = self._trunk
        to = self._plan.to
        if await self.place.head() != trunk.ref or await trunk.tip() != self._plan.base:
            return Moved(await trunk.tip())
        env = {
            "GIT_REFLOG_ACTION": _LANDING,
            # git would add options from the branch's configuration to ours. `-c` cannot override
            # it, because the branch's name may contain any character.
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"branch.{trunk.branch}.mergeOptions",
            "GIT_CONFIG_VALUE_0": "",
        }
        with faults.step("landing.merge"):
            merge = await self.place.git.run(
                *_MERGE,
                to,
                ok=_ANY_END,
                env=env,
                started=begun,
                seconds=GIT_S,
            )
        if merge.left:
            return Blocked("running", os.fsdecode(merge.err).strip())
        if await trunk.holds(to):
            if merge.code < 0:  # git was killed after it moved the ref, and left locks
                self._unlock()
            return Landed(to)
        if merge.code == 0:  # the user switched branches after our check and before git's
            return Moved(await trunk.tip(), await self.place.put_back(to, PUT_BACK))
        return await self._refused(merge)

    async def _refused(self, merge: process.Output) -> Outcome:
        """Return why git did not fast-forward. If git stopped halfway, undo its traces.

        git stops halfway if it is killed or if the disk is full.
        """
        place = self.place
        said = os.fsdecode(merge.err).strip()
        if "would be overwritten" in said or "would lose untracked" in said:
            kind = "dirty" if "local changes" in said else "untracked"
            paths = tuple(line.strip() for line in said.splitlines() if line.startswith("\t"))
            why = f"Files in {place.path} are in the way."
            return Blocked(kind, why, paths, place.marks(paths))
        if "ot possible to fast-forward" in said:
            return Moved(await self._trunk.tip())
        if "index.lock" in said and merge.code > 0:
            return Blocked("locked", said.splitlines()[0], look=place.marks())
        dead = self
        if merge.code >= 0:
            # A git that exits normally leaves no lock, so no lock is ours, even if a lock is young.
            dead = Move(self._trunk, replace(self._plan, at=math.inf))
        await dead._mend(torn=True)
        dead._unlock()
        if await self._trunk.holds(self._plan.to):
            return Landed(self._plan.to)
        why = f"git merge in {place.path} ended with {merge.code}: {said[-300:]}"
        return Blocked("failed", why)

    # ── where it is checked out nowhere ──

    async def _swap(self, begun: Callable[[int], None]) -> Outcome:
        plan = self._plan
        trunk = self._trunk
        for place in await self._holders():
            return self._just_checked_out(place)
        try:
            await self._set_ref(plan.to, plan.base, _LANDING, begun)
        except GitError as error:
            if isinstance(error, TooLong) and error.left:
                return Blocked("running", error.stderr)
            failed = await self._unmoved(error)
            if failed:
                return failed
        # If a user checked trunk out between our check and the swap, their working tree has the old
        # files, but HEAD is the new commit.
        changes = await trunk.own.changed(plan.base, plan.to)
        for place in await self._holders():
            if not await place.index_shows(changes):
                await self._set_ref(plan.base, plan.to, PUT_BACK)
                return self._just_checked_out(place)
        return Landed(plan.to)

    def _just_checked_out(self, place: Checkout) -> Moved:
        why = f"{self._trunk.branch} was checked out in {place.path} just now."
        return Moved(self._plan.base, why)

    async def _unmoved(self, error: GitError) -> Outcome | None:
        """Return why a failed swap did not move trunk; None if it moved trunk."""
        # git was killed before or after it moved the ref: no process holds its locks
        if error.code < 0:
            self._unlock()
        if await self._trunk.holds(self._plan.to):
            return None
        tip = await self._trunk.tip()
        if tip != self._plan.base:
            return Moved(tip)
        said = error.stderr.strip()[-300:] or str(error)
        if error.code < 0:
            return Blocked("failed", said)
        return Blocked("locked", said, look=tuple(self._locks()))

    async def _holders(self) -> list[Checkout]:
        """Wait until no git works in the trees; return those that have trunk checked out.

        When git switches branches, it reads the branch first and writes HEAD last.
        """
        trunk = self._trunk
        for place in await checkouts(trunk.user, trunk.repository):
            await place.quiet(self._plan.to, SWITCH_S, alone=True)
        again = await checkouts(trunk.user, trunk.repository)
        return [place for place in again if place.branch == trunk.ref]

    @faults.during("landing.move")
    async def _set_ref(
        self,
        to: str,
        was: str,
        why: str,
        started: Callable[[int], None] | None = None,
    ) -> None:
        how = ("update-ref", "--create-reflog", "-m", why)
        await self._trunk.user.run(*how, self._trunk.ref, to, was, started=started)

    # ── recovery ──

    @faults.during("landing.mend")
    async def _mend(self, *, torn: bool = False) -> None:
        """Complete a landing in which only the ref is old; otherwise undo what our dead git wrote.

        git holds index.lock while it writes files, then renames it into place, then moves the ref.
        So if the index is new, every file is written. If the lock exists, git may have removed
        files and not yet created them again.
        """
        plan = self._plan
        trunk = self._trunk
        place = self.place
        changes = await trunk.own.changed(plan.base, plan.to)
        lock = place.git_dir / "index.lock"
        is_locked = self._is_ours(lock)
        # before that, git may have moved the branch that the user had switched to
        if await place.head() != trunk.ref:
            await place.put_back(plan.to, PUT_BACK)
        if not is_locked and await place.head() == trunk.ref and await place.index_shows(changes):
            self._unlock()
            await self._follow()
            return
        ours = await place.written(changes, torn=torn or is_locked)
        if is_locked:
            lock.unlink(missing_ok=True)
        if ours and not lock.exists():
            await place.take_back(ours)

    async def _follow(self) -> None:
        """Move the ref to the commit that index and files show, or else restore the old files."""
        plan = self._plan
        await _stays(self._locks())
        with suppress(GitError):
            await self._set_ref(plan.to, plan.base, _LANDING)
            # `git switch -c` takes changed files along, so it needs no lock.
            if await self.place.head() != self._trunk.ref:
                await self._restore()
            return
        if await self._trunk.tip() == plan.base:
            await self._restore()

    async def _restore(self) -> None:
        """Give index and files of the checkout their old content again."""
        with suppress(GitError):  # the user has edited a file since, so it stays
            await self.place.git.run("read-tree", "-m", "-u", self._plan.to, self._plan.base)

    def _locks(self) -> list[Path]:
        """Return every lock that git takes when it moves trunk as planned."""
        trunk = self._trunk
        ref = f"{trunk.ref}.lock" if trunk.in_files else "reftable/tables.list.lock"
        locks = [trunk.common_dir / ref, trunk.common_dir / "HEAD.lock"]
        if self._plan.git_dir:
            for name in ("index.lock", "HEAD.lock", "ORIG_HEAD.lock"):
                locks.append(Path(self._plan.git_dir) / name)
        return locks

    @faults.during("landing.unlock")
    def _unlock(self) -> None:
        """Remove the locks that our dead git left behind."""
        for lock in self._locks():
            if self._is_ours(lock):
                lock.unlink(missing_ok=True)

    def _is_ours(self, lock: Path) -> bool:
        """Whether a lock is not older than the step. A file system's clock is coarser than ours."""
        with suppress(FileNotFoundError):
            return lock.lstat().st_mtime >= self._plan.at - 0.1
        return False


async def _stays(locks: Sequence[Path]) -> Path | None:
    """Wait until the locks of somebody else's git are gone; return the first one that stays."""

    async def first() -> Path | None:
        return next((lock for lock in locks if lock.exists()), None)

    return await patiently(first, PATIENCE_S)
