"""Pooled trees outside of the user's repository, each with a private git dir that borrows the factory's objects.

Invariant: the daemon's git calls on a tree use the factory repository and an index of the daemon's own, never a git dir
found in the tree; so what an agent leaves there neither runs nor redirects, nor reaches the next unit.
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

# Folders that tools make and nobody means to submit; one that trunk tracks something in is not among them.
SHIPPED = (
    *("__pycache__", ".venv", "node_modules", "*.egg-info", ".eggs", ".tox", ".nox"),
    *(
        ".hypothesis",
        ".pytest_cache",
        ".mypy_cache",
        ".ruff_cache",
        ".gradle",
        ".direnv",
        ".aider.tags.cache.*",
    ),
)
_SHIPPED = re.compile(
    rf"(?<![^/])(?:{'|'.join(re.escape(name).replace(chr(92) + '*', '[^/]*') for name in SHIPPED)})/"
)
# Not the user's global attributes, no questions about line ends, no name that another system would take for `.git`.
_PLAIN = (
    "core.attributesFile=/dev/null",
    "core.safecrlf=false",
    "core.protectHFS=true",
    "core.protectNTFS=true",
)
# What a kept attempt consists of survives a power failure; the index can be made anew.
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
        self, *, own: Git, folder: Path, index_dir: Path, trunk_branch: str, excludes: str = ""
    ) -> None:
        self._own = replace(own, config=(*own.config, *_DURABLE))
        self._folder, self._index_dir = folder, index_dir
        with faults.step("folders.make"):
            index_dir.mkdir(parents=True, exist_ok=True)
        self._trunk_branch, self._excludes = trunk_branch, excludes
        self._tags: tuple[object, bytes] = (
            None,
            b"",
        )  # what they were made of, and their lines of packed-refs
        self._tracked: tuple[str, frozenset[str]] = (
            "",
            frozenset(),
        )  # the base, its folders of the shipped list

    def place(self, name: str) -> Path:
        """Where the tree called `name`, and what belongs to it, lies."""
        return self._folder / name

    def git(self, name: str) -> Git:
        """Git on that tree, by the factory repository and the daemon's own index."""
        return replace(
            self._own,
            work_tree=self.place(name) / "tree",
            index=self._index(name),
            config=(
                *self._own.config,
                *_PLAIN,
                f"core.excludesFile={self._index(name, '.exclude')}",
            ),
        )

    async def ground(self, name: str, base: str, keeps: Iterable[str]) -> Ground:
        """What of the tree's untracked files stays out, written where `git(name)` reads it."""
        if base != self._tracked[0]:
            self._tracked = base, frozenset(_shipped_folders(await self._own.listing(base)))
        _, tracked = self._tracked
        lines = [f"{pattern}/" for pattern in SHIPPED] + [
            f"!/{_literal(path)}/" for path in sorted(tracked)
        ]
        excludes = "\n".join([*lines, self._excludes.rstrip("\n"), *patterns(keeps), ""])
        with faults.step("tree.excludes"):
            _write(self._index(name, ".exclude"), excludes)
        return Ground(
            excludes, (frozenset(SHIPPED) - {Path(path).name for path in tracked}).union(keeps)
        )

    @faults.during("tree.reset")
    async def reset(
        self, name: str, rev: str, *, clean: tuple[str, ...], caches: Iterable[str]
    ) -> None:
        """Make the tree exactly `rev`, less what `clean` spares; raise FactoryError if not even a new one succeeds.

        First as it stands, then without trusting the index, then in a new folder. Repositories in it are deleted with
        their folders (git would leave those in tracked ones), but for those in `caches` (names, or paths).
        """
        trouble = ""
        for remedy in (self._enter, self._forget, self._discard):
            await remedy(name)
            if not (trouble := await self._reset_once(name, rev, clean=clean, caches=caches)):
                return
        raise FactoryError(
            f"{self.place(name)} could not be set to {rev}: {trouble}. Nothing else was touched."
        )

    @faults.during("tree.git")
    async def renew_git(self, name: str, head: str, *, excludes: str) -> None:
        """Replace the tree's own `.git` by a new one: HEAD detached at `head`, trunk's branch, the tags."""
        refs = await self._refs()
        target = self.place(name) / "tree" / ".git"
        await self.remove(target)
        await to_thread.run_sync(private_git.write, target, self._own.git_dir, head, refs, excludes)
        await to_thread.run_sync(shutil.copy2, self._index(name), target / "index")

    async def _refs(self) -> bytes:
        """Trunk's branch and the tags, as packed-refs has them; git is asked only when tags have changed."""
        marks = self._own.tag_marks()
        if marks != self._tags[0]:
            self._tags = marks, (await self._own.run("for-each-ref", _PACKED_REF, "refs/tags")).out
        trunk = self._own.read_ref(f"refs/heads/{self._trunk_branch}")
        return (
            os.fsencode(f"{trunk} refs/heads/{self._trunk_branch}\n") if trunk else b""
        ) + self._tags[1]

    async def ignored(self, name: str) -> list[str]:
        """What git ignores in the tree, whole folders as one, less what tools make everywhere."""
        await to_thread.run_sync(
            sweep, self.place(name) / "tree"
        )  # a fifo called .gitignore would stop git for ever
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
        return sorted(path.name for path in self._folder.iterdir()) if is_real(self._folder) else []

    @faults.during("tree.abandon")
    def abandon(self, name: str) -> Path:
        """Put everything called `name` out of use under another name, since something may still write to it."""
        aside = self._folder / f"{name}{ABANDONED}{secrets.token_hex(4)}"
        if os.path.lexists(self.place(name)):
            self.place(name).rename(aside)
        if self._index(
            name
        ).exists():  # by it git sees what has changed, without reading all of the tree
            self._index(name).replace(self._index(aside.name))
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
        # The index folder is the daemon's alone and a tree has one owner, so this lock is of a git that was killed.
        self._index(name, ".lock").unlink(missing_ok=True)

    async def _forget(self, name: str) -> None:
        self._index(name).unlink(missing_ok=True)

    async def _discard(self, name: str) -> None:
        aside = self.abandon(name)
        await self._enter(name)
        await self.remove(aside)

    async def _reset_once(
        self, name: str, rev: str, *, clean: tuple[str, ...], caches: Iterable[str]
    ) -> str:
        git = self.git(name)
        tree = self.place(name) / "tree"
        try:
            for nested in await to_thread.run_sync(sweep, tree):
                if not any(f"/{cache}/" in f"/{nested}/" for cache in caches):
                    await self.remove(tree / nested)
            reset = await git.run("read-tree", "-u", "--reset", rev, seconds=CHECKOUT_S)
            amiss = await beginning_of(
                git, "ls-files", "-z", "-o", "-m", "-d", "--directory", *_shown(clean)
            )
            if not (reset.err or any(amiss)):
                return ""
            cleaned = await git.run("clean", "-q", *clean)
            # A tracked folder that became a link to itself elsewhere passes read-tree and loses its link to clean.
            lost, _ = await beginning_of(git, "diff-files", "--name-only", "--diff-filter=DT")
        except TooLong:
            raise  # the tree is not to blame: another remedy would take as long
        except (GitError, OSError) as error:
            return str(error)
        return (reset.err + cleaned.err + lost).decode(errors="replace")

    async def remove(self, path: Path) -> None:
        """Delete a file, a link (never what it leads to) or a whole folder; what cannot be deleted stays."""
        await to_thread.run_sync(disk.remove, path)


def _tops(paths: Iterable[str]) -> list[str]:
    """Those of the paths that lie in no other, less what tools make everywhere."""
    tops = set[str]()
    for path in sorted((path.rstrip("/") for path in paths), key=len):
        above = map(str, PurePosixPath(path).parents)
        if not _SHIPPED.search(f"{path}/") and tops.isdisjoint(above):
            tops.add(path)
    return sorted(tops)


def _shown(clean: Sequence[str]) -> list[str]:
    """Options that make `ls-files -o` show what `clean` with its options would delete."""
    spared = ["-x" if option == "-e" else option for option in clean[1:]]
    return spared if "x" in clean[0] else ["--exclude-standard"]


def _shipped_folders(paths: Iterable[str]) -> Iterator[str]:
    """The folders of the shipped list that these tracked files lie in."""
    for path in paths:
        for found in _SHIPPED.finditer(path):
            yield path[: found.end() - 1]


def all_but(paths: Iterable[str]) -> tuple[str, ...]:
    """Options for git to clean away all that is not tracked, ignored files too, but for these paths."""
    return ("-ffdx", *(option for pattern in patterns(paths) for option in ("-e", pattern)))


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


def is_real(path: Path) -> bool:
    """It is a folder, and no link to one."""
    return path.is_dir() and not path.is_symlink()


def _write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.fsencode(content))
