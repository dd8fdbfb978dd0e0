"""Trunk: the branch that units land on, and the factory's own copy of it.

Invariant: trunk moves only as a plan says that was made before the move. A rehearsal of a merge
uses only the factory repository.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain
from pathlib import Path

import anyio
from anyio import from_thread

from factory.ground import faults
from factory.ground.errors import GitError
from factory.ground.pipes import Into
from factory.repo.branch import FSYNC, Branch
from factory.repo.checkout import checkouts
from factory.repo.examine import Repository
from factory.repo.git import Git, Person
from factory.repo.git_dir import UNCONFIGURED
from factory.repo.landing_plan import Blocked, Landed, LandingPlan, Moved, Outcome
from factory.repo.move import GIT_S, Move

MOST_JOURNALED = 100  # most paths that the step names; git has the complete list
# Most bytes of the objects of one landing. Each unit was already measured at its snapshot.
PACK_MOST = 64 << 30
UNPACKED_MOST = 100  # most objects that git writes one by one instead of as a pack
FETCH_S = 600.0
# time limit in seconds for the first fetch: it copies everything in the user's repository
CLONE_S = 3600.0
TRUSTED = "safe.directory=*"  # `examine` has checked that the user trusts the repository
# Also fetches the refs that the user hides from others.
_SERVER = f"git -c {TRUSTED} -c uploadpack.hideRefs=!refs"
_SERVED = ("--upload-pack", f"{_SERVER} upload-pack")
# Also fetches commits that no ref names, such as the HEAD of another working tree.
_SERVED_ALL = ("--upload-pack", f"{_SERVER} -c uploadpack.allowAnySHA1InWant=true upload-pack")
_CLONE = ("clone", "--bare", "--single-branch", "--no-reject-shallow", "--template=", "-q")
_FETCH = (
    "-c",
    "fetch.pruneTags=false",
    "fetch",
    "--no-tags",
    "--no-write-fetch-head",
    "--no-auto-maintenance",
    "--update-shallow",
    "--no-prune",
    "-q",
)


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """A unit's commit on its base, without any change to trunk."""

    commit: str
    tree: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """The paths that do not merge."""

    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Nothing:
    """The submission changes nothing when it is merged onto its base."""


async def make(repository: Repository, path: Path, environ: Mapping[str, str]) -> Git:
    """Return the factory repository at `path`; clone it (bare) if it is missing.

    The clone uses hard links if the disk allows them.
    """
    own = Git(
        git_dir=path,
        own=True,
        config=FSYNC,
        environ=environ,
    )
    if not await anyio.Path(path).exists():
        await _clone(repository, path, environ)
    return own


@faults.during("clone.make")
async def _clone(repository: Repository, path: Path, environ: Mapping[str, str]) -> None:
    fresh = path.with_name(f"{path.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)  # a start that was killed left this folder
    # Not `own`: git removes a clone that a signal ended, so the same command must not run again.
    clone = Git(
        git_dir=fresh,
        own=False,
        config=(*FSYNC, TRUSTED),
        environ=environ,
    )
    await clone.run(
        *(*_CLONE, "--branch", repository.branch),
        *(*_SERVED, "--", str(repository.common_dir), str(fresh)),
        env={"GIT_DEFAULT_REF_FORMAT": "files", **UNCONFIGURED},
        seconds=CLONE_S,
    )
    fresh.rename(path)


class Trunk(Branch):
    """The target branch: reads the branch, rehearses merges onto it, and moves it."""

    def __init__(
        self,
        *,
        repository: Repository,
        own: Git,
        environ: Mapping[str, str],
    ) -> None:
        super().__init__(repository=repository, own=own, environ=environ)
        self._seen = ""  # the commit of trunk when we last fetched or moved it
        self._tags: tuple[object, ...] = ()  # the tags when we last fetched them

    async def refresh(self) -> str:
        """Return trunk's commit. If trunk or tags changed, fetch them into the factory repository.

        It also fetches if somebody removed or moved trunk's ref in the factory repository. Returns
        "" if the branch does not exist.
        """
        tip = await self.tip()
        tags = self.user.tag_marks() if self.in_files else ()
        is_known = tip == self._seen == self.own.read_ref(self.ref)
        if tip and not (is_known and tags == self._tags):
            self._tags = tags
            await self._fetch()
            tip = await self.own.commit(self.ref)
            self._seen = tip
        return tip

    @faults.during("trunk.rehearse")
    async def rehearse(
        self,
        *,
        base: str,
        submission: str,
        submission_base: str,
        text: str,
        author: Person,
    ) -> Rehearsed | Conflict | Nothing:
        """Merge the changes from `submission_base` to `submission` onto `base` as one commit."""
        tree, conflicts = await self.own.merge(base, submission, since=submission_base)
        if not tree:
            return Conflict(conflicts)
        if tree == await self.own.tree(base):
            return Nothing()
        committer = self.repository.identity
        commit = await self.own.commit_tree(tree, [base], text, author=author, committer=committer)
        return Rehearsed(commit, tree)

    async def plan_landing(self, to: str, *, now: datetime) -> LandingPlan | Outcome:
        """Return the plan to move trunk to `to`, or why it cannot move now; changes nothing."""
        base = await self.tip()
        if base == to:
            return Landed(to)
        if not await self.builds_on(to, base):
            return Moved(base)
        places = await checkouts(self.user, self.repository)
        for place in places:
            busy = place.busy_with(self.branch)
            if busy:
                return Blocked("busy", busy, look=place.marks())
        changes = await self.own.changed(base, to)
        paths = tuple(change.path for change in changes[:MOST_JOURNALED])
        plan = LandingPlan(
            base=base,
            to=to,
            paths=paths,
            at=now.timestamp(),
        )
        holders = [place for place in places if place.branch == self.ref]
        if not holders:
            return plan
        place = holders[0]
        if len(holders) > 1 or not place.path.is_dir():
            where = " and ".join(str(each.path) for each in holders)
            what = "the factory can only update one, and only if its folder exists."
            marks = chain.from_iterable(each.marks() for each in holders)
            return Blocked(
                "busy",
                f"{self.branch} is checked out in {where}: {what}",
                look=tuple(marks),
            )
        dirty = await place.uncommitted(changes)
        if dirty:
            why = f"Uncommitted work in {place.path} is in the way."
            return Blocked("dirty", why, tuple(dirty), place.marks(dirty))
        return replace(plan, checkout=str(place.path), git_dir=str(place.git_dir))

    async def land(self, plan: LandingPlan, started: Callable[[LandingPlan], None]) -> Outcome:
        """Move trunk as planned.

        The journal already has the plan. `started` writes the plan to the journal again, now with
        the pid of our git.

        `started` runs in the event loop's thread, and git does nothing before `started` returns. So
        if the journal has no pid, our git never ran.
        """

        def begun(pid: int) -> None:
            from_thread.run_sync(started, replace(plan, pid=pid))

        await self._send(plan.to, plan.base)
        outcome = await Move(self, plan).run(begun)
        if isinstance(outcome, Landed) and self.in_files:
            # The commit came from here, so it need not be fetched. If the daemon dies before this
            # line, the next start fetches.
            with faults.step("landing.follow"), suppress(GitError):
                await self.own.run("update-ref", self.ref, plan.to)
                self._seen = plan.to
        return outcome

    async def recover(
        self,
        plan: LandingPlan,
        started: Callable[[LandingPlan], None],
        *,
        now: datetime,
    ) -> Outcome:
        """Find out how an interrupted landing ended; finish the landing or undo its traces."""
        move = Move(self, plan)
        if not await move.is_over(now):
            return Blocked("running", f"A git command is still at work in {move.place.path}.")
        await move.clean_up()
        if await self.holds(plan.to):
            return Landed(plan.to)
        again = await self.plan_landing(plan.to, now=now)
        if not isinstance(again, LandingPlan):
            return again
        if again.base != plan.base:
            # A person removed commits from trunk meanwhile, and this landing must not bring them
            # back.
            return Moved(again.base)
        # the open step in the journal must have the newest plan before git carries it out
        started(again)
        return await self.land(again, started)

    @faults.during("submission.fetch")
    async def take(self, *commits: str) -> None:
        """Fetch commits of the user's repository that need not be on a branch; make no ref."""
        source = ("--", str(self.common_dir))
        await self.own.run(*_FETCH, *_SERVED_ALL, *source, *commits, seconds=FETCH_S)

    @faults.during("trunk.fetch")
    async def _fetch(self) -> None:
        source = ("--", str(self.common_dir))
        specs = (f"+{self.ref}:{self.ref}", "+refs/tags/*:refs/tags/*")
        await self.own.run(*_FETCH, *_SERVED, *source, *specs, seconds=FETCH_S)

    @faults.during("landing.send")
    async def _send(self, commit: str, have: str) -> None:
        """Put the objects of `commit` that `have` lacks into the user's repository; make no ref."""
        asked = f"{commit}\n^{have}\n".encode()
        how = ("pack-objects", "--revs", "--thin", "--stdout", "-q")
        # The pack is in an unnamed file on disk, because an agent decides how large it is, and
        # because such a file disappears if the daemon dies.
        with tempfile.TemporaryFile(dir=self.own.git_dir) as pack:
            await self.own.run(*how, stdin=asked, seconds=GIT_S, into=Into(PACK_MOST, pack))
            pack.seek(8)
            objects = int.from_bytes(pack.read(4))
            take = ["index-pack", "--stdin", "--fix-thin"]
            if objects < UNPACKED_MOST:
                take = ["unpack-objects", "-q"]
            # git gets this file descriptor itself, and reads from its present position.
            os.lseek(pack.fileno(), 0, os.SEEK_SET)
            await self.user.run(*take, stdin=pack, seconds=GIT_S)
