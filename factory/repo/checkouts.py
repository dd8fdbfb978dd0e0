"""Pooled trees outside of the user's repository, each with a private git dir.

Invariant: the daemon's git calls on a tree use the factory repository and an index of the daemon's
own, never a git dir found in the tree; so what an agent leaves there neither runs nor redirects,
nor reaches the next unit.
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
from factory.repo import private_git
from factory.repo.git import Git
from factory.repo.sweep import sweep

# Folders that tools make and nobody means to submit; one that trunk tracks something in is not
# among them.
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
# Not the user's global attributes, no questions about line ends, no name that another system would
# take for `.git`.
_PLAIN = (
    "core.attributesFile=/dev/null",
    "core.safecrlf=false",
    "core.protectHFS=true",
    "core.protectNTFS=true",
)
# The objects of a kept attempt survive a power failure; the index can be made again.
_DURABLE = ("core.fsync=all,-index", "core.fsyncMethod=batch")
_PACKED_REF = "--format=%(objectname) %(refname)%(if)%(*objectname)%(then)%0a^%(*objectname)%(end)"
ABANDONED = ".abandoned-"
TOLD_BYTES = 4 << 20  # of what git says to be amiss in a tree
CHECKOUT_S = 600.0  # what writing a whole tree may take


@dataclass(frozen=True, slots=True)
class Ground:
    """What the base says about untracked files."""

    excludes: str  # gitignore lines below the tree's own
    caches: frozenset[str]  # names of folders in which a repository is not the agent's but a tool's


class Checkouts:
    """Named working trees in one folder, with what workspaces and benches do alike."""

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
        self._tag_marks: object = None  # of the tags when they were read
        self._tag_lines = b""  # the tags, as packed-refs has them
        self._base = ""  # the newest base
        self._tracked = frozenset[str]()  # its folders of the shipped list

    def place(self, name: str) -> Path:
        """Where the tree called `name`, and what belongs to it, lies."""
        return self._folder / name

    def git(self, name: str) -> Git:
        """Git on that tree, by the factory repository and the daemon's own index."""
        excludes = f"core.excludesFile={self._index(name, '.exclude')}"
        return replace(
            self._own,
            work_tree=self.place(name) / "tree",
            index=self._index(name),
            config=(*self._own.config, *_PLAIN, excludes),
        )

    async def ground(self, name: str, base: str, keeps: Iterable[str]) -> Ground:
        """What of the tree's untracked files stays out, written where `git(name)` reads it."""
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
        """The folders of the shipped list in which the base tracks something."""
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
        """Make the tree exactly `rev`, with what `clean` spares; raise FactoryError if that fails.

        First as it stands, then without trusting the index, then in a new folder. Repositories in
        it are deleted with their folders (git would leave those in tracked ones), but for those in
        `caches` (names, or paths).
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
        """Replace the tree's `.git`: HEAD detached at `head`, trunk's branch, the tags."""
        refs = await self._refs()
        target = self.place(name) / "tree" / ".git"
        await self.remove(target)
        await to_thread.run_sync(private_git.write, target, self._own.git_dir, head, refs, excludes)
        await to_thread.run_sync(shutil.copy2, self._index(name), target / "index")

    async def _refs(self) -> bytes:
        """Trunk's branch and the tags, as packed-refs has them; git runs only when tags changed."""
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
        """What git ignores in the tree, whole folders as one, less what tools make everywhere."""
        # A fifo called .gitignore would stop git for ever.
        await to_thread.run_sync(sweep, self.place(name) / "tree")
        asked = ("ls-files", "-z", "-o", "-i", "--exclude-standard", "--directory")
        return await to_thread.run_sync(_tops, await self.git(name).names(*asked))

    async def contents(self, rev: str) -> Mapping[str, str]:
        """What a commit or a tree holds, by path, each with the id of its content."""
        return await self._own.listing(rev)

    async def tree_of(self, commit: str) -> str:
        """The id of a commit's tree."""
        return await self._own.tree(commit)

    def names(self) -> list[str]:
        """Everything in the folder, whatever put it there."""
        return [path.name for path in inside(self._folder)]

    @faults.during("tree.abandon")
    def abandon(self, name: str) -> Path:
        """Give everything called `name` another name: something may still write to it."""
        aside = self._folder / f"{name}{ABANDONED}{secrets.token_hex(4)}"
        if os.path.lexists(self.place(name)):
            self.place(name).rename(aside)
        index = self._index(name)
        if index.exists():  # by it git sees what has changed, without reading all of the tree
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
        # The index folder is the daemon's alone and a tree has one owner, so this lock is of a git
        # that was killed.
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
            # A tracked folder that became a link to itself elsewhere passes read-tree and loses its
            # link to clean.
            lost, _ = await beginning_of(git, "diff-files", "--name-only", "--diff-filter=DT")
        except TooLong:
            raise  # the tree is not to blame: another remedy would take as long
        except (GitError, OSError) as error:
            return str(error)
        return (reset.err + cleaned.err + lost).decode(errors="replace")

    async def remove(self, path: Path) -> None:
        """Delete a file, a link (never its target) or a whole folder, as far as possible."""
        await to_thread.run_sync(disk.remove, path)


def _lies_in(path: str, folders: Iterable[str]) -> bool:
    """Whether the path is in a folder with one of these names or paths, or is it."""
    for folder in folders:
        if f"/{folder}/" in f"/{path}/":
            return True
    return False


def _tops(paths: Iterable[str]) -> list[str]:
    """Those of the paths that lie in no other, less what tools make everywhere."""
    tops = set[str]()
    for found in sorted(paths, key=len):  # a folder before what is in it, with its slash or without
        path = found.rstrip("/")
        above = map(str, PurePosixPath(path).parents)
        if not _SHIPPED.search(f"{path}/") and tops.isdisjoint(above):
            tops.add(path)
    return sorted(tops)


def _shown(clean: Sequence[str]) -> list[str]:
    """Options that make `ls-files -o` show what `clean` with its options would delete."""
    if "x" not in clean[0]:
        return ["--exclude-standard"]
    return ["-x" if option == "-e" else option for option in clean[1:]]


def _shipped_folders(paths: Iterable[str]) -> Iterator[str]:
    """The folders of the shipped list that these tracked files lie in."""
    for path in paths:
        for found in _SHIPPED.finditer(path):
            yield path[: found.end() - 1]


def all_but(paths: Iterable[str]) -> tuple[str, ...]:
    """Options for git to clean away all that is not tracked, ignored files too, but these paths."""
    options = ["-ffdx"]
    for pattern in patterns(paths):
        options += ["-e", pattern]
    return tuple(options)


def patterns(paths: Iterable[str]) -> list[str]:
    """These paths as gitignore patterns that match them alone."""
    return [f"/{_literal(path)}" for path in paths]


async def beginning_of(git: Git, *argv: str, ok: tuple[int, ...] = (0,)) -> tuple[bytes, bytes]:
    """How the output of a command about a tree begins, and what it complains of."""
    try:
        done = await git.run(*argv, ok=ok, into=Into(TOLD_BYTES))
    except TooMuch as error:
        return error.out, b""
    return done.out, done.err


def _literal(path: str) -> str:
    """The path as a gitignore pattern that matches it alone."""
    return re.sub(r"[\\*?\[ \t]", r"\\\g<0>", path)


def inside(folder: Path) -> list[Path]:
    """What lies in a folder, sorted; nothing where there is none, or a link to one."""
    return sorted(folder.iterdir()) if is_real(folder) else []


def is_real(path: Path) -> bool:
    """It is a folder, and no link to one."""
    return path.is_dir() and not path.is_symlink()
