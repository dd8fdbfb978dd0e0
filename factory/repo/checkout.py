"""A working tree of the user, in which a landing may have to change files.

Invariant: the daemon writes or removes a file here only if the file's content comes from the
daemon's own git.
"""

import os
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import IO, TypeVar

import anyio
from anyio import to_thread

from factory.ground import bounded, faults
from factory.ground.errors import GitError
from factory.ground.pipes import Into
from factory.ground.plumbing import GITLINK, SYMLINK, Change
from factory.ground.regular import is_real
from factory.repo.examine import Repository
from factory.repo.git import Git
from factory.repo.git_dir import ended_by_nul
from factory.repo.processes import running

T = TypeVar("T")

CONTENT_MOST = 64 << 30  # bytes of one file that a landing may have written
_PART = 1 << 20  # bytes that are compared at a time
_MARKS = (
    "index",
    "index.lock",
    "HEAD",
    "MERGE_HEAD",
    "BISECT_START",
    "rebase-merge",
    "rebase-apply",
)
_REBASES = ("rebase-merge/head-name", "rebase-apply/head-name", "rebase-merge/update-refs")
_ABSENT = ("", "")  # mode and blob of a path that the index does not have
_READERS = frozenset({"cat-file", "log", "diff", "show", "blame"})
_STATUS = ("status", "--porcelain=v1", "-z", "-uno", "--no-renames", "--ignore-submodules=all")


@dataclass(frozen=True, slots=True)
class Checkout:
    """A working tree: its folder, its git dir, and the ref that HEAD named when it was examined."""

    path: Path
    git_dir: Path
    branch: str
    user: Git

    @property
    def git(self) -> Git:
        """Git in this working tree, with the working tree's own index."""
        config = (*self.user.config, "core.quotePath=false")
        return replace(self.user, git_dir=self.git_dir, work_tree=self.path, config=config)

    async def head(self) -> str:
        """Return the ref that HEAD names now; empty if HEAD is detached."""
        named = _head(self.git_dir, self.user.git_dir)
        if named is not None:
            return named
        done = await self.git.run("symbolic-ref", "-q", "HEAD", ok=(0, 1))
        return os.fsdecode(done.out).rstrip("\n")

    def busy_with(self, branch: str) -> str:
        """Return which git operation in progress forbids to move `branch`; empty if none does."""
        for name in _REBASES:
            if f"refs/heads/{branch}" in _lines(self.git_dir / name):
                return f"{branch} is being rebased in {self.path}."
        if branch in _lines(self.git_dir / "BISECT_START"):
            return f"{branch} is being bisected in {self.path}."
        if self.branch == f"refs/heads/{branch}" and (self.git_dir / "MERGE_HEAD").exists():
            return f"A merge into {branch} is not finished in {self.path}."
        return ""

    def marks(self, paths: Sequence[str] = ()) -> tuple[Path, ...]:
        """Return the files that change once the paths, or git, no longer block a landing."""
        marks = [self.path / path for path in paths]
        marks += [self.git_dir / name for name in _MARKS]
        return tuple(marks)

    async def uncommitted(self, changes: Sequence[Change]) -> list[str]:
        """Return the changed paths in which the user has uncommitted work."""
        dirty = await self._dirty()
        # in a thread, because there may be thousands of paths
        dirty |= await to_thread.run_sync(_in_the_way, self.path, changes)
        return sorted(dirty & {change.path for change in changes})

    async def index_shows(self, changes: Sequence[Change]) -> bool:
        """Whether the index has the new state of every changed path."""
        index = await self._index()
        for change in changes:
            if index.get(change.path, _ABSENT) != (change.mode, change.new):
                return False
        return True

    async def written(self, changes: Sequence[Change], *, torn: bool) -> list[Change]:
        """Return the changes whose file our git was writing when the index still had the old state.

        With `torn`, git was certainly interrupted. Then a missing or empty file counts as written
        by git too.
        """
        index = await self._index()
        dirty = await self._dirty()
        found = []
        for change in changes:
            if index.get(change.path, _ABSENT) != (change.old_mode, change.old):
                continue
            is_added = change.status == "A" and _there(self.path / change.path)
            if not is_added and change.path not in dirty:
                continue
            if await self._is_ours(change, torn=torn):
                found.append(change)
        return found

    async def take_back(self, changes: Sequence[Change]) -> None:
        """Restore the changed paths from the index, unless a file of the user is in the way."""
        for change in changes:
            if not change.old:
                file = self.path / change.path
                file.unlink(missing_ok=True)
                self._prune(file.parent)
        tracked = [change.path for change in changes if change.old and self._is_free(change.path)]
        how = ("checkout-index", "-f", "-u", "-z", "--stdin")
        await self.git.run(*how, stdin=ended_by_nul(tracked), ok=(0, 1, 128))

    @faults.during("landing.put_back")
    async def put_back(self, to: str, why: str) -> str:
        """Undo our fast-forward of a branch that is not trunk; return a sentence about this."""
        old = await self.git.commit("ORIG_HEAD")
        now = await self.git.commit("HEAD")
        head = await self.head()
        if now != to or old in ("", to) or not await self.git.contains(to, old):
            return ""
        name = head.removeprefix("refs/heads/") or "HEAD"
        try:
            await self.git.run("read-tree", "-m", "-u", to, old)
            await self.git.run("update-ref", "--no-deref", "-m", why, head or "HEAD", old, to)
        except GitError as error:
            remedy = f"`git reset --keep {old}` puts it back"
            return f"{name} in {self.path} went to {to}; {remedy}, which failed: {error}"
        return f"{name} was checked out in {self.path} while trunk landed; it is back at {old}."

    async def quiet(
        self,
        marker: str,
        patience: float,
        *,
        alone: bool,
    ) -> bool:
        """Wait until no git with `marker` in its arguments runs.

        With `alone`, also wait for every other git that writes in this working tree. Returns False
        if such a git still runs after `patience` seconds.
        """

        async def busy() -> bool:
            for at, argv in await running(self.user.environ):
                if marker in argv or (alone and self._writes(at, argv)):
                    return True
            return False

        return not await patiently(busy, patience)

    def _writes(self, at: Path | None, argv: Sequence[str]) -> bool:
        here = at is None or at.is_relative_to(self.path)
        # a pager or an editor can keep these git commands running for hours
        return here and _READERS.isdisjoint(argv)

    async def _dirty(self) -> set[str]:
        return {entry[3:] for entry in await self.git.names(*_STATUS)}

    async def _index(self) -> dict[str, tuple[str, str]]:
        """Return path → (mode, blob) of the index; an unmerged path has "" for both."""
        found = {}
        for entry in await self.git.names("ls-files", "-s", "-z"):
            facts, _, path = entry.partition("\t")
            mode, blob, stage = facts.split()
            found[path] = (mode, blob) if stage == "0" else ("unmerged", "")
        return found

    async def _is_ours(self, change: Change, *, torn: bool) -> bool:
        file = self.path / change.path
        if GITLINK in (change.mode, change.old_mode) or not _plain_parents(self.path, change.path):
            return False
        if not _there(file):
            return torn
        if is_real(file):
            return torn and bool(change.old)
        if not change.new:
            return False
        if file.is_symlink():
            blob = await self.git.run("cat-file", "blob", change.new, into=Into(bounded.PARSED))
            return change.mode == SYMLINK and os.fsencode(file.readlink()) == blob.out
        if not file.is_file():
            return False
        with tempfile.TemporaryFile() as wanted:
            how = ("cat-file", "--filters", f"--path={change.path}", change.new)
            await self.git.run(*how, into=Into(CONTENT_MOST, wanted))
            if not await to_thread.run_sync(_begins, wanted, file):
                return False
            # An empty file equals the beginning of any content, so it proves nothing.
            return torn or bool(file.stat().st_size) or not os.fstat(wanted.fileno()).st_size

    def _prune(self, folder: Path) -> None:
        with suppress(OSError):  # if the folder is not empty, it belongs to somebody else
            while folder != self.path:
                folder.rmdir()
                folder = folder.parent

    def _is_free(self, path: str) -> bool:
        """Whether git can write `path` without loss; git replaces any file that exists there."""
        file = self.path / path
        if is_real(file):
            for folder, _, _ in os.walk(file, topdown=False):
                with suppress(OSError):
                    Path(folder).rmdir()
            if is_real(file):
                return False
        for parent in Path(path).parents:
            above = self.path / parent
            if _there(above) and not is_real(above):
                return False
        return True


async def checkouts(user: Git, repository: Repository) -> list[Checkout]:
    """Return every working tree of the repository, without those whose folder is gone for good."""
    common = repository.common_dir
    is_main = repository.git_dir == common
    if is_main and not _there(common / "worktrees"):
        only = Checkout(repository.root, common, "", user)
        return [replace(only, branch=await only.head())]
    listed = await user.text("worktree", "list", "--porcelain", "-z")
    places: list[Checkout] = []
    for record in listed.split("\0\0"):
        facts = _facts(record)
        if "worktree" not in facts or "bare" in facts or "prunable" in facts:
            continue
        path = Path(facts["worktree"])
        if not places and is_main:
            # git derives a path from the name of the git dir, which can be wrong
            path = repository.root
        places.append(Checkout(path, _git_dir(path, common), facts.get("branch", ""), user))
    return places


def _facts(record: str) -> dict[str, str]:
    """Return what `git worktree list` prints about one working tree."""
    facts = {}
    for line in record.strip("\0").split("\0"):
        key, _, value = line.partition(" ")
        facts[key] = value
    return facts


def _git_dir(path: Path, common: Path) -> Path:
    link = path / ".git"
    if not link.is_file():
        return link if link.is_dir() else common
    return (path / _text(link).removeprefix("gitdir:").strip()).resolve()


def _head(git_dir: Path, common: Path) -> str | None:
    """Return the ref that HEAD names; "" if HEAD is detached, None if only git can tell."""
    file = git_dir / "HEAD"
    try:
        text = _text(file).rstrip("\n")
    except OSError:
        return None
    name = text.removeprefix("ref: ")
    # a symbolic link (old git), or the reftable format
    if file.is_symlink() or name == "refs/heads/.invalid":
        return None
    if name == text:
        return ""
    for line in _lines(common / name):
        if line.startswith("ref:"):  # a symbolic ref
            return None
    return name


def _lines(file: Path) -> list[str]:
    return _text(file).splitlines() if file.is_file() else []


def _text(file: Path) -> str:
    return bounded.head(file, bounded.PARSED).decode(errors="surrogateescape")


def _begins(wanted: IO[bytes], file: Path) -> bool:
    """Whether the file's whole content equals the beginning of the wanted content."""
    wanted.seek(0)
    with file.open("rb") as found:
        while part := found.read(_PART):
            if wanted.read(len(part)) != part:
                return False
    return True


def _in_the_way(root: Path, changes: Sequence[Change]) -> set[str]:
    """Return the paths that a landing adds although something exists there already."""
    # Deleted names in lower case: for some file systems, an added name is the same as one of these.
    folded = set()
    emptied = set()  # if a folder becomes a file, git itself checks every file in the folder
    for change in changes:
        if change.status == "D":
            folded.add(change.path.casefold())
            emptied |= _folders_above(change.path)
    found = set()
    for change in changes:
        path = change.path
        if change.status != "A" or path in emptied or path.casefold() in folded:
            continue
        if os.path.lexists(f"{root}/{path}"):
            found.add(path)
    return found


def _folders_above(path: str) -> set[str]:
    parts = path.split("/")[:-1]
    return set(accumulate(parts, "{}/{}".format))


def _there(file: Path) -> bool:
    return file.exists() or file.is_symlink()


def _plain_parents(root: Path, path: str) -> bool:
    """Whether no parent folder of `path` is a link that leads to another folder."""
    for parent in Path(path).parents:
        if (root / parent).is_symlink():
            return False
    return True


async def patiently(look: Callable[[], Awaitable[T]], seconds: float) -> T:
    """Call `look` until it returns something false or the seconds are over.

    Returns the last result of `look`.
    """
    # Imported here because an idle daemon never waits for a git process of the user.
    from tenacity import AsyncRetrying, retry_if_result, stop_after_delay, wait_fixed

    waiting = AsyncRetrying(
        retry=retry_if_result(bool),
        wait=wait_fixed(0.05),
        stop=stop_after_delay(seconds),
        retry_error_callback=lambda state: state.outcome and state.outcome.result(),
        sleep=anyio.sleep,
    )
    return await waiting(look)
