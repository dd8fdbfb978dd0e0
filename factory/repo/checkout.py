"""A working tree of the user's, where a landing may have to change files.

Invariant: a file is written or removed here only when its content is what our own git was writing there.
"""

import os
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TypeVar

import anyio
from anyio import to_thread
from tenacity import AsyncRetrying, retry_if_result, stop_after_delay, wait_fixed

from factory.ground import bounded, faults
from factory.ground.errors import GitError
from factory.ground.pipes import Into
from factory.ground.plumbing import GITLINK, SYMLINK, Change
from factory.repo.examine import Repository
from factory.repo.git import Git
from factory.repo.processes import running

T = TypeVar("T")

CONTENT_MOST = 64 << 30  # bytes of one file that a landing was writing
_PART = 1 << 20  # that are compared at once
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
_READERS = frozenset({"cat-file", "log", "diff", "show", "blame"})
_STATUS = ("status", "--porcelain=v1", "-z", "-uno", "--no-renames", "--ignore-submodules=all")


@dataclass(frozen=True, slots=True)
class Checkout:
    """One working tree: its folder, its git dir, and the ref that its HEAD named when it was looked at."""

    path: Path
    git_dir: Path
    branch: str
    user: Git

    @property
    def git(self) -> Git:
        """Git in this working tree, with its own index."""
        config = (*self.user.config, "core.quotePath=false")
        return replace(self.user, git_dir=self.git_dir, work_tree=self.path, config=config)

    async def head(self) -> str:
        """The ref that HEAD names now; empty when it is detached."""
        named = _head(self.git_dir, self.user.git_dir)
        if named is None:
            named = os.fsdecode(
                (await self.git.run("symbolic-ref", "-q", "HEAD", ok=(0, 1))).out
            ).rstrip("\n")
        return named

    def busy_with(self, branch: str) -> str:
        """A sentence when `branch` must not be moved because of what is in progress here, else empty."""
        if any(f"refs/heads/{branch}" in _lines(self.git_dir / name) for name in _REBASES):
            return f"{branch} is being rebased in {self.path}."
        if branch in _lines(self.git_dir / "BISECT_START"):
            return f"{branch} is being bisected in {self.path}."
        if self.branch == f"refs/heads/{branch}" and (self.git_dir / "MERGE_HEAD").exists():
            return f"A merge into {branch} is not concluded in {self.path}."
        return ""

    def marks(self, paths: Sequence[str] = ()) -> tuple[Path, ...]:
        """The files, of them and of their git's, that show when what `paths` or git are busy with is over."""
        return (*(self.path / path for path in paths), *(self.git_dir / name for name in _MARKS))

    async def uncommitted(self, changes: Sequence[Change]) -> list[str]:
        """Those of the changed paths where the user has work that no commit holds."""
        dirty = await self._dirty()
        dirty |= await to_thread.run_sync(_in_the_way, self.path, changes)  # of thousands of paths
        return sorted(dirty & {change.path for change in changes})

    async def index_shows(self, changes: Sequence[Change]) -> bool:
        """Whether the index has each changed path as it is after the change."""
        index = await self._index()
        return all(
            index.get(change.path, ("", "")) == (change.mode, change.new) for change in changes
        )

    async def written(self, changes: Sequence[Change], *, torn: bool) -> list[Change]:
        """The changes whose file is what our git was writing, while the index still has what was before.

        With `torn`, git was cut short for certain: then a missing or empty file counts too.
        """
        index, dirty = await self._index(), await self._dirty()
        found = []
        for change in changes:
            before = index.get(change.path, ("", "")) == (change.old_mode, change.old)
            seen = change.path in dirty or (
                change.status == "A" and _there(self.path / change.path)
            )
            if before and seen and await self._is_ours(change, torn=torn):
                found.append(change)
        return found

    async def take_back(self, changes: Sequence[Change]) -> None:
        """Put those paths back to what the index has, unless somebody's file or folder stands in the way."""
        for change in (change for change in changes if not change.old):
            (self.path / change.path).unlink(missing_ok=True)
            self._prune((self.path / change.path).parent)
        tracked = [change.path for change in changes if change.old and self._is_free(change.path)]
        names = b"".join(os.fsencode(path) + b"\0" for path in tracked)
        await self.git.run(
            "checkout-index", "-f", "-u", "-z", "--stdin", stdin=names, ok=(0, 1, 128)
        )

    @faults.during("landing.put_back")
    async def put_back(self, to: str, why: str) -> str:
        """Undo our fast-forward of a branch that is not trunk; a sentence about it."""
        old, now, head = (
            await self.git.commit("ORIG_HEAD"),
            await self.git.commit("HEAD"),
            await self.head(),
        )
        name = head.removeprefix("refs/heads/") or "HEAD"
        if now != to or not old or old == to or not await self.git.contains(to, old):
            return ""
        try:
            await self.git.run("read-tree", "-m", "-u", to, old)
            await self.git.run("update-ref", "--no-deref", "-m", why, head or "HEAD", old, to)
        except GitError as error:
            return f"{name} in {self.path} went to {to}; `git reset --keep {old}` puts it back, which failed: {error}"
        return f"{name} was checked out in {self.path} while trunk landed; it is back at {old}."

    async def quiet(self, marker: str, patience: float, *, alone: bool) -> bool:
        """Wait until no git with `marker` in its arguments runs, nor, if `alone`, another here; False if one stays."""

        async def busy() -> bool:
            found = await running(self.user.environ)
            return any(marker in argv or (alone and self._writes(at, argv)) for at, argv in found)

        return not await patiently(busy, patience)

    def _writes(self, at: Path | None, argv: Sequence[str]) -> bool:
        here = at is None or at.is_relative_to(self.path)
        return here and _READERS.isdisjoint(argv)  # a pager or an editor keeps those open for hours

    async def _dirty(self) -> set[str]:
        return {entry[3:] for entry in await self.git.names(*_STATUS)}

    async def _index(self) -> dict[str, tuple[str, str]]:
        """Path → mode and blob; an unmerged path has neither of its own."""
        entries = (entry.partition("\t") for entry in await self.git.names("ls-files", "-s", "-z"))
        found = {}
        for facts, _, path in entries:
            mode, blob, stage = facts.split()
            found[path] = (mode, blob) if stage == "0" else ("unmerged", "")
        return found

    async def _is_ours(self, change: Change, *, torn: bool) -> bool:
        file = self.path / change.path
        if GITLINK in (change.mode, change.old_mode) or not _plain_parents(self.path, change.path):
            return False
        if not _there(file):
            return torn
        if _is_folder(file):
            return torn and bool(change.old)
        if file.is_symlink() and change.new:
            target = (
                await self.git.run("cat-file", "blob", change.new, into=Into(bounded.PARSED))
            ).out
            return change.mode == SYMLINK and os.fsencode(file.readlink()) == target
        if not change.new or not file.is_file():
            return False
        with tempfile.TemporaryFile() as wanted:
            how = ("cat-file", "--filters", f"--path={change.path}", change.new)
            await self.git.run(*how, into=Into(CONTENT_MOST, wanted))
            is_begun = await to_thread.run_sync(_begins, wanted, file)
            is_empty = not file.stat().st_size
            return is_begun and (not is_empty or torn or not os.fstat(wanted.fileno()).st_size)

    def _prune(self, folder: Path) -> None:
        with suppress(OSError):  # not empty: somebody's
            while folder != self.path:
                folder.rmdir()
                folder = folder.parent

    def _is_free(self, path: str) -> bool:
        """Whether git can write `path` with no loss: it forces its way through folders, links and files."""
        file = self.path / path
        if _is_folder(file):
            for folder, _, _ in os.walk(file, topdown=False):
                with suppress(OSError):
                    Path(folder).rmdir()
        above = [self.path / parent for parent in Path(path).parents]
        return not _is_folder(file) and all(
            _is_folder(folder) or not _there(folder) for folder in above
        )


async def checkouts(user: Git, repository: Repository) -> list[Checkout]:
    """Every working tree of the repository whose folder is there, or is said to be on a medium that comes back."""
    if repository.git_dir == repository.common_dir and not _there(
        repository.common_dir / "worktrees"
    ):
        only = Checkout(repository.root, repository.git_dir, "", user)
        return [replace(only, branch=await only.head())]
    records = (await user.text("worktree", "list", "--porcelain", "-z")).split("\0\0")
    places: list[Checkout] = []
    for record in filter(None, records):
        facts = dict(line.partition(" ")[::2] for line in record.strip("\0").split("\0"))
        path = Path(facts["worktree"])
        if not places and repository.git_dir == repository.common_dir:
            path = repository.root  # git guesses it from the name of the git dir
        if "bare" not in facts and "prunable" not in facts:
            places.append(
                Checkout(path, _git_dir(path, repository.common_dir), facts.get("branch", ""), user)
            )
    return places


def _git_dir(path: Path, common: Path) -> Path:
    link = path / ".git"
    if not link.is_file():
        return link if link.is_dir() else common
    return (path / _text(link).removeprefix("gitdir:").strip()).resolve()


def _head(git_dir: Path, common: Path) -> str | None:
    """What HEAD names, empty when it is detached; None where only git can tell."""
    file = git_dir / "HEAD"
    try:
        text = _text(file).rstrip("\n")
    except OSError:
        return None
    name = text.removeprefix("ref: ")
    if file.is_symlink() or name == "refs/heads/.invalid":  # as in old times; refs in tables
        return None
    if name == text:
        return ""
    return None if any(line.startswith("ref:") for line in _lines(common / name)) else name


def _lines(file: Path) -> list[str]:
    return _text(file).splitlines() if file.is_file() else []


def _text(file: Path) -> str:
    return bounded.head(file, bounded.PARSED).decode(errors="surrogateescape")


def _begins(wanted: IO[bytes], file: Path) -> bool:
    """Whether all that the file holds is how the wanted content begins."""
    wanted.seek(0)
    with file.open("rb") as found:
        while part := found.read(_PART):
            if wanted.read(len(part)) != part:
                return False
    return True


def _in_the_way(root: Path, changes: Sequence[Change]) -> set[str]:
    """The added paths where something is already."""
    gone = [change.path for change in changes if change.status == "D"]
    folded = {
        path.casefold() for path in gone
    }  # Name → name, where the file system sees no difference
    # A folder that becomes a file is git's to judge: it looks at every file in it.
    emptied = {path[:at] for path in gone for at, sign in enumerate(path) if sign == "/"}
    added = [change.path for change in changes if change.status == "A"]
    return {
        path
        for path in added
        if path not in emptied
        and path.casefold() not in folded
        and os.path.lexists(f"{root}/{path}")
    }


def _there(file: Path) -> bool:
    return file.exists() or file.is_symlink()


def _is_folder(file: Path) -> bool:
    return file.is_dir() and not file.is_symlink()


def _plain_parents(root: Path, path: str) -> bool:
    """No folder on the way to `path` is a link that leads elsewhere."""
    return not any((root / parent).is_symlink() for parent in Path(path).parents)


async def patiently(look: Callable[[], Awaitable[T]], seconds: float) -> T:
    """What `look` gives at last: something false, or after so many seconds whatever it is."""
    waiting = AsyncRetrying(
        retry=retry_if_result(bool),
        wait=wait_fixed(0.05),
        stop=stop_after_delay(seconds),
        retry_error_callback=lambda state: state.outcome and state.outcome.result(),
        sleep=anyio.sleep,
    )
    return await waiting(look)
