"""One move of trunk from the commit that a plan names to the commit that it names.

Invariant: git moves it, by its own compare-and-swap or fast-forward; whatever the user has not
committed, tracked or ignored, is as it was.
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

# How long a switch of branches is waited for; an editor that git waits for stays for hours.
SWITCH_S = 1.0
PATIENCE_S = 3.0  # how long a lock of somebody else's git is waited for
GIT_S = 300.0  # what one git command of a landing may take
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
    """Carries out a plan, or cleans up after a git of ours that died in it."""

    def __init__(self, trunk: Branch, plan: LandingPlan) -> None:
        self._trunk = trunk
        self._plan = plan
        path = Path(plan.checkout or trunk.repository.root)
        git_dir = Path(plan.git_dir) if plan.checkout else trunk.repository.git_dir
        self.place = Checkout(path, git_dir, trunk.ref, trunk.user)

    async def run(self, begun: Callable[[int], None]) -> Outcome:
        """Move trunk; `begun` gets our git's pid before it does anything."""
        lock = await _stays(self._locks())
        if lock:
            what_to_do = "if none does, one died: remove it."
            why = f"{lock} exists: another git command runs there; {what_to_do}"
            return Blocked("locked", why, look=(lock,))
        if self._plan.checkout:
            return await self._fast_forward(begun)
        return await self._swap(begun)

    async def is_over(self, now: datetime) -> bool:
        """Whether no git works on this move any more; one that hangs is ended."""
        plan = self._plan
        is_locked = any(lock.exists() for lock in self._locks())
        if await self.place.quiet(plan.to, PATIENCE_S, alone=is_locked):
            return True
        if plan.pid and now.timestamp() - plan.at > GIT_S:  # what limited it died with its daemon
            with faults.step("landing.mend"):
                process.end_left_behind(plan.pid, plan.to)
        return False

    async def clean_up(self) -> None:
        """Complete what our git began, or take it back, and remove its locks."""
        plan = self._plan
        if not plan.pid:  # it never ran
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
            # An option of the branch would be added to ours; its name may hold any character, so
            # not by -c.
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
            if merge.code < 0:  # killed after it moved the ref, with locks in its hands
                self._unlock()
            return Landed(to)
        if merge.code == 0:  # they switched to another branch between our look and git's
            return Moved(await trunk.tip(), await self.place.put_back(to, PUT_BACK))
        return await self._refused(merge)

    async def _refused(self, merge: process.Output) -> Outcome:
        """Why git did not fast-forward; the traces of a git that broke off are undone.

        It breaks off when it is killed or the disk is full.
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
            # A git that ends by itself leaves no lock: then no lock is ours, however young.
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
        # Whoever checked trunk out between our look and the swap has the old files under the new
        # commit.
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
        """Why a swap that failed did not move trunk; None where it moved it."""
        if error.code < 0:  # killed, before it moved the ref or after: nobody holds its locks
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
        """Where trunk is checked out, once no git is at work there.

        A switch reads the branch first and HEAD last.
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

    # ── mending ──

    @faults.during("landing.mend")
    async def _mend(self, *, torn: bool = False) -> None:
        """Complete a landing that lacks only the ref, else take back what our dead git wrote.

        git holds index.lock while it writes files, then renames it into place, then moves the ref:
        so with the new index every file is written, and with the lock there files may be missing
        between removal and creation.
        """
        plan = self._plan
        trunk = self._trunk
        place = self.place
        changes = await trunk.own.changed(plan.base, plan.to)
        lock = place.git_dir / "index.lock"
        is_locked = self._is_ours(lock)
        if await place.head() != trunk.ref:  # git may have moved the branch they had switched to
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
        """Move the ref to where index and files are already, else take them back to where it is."""
        plan = self._plan
        await _stays(self._locks())
        with suppress(GitError):
            await self._set_ref(plan.to, plan.base, _LANDING)
            return
        if await self._trunk.tip() == plan.base:
            with suppress(GitError):  # edited since: theirs
                await self.place.git.run("read-tree", "-m", "-u", plan.to, plan.base)

    def _locks(self) -> list[Path]:
        """Every lock that git takes to move trunk as planned."""
        trunk = self._trunk
        ref = f"{trunk.ref}.lock" if trunk.in_files else "reftable/tables.list.lock"
        locks = [trunk.common_dir / ref, trunk.common_dir / "HEAD.lock"]
        if self._plan.git_dir:
            for name in ("index.lock", "HEAD.lock", "ORIG_HEAD.lock"):
                locks.append(Path(self._plan.git_dir) / name)
        return locks

    @faults.during("landing.unlock")
    def _unlock(self) -> None:
        """Remove what locks our dead git left."""
        for lock in self._locks():
            if self._is_ours(lock):
                lock.unlink(missing_ok=True)

    def _is_ours(self, lock: Path) -> bool:
        """Whether a lock is as young as the step (a file system's clock is coarser than ours)."""
        with suppress(FileNotFoundError):
            return lock.lstat().st_mtime >= self._plan.at - 0.1
        return False


async def _stays(locks: Sequence[Path]) -> Path | None:
    """Wait for locks of somebody else's git; the first that does not go away in time."""

    async def first() -> Path | None:
        return next((lock for lock in locks if lock.exists()), None)

    return await patiently(first, PATIENCE_S)
