"""Pooled trees outside the user's repository, each with a private git dir.

Invariant: the daemon's git calls on a tree use the factory repository and the daemon's own index,
never a git dir in the tree. So nothing that an agent leaves there can run, redirect git, or reach
the next unit.
"""

import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from anyio import to_thread

from factory.ground import disk, faults
from factory.ground.errors import FactoryError, GitError, TooLong, TooMuch
from factory.ground.pipes import Into
from factory.ground.regular import is_real
from factory.repo import private_git
from factory.repo.git import Git
from factory.repo.sweep import sweep

# Folders that tools create and that nobody wants to submit. A folder in which trunk tracks a file
# does not count as one of them.
SHIPPED = (
    "__pycache__",
    ".venv",
    "node_modules",
    "*.egg-info",
    ".eggs",
    ".tox",
    ".nox",
    ".hypothesis",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    ".gradle",
    ".direnv",
    ".aider.tags.cache.*",
)
_ONE_OF_THEM = "|".join(map(re.escape, SHIPPED)).replace(r"\*", "[^/]*")
_SHIPPED = re.compile(rf"(?<![^/])(?:{_ONE_OF_THEM})/")
# These settings ignore the user's global attributes, turn off complaints about line ends, and
# refuse names that another system would treat as `.git`.
_PLAIN = (
    "core.attributesFile=/dev/null",
    "core.safecrlf=false",
    "core.protectHFS=true",
    "core.protectNTFS=true",
)
# The objects of a kept attempt must survive a power failure. The index need not, because git can
# rebuild it.
_DURABLE = ("core.fsync=all,-index", "core.fsyncMethod=batch")
_PACKED_REF = "--format=%(objectname) %(refname)%(if)%(*objectname)%(then)%0a^%(*objectname)%(end)"
ABANDONED = ".abandoned-"
TOLD_BYTES = 4 << 20  # bytes kept of git's error messages about a tree
CHECKOUT_S = 600.0  # time limit in seconds for writing a whole tree


@dataclass(frozen=True, slots=True)
class Ground:
    """What the base commit says about untracked files."""

    excludes: str  # gitignore lines; the tree's own lines override them
    # Names of folders; a repository inside such a folder belongs to a tool and not to the agent.
    caches: frozenset[str]


class Checkouts:
    """Named working trees in one folder: the common part of workspaces and benches."""

    def __init__(
        self,
        *,
        own: Git,
        folder: Path,
        index_dir: Path,
        trunk_branch: str,
        excludes: str = "",
    ) -> None:
        self._own = replace(own, config=(*own.config, *_DURABLE))
        self._folder = folder
        self._index_dir = index_dir
        with faults.step("folders.make"):
            index_dir.mkdir(parents=True, exist_ok=True)
        self._trunk_branch = trunk_branch
        self._excludes = excludes
        self._tag_marks: object = None  # the value of `tag_marks` when the tags were read
        self._tag_lines = b""  # the tags in the format of packed-refs
        self._base = ""  # the newest base commit
        # the folders of the shipped list in which the base tracks a file
        self._tracked = frozenset[str]()

    def place(self, name: str) -> Path:
        """Return the folder with the tree called `name` and everything that belongs to the tree."""
        return self._folder / name

    def git(self, name: str) -> Git:
        """Return git for that tree, with the factory repository and the daemon's own index."""
        excludes = f"core.excludesFile={self._index(name, '.exclude')}"
        return replace(
            self._own,
            work_tree=self.place(name) / "tree",
            index=self._index(name),
            config=(*self._own.config, *_PLAIN, excludes),
        )

    async def ground(self, name: str, base: str, keeps: Iterable[str]) -> Ground:
        """Write the list of untracked files to leave out; `git(name)` then reads this list."""
        tracked = await self._tracked_at(base)
        lines = [f"{pattern}/" for pattern in SHIPPED]
        caches = {*SHIPPED}
        for path in sorted(tracked):
            lines.append(f"!/{_literal(path)}/")
            caches.discard(Path(path).name)
        lines += [self._excludes.rstrip("\n"), *patterns(keeps), ""]
        excludes = "\n".join(lines)
        with faults.step("tree.excludes"):
            file = self._index(name, ".exclude")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(os.fsencode(excludes))
        return Ground(excludes, frozenset(caches.union(keeps)))

    async def _tracked_at(self, base: str) -> frozenset[str]:
        """Return the folders of the shipped list in which the base tracks a file."""
        if base != self._base:
            tracked = frozenset(_shipped_folders(await self._own.listing(base)))
            self._base = base
            self._tracked = tracked
        return self._tracked

    @faults.during("tree.reset")
    async def reset(
        self,
        name: str,
        rev: str,
        *,
        clean: tuple[str, ...],
        caches: Iterable[str],
    ) -> None:
        """Make the tree exactly `rev`, but keep what `clean` spares; raise FactoryError on failure.

        It tries three ways: with the current index, without trusting the index, and in a new
        folder. It deletes nested repositories with their folders, but not in `caches` (names or
        paths). git alone would leave the nested repositories that lie in tracked folders.
        """
        trouble = ""
        for remedy in (self._enter, self._forget, self._discard):
            await remedy(name)
            trouble = await self._reset_once(name, rev, clean=clean, caches=caches)
            if not trouble:
                return
        where = self.place(name)
        raise FactoryError(
            f"{where} could not be set to {rev}: {trouble}. Nothing else was touched."
        )

    @faults.during("tree.git")
    async def renew_git(
        self,
        name: str,
        head: str,
        *,
        excludes: str,
    ) -> None:
        """Replace the tree's `.git`: HEAD detached at `head`, with trunk's branch and the tags."""
        refs = await self._refs()
        target = self.place(name) / "tree" / ".git"
        await self.remove(target)
        await to_thread.run_sync(private_git.write, target, self._own.git_dir, head, refs, excludes)
        await to_thread.run_sync(shutil.copy2, self._index(name), target / "index")

    async def _refs(self) -> bytes:
        """Return trunk's branch and the tags as packed-refs lines.

        It runs git only if tags changed.
        """
        marks = self._own.tag_marks()
        if marks != self._tag_marks:
            printed = await self._own.run("for-each-ref", _PACKED_REF, "refs/tags")
            self._tag_marks = marks
            self._tag_lines = printed.out
        branch = f"refs/heads/{self._trunk_branch}"
        trunk = self._own.read_ref(branch)
        if not trunk:
            return self._tag_lines
        return os.fsencode(f"{trunk} {branch}\n") + self._tag_lines

    async def ignored(self, name: str) -> list[str]:
        """Return what git ignores in the tree, without what common tools create.

        If git ignores a whole folder, the folder is one entry.
        """
        # A fifo called .gitignore would block git forever.
        await to_thread.run_sync(sweep, self.place(name) / "tree")
        asked = ("ls-files", "-z", "-o", "-i", "--exclude-standard", "--directory")
        return await to_thread.run_sync(_tops, await self.git(name).names(*asked))

    async def contents(self, rev: str) -> Mapping[str, str]:
        """Return what a commit or a tree contains: path → id of the content."""
        return await self._own.listing(rev)

    async def tree_of(self, commit: str) -> str:
        """Return the id of a commit's tree."""
        return await self._own.tree(commit)

    def names(self) -> list[str]:
        """Return the names of everything in the folder of trees."""
        return [path.name for path in inside(self._folder)]

    @faults.during("tree.abandon")
    def abandon(self, name: str) -> Path:
        """Rename everything called `name`, because a process may still write there."""
        aside = self._folder / f"{name}{ABANDONED}{secrets.token_hex(4)}"
        if os.path.lexists(self.place(name)):
            self.place(name).rename(aside)
        index = self._index(name)
        # with the index, git finds the changes without reading the whole tree
        if index.exists():
            index.replace(self._index(aside.name))
        return aside

    async def drop(self, name: str) -> None:
        """Delete everything called `name`."""
        await self.remove(self.place(name))
        for suffix in ("", ".exclude", ".lock"):
            self._index(name, suffix).unlink(missing_ok=True)

    def _index(self, name: str, suffix: str = "") -> Path:
        return self._index_dir / f"{self._folder.name}-{name}{suffix}"

    @faults.during("tree.enter")
    async def _enter(self, name: str) -> None:
        for path in (self.place(name), self.place(name) / "tree"):
            if not is_real(path):
                path.unlink(missing_ok=True)
                path.mkdir(parents=True)
            disk.reopen(path)
        # Only the daemon uses the index folder, and a tree has one owner, so only a git that was
        # killed can have left this lock.
        self._index(name, ".lock").unlink(missing_ok=True)

    async def _forget(self, name: str) -> None:
        self._index(name).unlink(missing_ok=True)

    async def _discard(self, name: str) -> None:
        aside = self.abandon(name)
        await self._enter(name)
        await self.remove(aside)

    async def _reset_once(
        self,
        name: str,
        rev: str,
        *,
        clean: tuple[str, ...],
        caches: Iterable[str],
    ) -> str:
        git = self.git(name)
        tree = self.place(name) / "tree"
        try:
            for nested in await to_thread.run_sync(sweep, tree):
                if not _lies_in(nested, caches):
                    await self.remove(tree / nested)
            reset = await git.run("read-tree", "-u", "--reset", rev, seconds=CHECKOUT_S)
            looked = ("ls-files", "-z", "-o", "-m", "-d", "--directory", *_shown(clean))
            amiss = await beginning_of(git, *looked)
            if not (reset.err or any(amiss)):
                return ""
            cleaned = await git.run("clean", "-q", *clean)
            # If a tracked folder became a link to its copy elsewhere, read-tree accepts it and
            # clean removes the link.
            lost, _ = await beginning_of(git, "diff-files", "--name-only", "--diff-filter=DT")
        except TooLong:
            raise  # the tree is not the cause, and the other ways would take just as long
        except (GitError, OSError) as error:
            return str(error)
        return (reset.err + cleaned.err + lost).decode(errors="replace")

    async def remove(self, path: Path) -> None:
        """Delete a file, a link (never its target) or a whole folder, as far as possible."""
        await to_thread.run_sync(disk.remove, path)


def _lies_in(path: str, folders: Iterable[str]) -> bool:
    """Whether the path is one of these names or paths, or lies inside such a folder."""
    for folder in folders:
        if f"/{folder}/" in f"/{path}/":
            return True
    return False


def _tops(paths: Iterable[str]) -> list[str]:
    """Return the paths that lie inside none of the others, without what common tools create."""
    tops = set[str]()
    # a folder sorts before its content, with or without its slash
    for found in sorted(paths, key=len):
        path = found.rstrip("/")
        above = map(str, PurePosixPath(path).parents)
        if not _SHIPPED.search(f"{path}/") and tops.isdisjoint(above):
            tops.add(path)
    return sorted(tops)


def _shown(clean: Sequence[str]) -> list[str]:
    """Return options that make `ls-files -o` list what `clean` with its options would delete."""
    if "x" not in clean[0]:
        return ["--exclude-standard"]
    return ["-x" if option == "-e" else option for option in clean[1:]]


def _shipped_folders(paths: Iterable[str]) -> Iterator[str]:
    """Yield the folders of the shipped list that contain one of these tracked files."""
    for path in paths:
        for found in _SHIPPED.finditer(path):
            yield path[: found.end() - 1]


def all_but(paths: Iterable[str]) -> tuple[str, ...]:
    """Return options that make git delete all untracked or ignored files except these paths."""
    options = ["-ffdx"]
    for pattern in patterns(paths):
        options += ["-e", pattern]
    return tuple(options)


def patterns(paths: Iterable[str]) -> list[str]:
    """Return these paths as gitignore patterns that match nothing else."""
    return [f"/{_literal(path)}" for path in paths]


async def beginning_of(git: Git, *argv: str, ok: tuple[int, ...] = (0,)) -> tuple[bytes, bytes]:
    """Return the beginnings of a command's output and of its error messages."""
    try:
        done = await git.run(*argv, ok=ok, into=Into(TOLD_BYTES))
    except TooMuch as error:
        return error.out, b""
    return done.out, done.err


def _literal(path: str) -> str:
    """Return the path as a gitignore pattern that matches nothing else."""
    return re.sub(r"[\\*?\[ \t]", r"\\\g<0>", path)


@faults.during("tree.abandon")
def put_aside(place: Path) -> None:
    """Rename a folder, because a process may still write there."""
    place.rename(place.with_name(f"{place.name}{ABANDONED}{secrets.token_hex(4)}"))


def inside(folder: Path) -> list[Path]:
    """Return the sorted content of a folder; [] if the folder is missing or a link."""
    return sorted(folder.iterdir()) if is_real(folder) else []
