"""Trunk: the branch that units land on, in the user's repository, and the factory's own copy of it.

Invariant: trunk moves only from the commit that a plan names to the commit that it names, by git's own compare-and-swap
or fast-forward; whatever the user has not committed, tracked or ignored, is as it was.
"""

import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path

import anyio
from anyio import from_thread

from factory.child import process
from factory.ground import faults
from factory.ground.errors import GitError, TooLong
from factory.ground.pipes import Into
from factory.repo.checkout import Checkout, checkouts, patiently
from factory.repo.examine import Repository
from factory.repo.git import Git, Person
from factory.repo.message import Landing, read

SWITCH_S = (
    1.0  # how long a switch of branches is waited for; an editor that git waits for stays for hours
)
PATIENCE_S = 3.0  # how long a lock of somebody else's git is waited for
GIT_S = 300.0  # what one git command of a landing may take
MOST_JOURNALED = 100  # paths that the step names: git knows all of them
PACK_MOST = (
    64 << 30
)  # bytes of what one landing brings; each unit of it was measured when it was snapshotted
FETCH_S, CLONE_S = 600.0, 3600.0  # and one that brings the factory repository what the user's has
_FSYNC = ("core.fsync=all,-index",)  # an index can be made anew
_LANDING = "factoryd: landing"
AGENT_EMAIL = "agent@factoryd.invalid"
_LANDING_FORM = "%H%x00%ct%x00%B"
# All that the user's configuration could change about it is said; the filter spares the formatting of other commits.
_LOG = (
    *("log", "-z", "--no-show-signature", "--no-mailmap", "--ignore-missing"),
    *("--fixed-strings", f"--author=<{AGENT_EMAIL}>", f"--format={_LANDING_FORM}"),
)
_PUT_BACK = "factoryd: put back"
_SERVED = (
    "--upload-pack",
    "git -c uploadpack.hideRefs=!refs upload-pack",
)  # whatever they hide from others
_MERGE = (
    *(
        "merge",
        "--ff-only",
        "--no-squash",
        "--no-autostash",
        "--no-overwrite-ignore",
        "--no-verify-signatures",
    ),
    *("--no-stat", "--no-progress", "-q"),
)


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """One unit's commit on its base, made in memory."""

    commit: str
    tree: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """The paths that do not merge."""

    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Nothing:
    """Merged onto its base, the submission changes nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LandingPlan:
    """The open step of a landing: all that recovery needs to know."""

    base: str
    to: str
    paths: tuple[str, ...]
    at: float  # seconds since the epoch: no lock of ours is older
    checkout: str = ""  # the working tree that has trunk checked out
    git_dir: str = ""  # its git dir
    pid: int = 0  # of our git, once it runs

    def data(self) -> str:
        """The plan as JSON, for the journal."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, data: str) -> "LandingPlan":
        """The plan that `data()` wrote."""
        fields = json.loads(data)
        return cls(**fields | {"paths": tuple(fields["paths"])})


@dataclass(frozen=True, slots=True)
class Landed:
    """Trunk contains, or contained, the commit."""

    commit: str


@dataclass(frozen=True, slots=True)
class Moved:
    """Trunk, or what is checked out, is not as planned: rehearse or plan again. `said`: what was put right."""

    tip: str
    said: str = ""


@dataclass(frozen=True, slots=True)
class Blocked:
    """Landing would touch what is not ours, or failed (disk full, git killed); trunk has not moved.

    But a git of ours that is `running` may move it yet, and one whose work is `unknown` may have: the step stays open.
    """

    kind: str  # dirty, untracked, busy, locked, failed, refused, running, unknown
    reason: str
    paths: tuple[str, ...] = ()
    look: tuple[Path, ...] = field(
        default=(), compare=False
    )  # it may be over once one of these has changed
    mend: str = ""  # the command that mends it, where one is known

    @property
    def is_open(self) -> bool:
        """Whether our git may have moved trunk, or may yet."""
        return self.kind in ("running", "unknown")


Outcome = Landed | Moved | Blocked


async def make(repository: Repository, path: Path, environ: Mapping[str, str]) -> Git:
    """The factory repository at `path`: what is there, else a bare clone with hard links where the disk allows them."""
    own = Git(git_dir=path, own=True, config=_FSYNC, environ=environ)
    if await anyio.Path(path).exists():
        return own
    await _clone(repository, path, environ)
    return own


@faults.during("clone.make")
async def _clone(repository: Repository, path: Path, environ: Mapping[str, str]) -> None:
    fresh = path.with_name(f"{path.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)  # left by a start that was killed
    # With the user's configuration, for their safe.directory; none of it is kept.
    clone = Git(git_dir=fresh, own=False, config=_FSYNC, environ=environ)
    how = (
        "--bare",
        "--single-branch",
        "--no-reject-shallow",
        "--template=",
        "-q",
        "--branch",
        repository.branch,
    )
    await clone.run(
        *("clone", *how, *_SERVED, "--", str(repository.common_dir), str(fresh)),
        env={"GIT_DEFAULT_REF_FORMAT": "files"},
        seconds=CLONE_S,
    )
    fresh.rename(path)


class Trunk:
    """The target branch: read, rehearsed onto, and moved."""

    def __init__(self, *, repository: Repository, own: Git, environ: Mapping[str, str]) -> None:
        self.branch = repository.branch
        self.ref = f"refs/heads/{repository.branch}"
        self.own = own
        self._repository, self.common_dir = repository, repository.common_dir
        self._in_files = repository.ref_format == "files"
        self._seen = ""  # trunk as last fetched, or as we moved it
        self._tags: tuple[object, ...] = ()  # as last fetched
        settings = (*_FSYNC, "core.logAllRefUpdates=true")
        self._user = replace(repository.git(environ), config=settings, commands=own.commands)

    # ── reading ──

    async def tip(self) -> str:
        """The commit that trunk points to now, empty when the branch is gone; read without git where refs are files."""
        if self._in_files and (found := self._user.read_ref(self.ref)):
            return found
        return await self._user.commit(self.ref)

    async def refresh(self) -> str:
        """Trunk, fetched with the tags into the factory repository where any moved; empty when it is gone."""
        tip = await self.tip()
        tags = self._user.tag_marks() if self._in_files else ()
        if tip and (tip != self._seen or tags != self._tags):
            self._tags = tags
            await self._fetch()
            tip = self._seen = await self.own.commit(self.ref)
        return tip

    async def holds(self, commit: str) -> bool:
        """Whether `commit` is in trunk, or was at some time (its reflog says so)."""
        if await self.tip() == commit or await self._user.contains(self.ref, commit):
            return True
        points = await self._points()
        if not points or not await self._user.commit(commit):
            return False
        asked = "\n".join([commit, *(f"^{point}" for point in points)]) + "\n"
        # Nothing is left of it once all that the points reach is taken away. What git cannot walk arrived only in part
        # before we died, and never was on trunk.
        left = await self._user.run(
            "rev-list", "-1", "--ignore-missing", "--stdin", stdin=asked.encode(), ok=(0, 128)
        )
        return not (left.code or left.out)

    async def landings(self, *, since: str = "", history: bool = True) -> list[Landing]:
        """The landings that trunk holds, newest first, as the trailers of commits say; read in one process.

        With `history` also those that it held at some time. `since`: a commit; what it can reach is left out.
        """
        points = await self._points() if history else []
        asked = [self.ref, *points, *([f"^{since}"] if since else [])]
        told = await self._user.run(*_LOG, "--stdin", stdin="\n".join([*asked, ""]).encode())
        fields = iter(told.out.decode(errors="replace").split("\0"))
        landings = []
        for commit, at, body in zip(fields, fields, fields, strict=False):
            if found := read(body):
                subject = body.partition("\n")[0]
                landings.append(
                    Landing(commit=commit, at=float(at), subject=subject, **found._asdict())
                )
        return landings

    async def _points(self) -> list[str]:
        """Every commit that trunk has pointed to, as its reflog says, less landings that were put back."""
        log = await self._user.run(
            "reflog", "show", "--no-show-signature", "--format=%H %gs", self.ref, ok=(0, 128)
        )
        reads = [line.partition(" ") for line in os.fsdecode(log.out).splitlines()]
        undone = {at + 1 for at, (_, _, why) in enumerate(reads) if why.startswith(_PUT_BACK)}
        return [point for at, (point, _, _) in enumerate(reads) if at not in undone]

    # ── rehearsing ──

    @faults.during("trunk.rehearse")
    async def rehearse(
        self, *, base: str, submission: str, submission_base: str, text: str, author: Person
    ) -> Rehearsed | Conflict | Nothing:
        """Merge what `submission` changed since `submission_base` onto `base`, in memory, as one commit."""
        tree, conflicts = await self.own.merge(base, submission, since=submission_base)
        if not tree:
            return Conflict(conflicts)
        if tree == await self.own.tree(base):
            return Nothing()
        committer = self._repository.identity
        commit = await self.own.commit_tree(tree, [base], text, author=author, committer=committer)
        return Rehearsed(commit, tree)

    # ── landing ──

    async def plan_landing(self, to: str, *, now: datetime) -> LandingPlan | Outcome:
        """What it takes to move trunk to `to`, or why it cannot be done now; nothing is touched."""
        base = await self.tip()
        if base == to:
            return Landed(to)
        if not await self._builds_on(to, base):
            return Moved(base)
        places = await checkouts(self._user, self._repository)
        for place in places:
            if busy := place.busy_with(self.branch):
                return Blocked("busy", busy, look=place.marks())
        changes = await self.own.changed(base, to)
        paths = tuple(change.path for change in changes[:MOST_JOURNALED])
        plan = LandingPlan(base=base, to=to, paths=paths, at=now.timestamp())
        holders = [place for place in places if place.branch == self.ref]
        if not holders:
            return plan
        if len(holders) > 1 or not holders[0].path.is_dir():
            where = " and ".join(str(place.path) for place in holders)
            why = f"{self.branch} is checked out in {where}: the factory can only keep one, that exists."
            return Blocked(
                "busy", why, look=tuple(mark for place in holders for mark in place.marks())
            )
        place = holders[0]
        if kept := await place.uncommitted(changes):
            return Blocked(
                "dirty",
                f"Uncommitted work in {place.path} is in the way.",
                tuple(kept),
                place.marks(kept),
            )
        return replace(plan, checkout=str(place.path), git_dir=str(place.git_dir))

    async def land(self, plan: LandingPlan, started: Callable[[LandingPlan], None]) -> Outcome:
        """Move trunk as planned. The plan is journaled already; `started` journals it again with our git's pid.

        `started` is called in the event loop's thread, and git does nothing before it returns: without a pid in the
        journal no git ever ran.
        """

        def begun(pid: int) -> None:
            from_thread.run_sync(started, replace(plan, pid=pid))

        await self._send(plan.to, plan.base)
        if lock := await _stays(self._locks(plan)):
            why = (
                f"{lock} exists: another git command runs there; if none does, one died: remove it."
            )
            return Blocked("locked", why, look=(lock,))
        outcome = await (
            self._fast_forward(plan, begun) if plan.checkout else self._swap(plan, begun)
        )
        if isinstance(outcome, Landed) and self._in_files:
            # It came from here, so it need not be fetched. Died before this line, the next start fetches.
            with faults.step("landing.follow"), suppress(GitError):  # else it is fetched
                await self.own.run("update-ref", self.ref, plan.to)
                self._seen = plan.to
        return outcome

    async def recover(
        self, plan: LandingPlan, started: Callable[[LandingPlan], None], *, now: datetime
    ) -> Outcome:
        """Find out what became of a landing that was cut short at any instant, and finish it or undo its traces."""
        place = self._place(plan)
        locked = any(lock.exists() for lock in self._locks(plan))
        if not await place.quiet(plan.to, PATIENCE_S, alone=locked):
            if (
                plan.pid and now.timestamp() - plan.at > GIT_S
            ):  # what limited it died with its daemon
                with faults.step("landing.mend"):
                    process.end_left_behind(plan.pid, plan.to)
            return Blocked("running", f"A git command is still at work in {place.path}.")
        if plan.pid and plan.checkout and place.path.is_dir() and not await self.holds(plan.to):
            await self._mend(plan, place)
        if plan.pid:
            self._unlock(plan)
        if await self.holds(plan.to):
            return Landed(plan.to)
        again = await self.plan_landing(plan.to, now=now)
        if isinstance(again, LandingPlan) and again.base != plan.base:
            return Moved(
                again.base
            )  # a person took commits back meanwhile: they are not brought back by the way
        if isinstance(again, LandingPlan):
            started(
                again
            )  # the journal's open step names the newest plan, before it is carried out
            return await self.land(again, started)
        return again

    async def _builds_on(self, to: str, base: str) -> bool:
        at = to
        while at != base and at in self.own.bases:
            at = self.own.bases[at]
        return at == base or await self.own.contains(to, base)

    def _place(self, plan: LandingPlan) -> Checkout:
        if not plan.checkout:
            return Checkout(self._repository.root, self._repository.git_dir, self.ref, self._user)
        return Checkout(Path(plan.checkout), Path(plan.git_dir), self.ref, self._user)

    async def _fast_forward(self, plan: LandingPlan, begun: Callable[[int], None]) -> Outcome:
        place = self._place(plan)
        if await place.head() != self.ref or await self.tip() != plan.base:
            return Moved(await self.tip())
        # An option of the branch would be added to ours; its name may hold any sign, so not by -c.
        less = {"GIT_CONFIG_KEY_0": f"branch.{self.branch}.mergeOptions", "GIT_CONFIG_VALUE_0": ""}
        env = less | {"GIT_CONFIG_COUNT": "1", "GIT_REFLOG_ACTION": _LANDING}
        with faults.step("landing.merge"):
            merge = await place.git.run(
                *_MERGE, plan.to, ok=tuple(range(-64, 256)), env=env, started=begun, seconds=GIT_S
            )
        if merge.left:
            return Blocked("running", os.fsdecode(merge.err).strip())
        if await self.holds(plan.to):
            if (
                merge.code < 0
            ):  # killed when it had moved the ref and not let go of all that it had locked
                self._unlock(plan)
            return Landed(plan.to)
        if merge.code == 0:  # they switched to another branch between our look and git's
            return Moved(await self.tip(), await place.put_back(plan.to, _PUT_BACK))
        return await self._refused(plan, place, merge)

    async def _refused(self, plan: LandingPlan, place: Checkout, merge: process.Output) -> Outcome:
        """Why git did not fast-forward; a git that broke off half-way (killed, disk full) has its traces undone."""
        said = os.fsdecode(merge.err).strip()
        if "would be overwritten" in said or "would lose untracked" in said:
            kind = "dirty" if "local changes" in said else "untracked"
            paths = tuple(line.strip() for line in said.splitlines() if line.startswith("\t"))
            return Blocked(
                kind, f"Files in {place.path} are in the way.", paths, place.marks(paths)
            )
        if "ot possible to fast-forward" in said:
            return Moved(await self.tip())
        if "index.lock" in said and merge.code > 0:
            return Blocked("locked", said.splitlines()[0], look=place.marks())
        # A git that ends by itself leaves no lock: then no lock is ours, however young.
        dead = plan if merge.code < 0 else replace(plan, at=math.inf)
        await self._mend(dead, place, torn=True)
        self._unlock(dead)
        if await self.holds(plan.to):
            return Landed(plan.to)
        return Blocked(
            "failed", f"git merge in {place.path} ended with {merge.code}: {said[-300:]}"
        )

    async def _swap(self, plan: LandingPlan, begun: Callable[[int], None]) -> Outcome:
        for place in await self._holders(plan):
            return Moved(plan.base, f"{self.branch} was checked out in {place.path} just now.")
        try:
            await self._move(plan.to, plan.base, _LANDING, begun)
        except GitError as error:
            if isinstance(error, TooLong) and error.left:
                return Blocked("running", error.stderr)
            if failed := await self._unmoved(plan, error):
                return failed
        # Whoever checked trunk out between our look and the swap has the old files under the new commit.
        changes = await self.own.changed(plan.base, plan.to)
        for place in await self._holders(plan):
            if not await place.index_shows(changes):
                await self._move(plan.base, plan.to, _PUT_BACK)
                return Moved(plan.base, f"{self.branch} was checked out in {place.path} just now.")
        return Landed(plan.to)

    async def _unmoved(self, plan: LandingPlan, error: GitError) -> Outcome | None:
        """Why a swap that failed did not move trunk; None where it did all the same."""
        if (
            error.code < 0
        ):  # killed, before it moved the ref or after: what it locked is in nobody's hands
            self._unlock(plan)
        if await self.holds(plan.to):
            return None
        if (tip := await self.tip()) != plan.base:
            return Moved(tip)
        said = error.stderr.strip()[-300:] or str(error)
        if error.code < 0:
            return Blocked("failed", said)
        return Blocked("locked", said, look=tuple(self._locks(plan)))

    async def _holders(self, plan: LandingPlan) -> list[Checkout]:
        """Where trunk is checked out, once no git is at work there: a switch reads the branch first and HEAD last."""
        for place in await checkouts(self._user, self._repository):
            await place.quiet(plan.to, SWITCH_S, alone=True)
        return [
            place
            for place in await checkouts(self._user, self._repository)
            if place.branch == self.ref
        ]

    @faults.during("landing.move")
    async def _move(
        self, to: str, was: str, why: str, started: Callable[[int], None] | None = None
    ) -> None:
        await self._user.run(
            "update-ref", "--create-reflog", "-m", why, self.ref, to, was, started=started
        )

    # ── mending ──

    @faults.during("landing.mend")
    async def _mend(self, plan: LandingPlan, place: Checkout, *, torn: bool = False) -> None:
        """Complete a landing of which only the ref is missing, else take back what our dead git wrote.

        git holds index.lock while it writes files, then renames it into place, then moves the ref: so with the new
        index every file is written, and with the lock there files may be missing between removal and creation.
        """
        changes = await self.own.changed(plan.base, plan.to)
        lock = place.git_dir / "index.lock"
        locked = _since(lock, plan)
        if (
            await place.head() != self.ref
        ):  # the branch they had switched to may have been moved instead
            await place.put_back(plan.to, _PUT_BACK)
        if not locked and await place.head() == self.ref and await place.index_shows(changes):
            self._unlock(plan)
            return await self._follow(plan, place)
        ours = await place.written(changes, torn=torn or locked)
        if locked:
            lock.unlink(missing_ok=True)
        if ours and not lock.exists():
            await place.take_back(ours)

    async def _follow(self, plan: LandingPlan, place: Checkout) -> None:
        """Move the ref to where index and files are already, else take them back to where it is."""
        await _stays(self._locks(plan))
        with suppress(GitError):
            return await self._move(plan.to, plan.base, _LANDING)
        if await self.tip() == plan.base:
            with suppress(GitError):  # edited since: theirs
                await place.git.run("read-tree", "-m", "-u", plan.to, plan.base)

    def _locks(self, plan: LandingPlan) -> list[Path]:
        """Every lock that git takes to move trunk as planned."""
        common, tree = self._repository.common_dir, Path(plan.git_dir)
        ref = (
            f"{self.ref}.lock"
            if self._repository.ref_format == "files"
            else "reftable/tables.list.lock"
        )
        names = ("index.lock", "HEAD.lock", "ORIG_HEAD.lock") if plan.git_dir else ()
        return [common / ref, common / "HEAD.lock", *(tree / name for name in names)]

    @faults.during("landing.unlock")
    def _unlock(self, plan: LandingPlan) -> None:
        """Remove what locks our dead git left."""
        for lock in self._locks(plan):
            if _since(lock, plan):
                lock.unlink(missing_ok=True)

    # ── objects ──

    @faults.during("trunk.fetch")
    async def _fetch(self) -> None:
        user = replace(
            self.own, configured=True
        )  # nothing but safe.directory of theirs matters to these arguments
        source = str(self._repository.common_dir)
        how = (
            "--no-tags",
            "--no-write-fetch-head",
            "--no-auto-maintenance",
            "--update-shallow",
            "--no-prune",
            "-q",
        )
        specs = (f"+{self.ref}:{self.ref}", "+refs/tags/*:refs/tags/*")
        command = ("-c", "fetch.pruneTags=false", "fetch", *how, *_SERVED, "--", source, *specs)
        await user.run(*command, seconds=FETCH_S)

    @faults.during("landing.send")
    async def _send(self, commit: str, have: str) -> None:
        """Put the objects of `commit` that `have` lacks into the user's repository, with no ref."""
        asked = f"{commit}\n^{have}\n".encode()
        how = ("--revs", "--thin", "--stdout", "-q")
        # By way of a file without a name: an agent decides how large it is, and a death leaves nothing of it.
        with tempfile.TemporaryFile(dir=self.own.git_dir) as pack:
            await self.own.run(
                "pack-objects", *how, stdin=asked, seconds=GIT_S, into=Into(PACK_MOST, pack)
            )
            pack.seek(8)
            few = int.from_bytes(pack.read(4)) < 100
            # The descriptor itself goes to git, with its place in the file.
            os.lseek(pack.fileno(), 0, os.SEEK_SET)
            take: Sequence[str] = (
                ("unpack-objects", "-q") if few else ("index-pack", "--stdin", "--fix-thin")
            )
            await self._user.run(*take, stdin=pack, seconds=GIT_S)


def _since(lock: Path, plan: LandingPlan) -> bool:
    """Whether a lock is not older than the step (a file system's clock ticks coarser than ours)."""
    with suppress(FileNotFoundError):
        return lock.lstat().st_mtime >= plan.at - 0.1
    return False


async def _stays(locks: Sequence[Path]) -> Path | None:
    """Wait for locks of somebody else's git; the first that does not go away in time."""

    async def first() -> Path | None:
        return next((lock for lock in locks if lock.exists()), None)

    return await patiently(first, PATIENCE_S)
