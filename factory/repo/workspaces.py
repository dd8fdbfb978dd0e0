"""Workspaces: the trees in which agents work, and the way factoryd keeps their work.

Invariant: factoryd makes a commit of the tree that an attempt leaves before it does anything else
in the workspace.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from anyio import to_thread

from factory.ground import bounded, disk, faults
from factory.ground.errors import GitError, TooLong, TooMuch
from factory.ground.pipes import Into
from factory.ground.plumbing import GITLINK
from factory.ground.regular import is_real
from factory.repo import kept
from factory.repo.archive import ATTEMPTS
from factory.repo.checkouts import (
    ABANDONED,
    CHECKOUT_S,
    TOLD_BYTES,
    Checkouts,
    all_but,
    beginning_of,
)
from factory.repo.git import FACTORY, Git
from factory.repo.git_dir import ended_by_nul
from factory.repo.meanwhile import OnTrunk, changers
from factory.repo.measure import NOTHING_IN_TIME, STAGE_S, Share, TooBig, share_of
from factory.repo.sweep import make_readable, move_git_dirs, sweep

_INTENT_CHARACTERS = 8192
# file beside the tree: the nonce of the attempt that the workspace was prepared for
CLAIM = "attempt"
MOST_MISSED = 100
DIFF_MOST = 16 << 20  # most bytes of the diff of an earlier attempt
MOST_ASKED = 200  # most paths for which commit messages are collected


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """A worker's working tree; its venv, home and tmp lie beside the tree in `place`."""

    name: str
    place: Path
    # paths in the tree that setup created: never deleted, never submitted
    keeps: tuple[str, ...] = ()

    @property
    def tree(self) -> Path:
        """The folder that the agent works in."""
        return self.place / "tree"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The result of an agent's work, as a tree in the factory repository."""

    tree: str
    changed: bool  # whether the tree differs from the base
    nested: tuple[str, ...] = ()  # folders that were repositories and are ordinary folders now
    left_out: str = ""  # git's message about what it could not read
    missed: tuple[str, ...] = ()  # the paths that git did not take, at most MOST_MISSED
    too_big: TooBig | None = None  # what the tree lacks of the workspace, and why
    # whether the workspace itself was deleted or replaced. Then the tree is the base's tree.
    gone: bool = False

    @property
    def lacking(self) -> tuple[str, ...]:
        """The known paths that are in the workspace, but not in the tree."""
        paths = list(self.missed)
        if self.too_big:
            paths += [path for path, _ in self.too_big.paths]
        return tuple(paths[:MOST_MISSED])


@dataclass(frozen=True, slots=True)
class Conflict:
    """The previous attempt does not merge onto the new base. A file has the attempt's diff."""

    paths: tuple[str, ...]
    diff: Path
    intent: str  # the messages of the other commits that changed these paths meanwhile
    changers: tuple[OnTrunk, ...] = ()  # the commits that changed the same lines, if git knows them


class Workspaces(Checkouts):
    """The workers' trees: prepares them for an attempt, and takes snapshots after it."""

    def at(self, name: str, *, keeps: tuple[str, ...] = ()) -> Workspace:
        """Return the workspace called `name`, and leave it unchanged."""
        return Workspace(name=name, place=self.place(name), keeps=keeps)

    async def prepare(
        self,
        workspace: Workspace,
        *,
        base: str,
        nonce: str = "",
        tree: str = "",
        renew_git: bool = True,
        spares: tuple[str, ...] | None = (),
    ) -> Workspace:
        """Make the workspace show `base`, or `tree` as uncommitted work on it.

        `nonce` identifies the attempt that owns the workspace from now on. `spares`: the ignored
        files that stay; None keeps all of them, because no other unit used the workspace. Without
        `renew_git`, the `.git` of a resumed session stays, if it is still a folder. Raises
        FactoryError.
        """
        name = workspace.name
        ground = await self.ground(name, base, workspace.keeps)
        await self._enter(name)
        self._claim(name, nonce)
        renewed = renew_git or not is_real(workspace.tree / ".git")
        first = base if renewed else tree or base
        if spares is None:
            await self.reset(name, first, clean=("-ffd",), caches=ground.caches)
        else:
            await self.reset(name, first, clean=all_but(spares), caches=spares)
        if renewed:
            await self.renew_git(name, base, excludes=ground.excludes)
        if tree and tree != first:
            # This comes after the copy of the index, so that the agent's git shows the earlier work
            # as uncommitted changes.
            with faults.step("tree.carry"):
                await self.git(name).run("read-tree", "-u", "--reset", tree, seconds=CHECKOUT_S)
        return workspace

    @faults.during("tree.claim")
    def _claim(self, name: str, nonce: str) -> None:
        # This comes before any change in the tree, because from now on the tree's content belongs
        # to this attempt.
        path = self.place(name) / CLAIM
        disk.remove(path)
        path.write_text(nonce)

    def claimed_by(self, name: str) -> str:
        """Return the nonce of the attempt that the workspace was last prepared for.

        The result is "" if the nonce is unknown.
        """
        path = self.place(name) / CLAIM
        with suppress(OSError):
            if not path.is_symlink():
                return bounded.head(path, 200).decode(errors="replace").strip()
        return ""

    def where(self, name: str, nonce: str) -> str:
        """Return the present name of an attempt's workspace.

        This is `name`, or the new name that an interrupted run gave the workspace.
        """
        if not nonce or self.claimed_by(name) == nonce:
            return name
        for each in self.names():
            if each.startswith(f"{name}{ABANDONED}") and self.claimed_by(each) == nonce:
                return each
        return name

    async def kept(
        self,
        unit: str,
        attempt: int,
        *,
        nonce: str,
    ) -> str:
        """Return the commit that keeps an attempt's work; "" if the attempt has none."""
        work = await kept.read(self._own, _ref(unit, attempt))
        return work.commit if work and nonce and work.run == nonce else ""

    async def snapshot(
        self,
        workspace: Workspace,
        *,
        base: str,
        aside: Path,
    ) -> Snapshot:
        """Write what the agent left as a tree; no process of the attempt may still run.

        Moves the git dirs of nested repositories to `aside`/nested, except submodules of `base`.
        """
        name = workspace.name
        git = self.git(name)
        base_tree = await self._own.tree(base)
        if not _all_real(workspace.place, workspace.tree):
            return Snapshot(tree=base_tree, changed=False, gone=True)
        await self.ground(name, base, workspace.keeps)
        with faults.step("attempt.stage"):
            await self._enter(name)
            found = await to_thread.run_sync(sweep, workspace.tree)
            links = await self._gitlinks(base) if found else []
            nested = await self._foreign(git, links, found)
            with faults.step("attempt.nested"):
                to = aside / "nested"
                odd = await to_thread.run_sync(move_git_dirs, workspace.tree, nested, to)
            modules = [link for link in links if link in found]
            share = await self._share(git, name, base)
            left_out, too_big = await self._stage(git, name, base, modules, share)
            missed = await self._missed(git, [*modules, *share.spared]) if left_out else []
            tree = await git.text("write-tree")
        return Snapshot(
            tree=tree,
            changed=tree != base_tree,
            nested=tuple(nested),
            left_out=left_out,
            missed=(*missed, *odd),
            too_big=too_big,
        )

    @faults.during("attempt.carry")
    async def carry(
        self,
        previous: str,
        *,
        onto: str,
        diff: Path,
    ) -> str | Conflict:
        """Return the tree of attempt commit `previous` merged onto commit `onto`.

        On a conflict, write the diff of `previous` to `diff`.
        """
        tree, conflicts = await self._own.merge(onto, previous, since=f"{previous}^")
        if tree:
            return tree
        await self._write_diff(previous, diff)
        how = ("--reverse", "--no-show-signature", "--format=%B", f"{previous}^..{onto}")
        said = await self._intents(*how, "--", *conflicts[:MOST_ASKED])
        others = list[OnTrunk]()
        with suppress(GitError):  # the names only help
            others = await changers(self._own, f"{previous}^", onto, previous, conflicts)
        return Conflict(conflicts, diff, said[:_INTENT_CHARACTERS].strip(), tuple(others))

    async def _write_diff(self, commit: str, target: Path) -> None:
        """Write an attempt's diff. If it is too long, write only the names of changed files."""
        target.parent.mkdir(parents=True, exist_ok=True)
        change = (f"{commit}^", commit)
        whole = ("diff-tree", "-p", "--full-index", "--binary", *change)
        names = ("diff-tree", "-r", "--no-commit-id", "--name-status", *change)
        with target.open("wb") as file:
            try:
                await self._own.run(*whole, into=Into(DIFF_MOST, file))
            except TooMuch:
                file.seek(0)
                file.truncate()
                file.write(f"The diff is too long: git show {commit}. It changed:\n\n".encode())
                file.flush()
                await self._own.run(*names, into=Into(DIFF_MOST * 4, file))

    async def _intents(self, *how: str) -> str:
        """Return the messages of commits, cut at TOLD_BYTES."""
        env = {"GIT_LITERAL_PATHSPECS": "1"}
        try:
            done = await self._own.run("log", *how, env=env, into=Into(TOLD_BYTES))
        except TooMuch as error:
            return os.fsdecode(error.out)
        return os.fsdecode(done.out)

    @faults.during("attempt.keep")
    async def keep(
        self,
        unit: str,
        attempt: int,
        *,
        tree: str,
        base: str,
        message: str,
    ) -> str:
        """Keep an attempt's tree permanently, under refs/factory/attempts/UNIT/N.

        If the ref already keeps the same tree, return the same commit. If the ref keeps another
        tree, keep that one under a second name.
        """
        ref = _ref(unit, attempt)
        before = await kept.read(self._own, ref)
        work = (tree, base, kept.run_in(message))
        if before and (before.tree, before.base, before.run) == work:
            return before.commit
        commit = await self.commit(tree, base=base, message=message)
        await kept.put(self._own, ref, commit, before)
        return commit

    async def commit(
        self,
        tree: str,
        *,
        base: str,
        message: str,
    ) -> str:
        """Create a commit of the factory in the factory repository; no ref keeps it yet."""
        return await self._own.commit_tree(tree, [base], message, author=FACTORY, committer=FACTORY)

    async def _gitlinks(self, base: str) -> list[str]:
        entries = await self._own.names("ls-tree", "-r", "-z", base)
        return [entry.partition("\t")[2] for entry in entries if entry.startswith(GITLINK)]

    async def _foreign(self, git: Git, links: list[str], nested: list[str]) -> list[str]:
        """Return nested repositories that are neither ignored nor in a submodule of the base."""
        modules = tuple(f"{link}/" for link in links)
        ours = [path for path in nested if not f"{path}/".startswith(modules)]
        if not ours:
            return []
        how = ("check-ignore", "--no-index", "-z", "--stdin")
        done = await git.run(*how, stdin=ended_by_nul(ours), ok=(0, 1))
        ignored = set(os.fsdecode(done.out).split("\0"))
        return [path for path in ours if path not in ignored]

    async def _share(self, git: Git, name: str, base: str) -> Share:
        """Return the part of the tree to stage. If the index is damaged, first replace it."""
        tree = self.place(name) / "tree"
        if self._index(name).exists():
            with suppress(GitError):
                return await share_of(git, tree)
            await self._forget(name)
        await git.run("read-tree", base)
        # Without this, every file would count as changed.
        how = ("update-index", "-q", "--ignore-submodules", "--refresh")
        await git.run(*how, ok=(0, 1), seconds=STAGE_S)
        return await share_of(git, tree)

    async def _stage(
        self,
        git: Git,
        name: str,
        base: str,
        modules: Sequence[str],
        share: Share,
    ) -> tuple[str, TooBig | None]:
        """Stage the share of the tree; return git's messages, and why something is missing."""
        if not share.option:
            return "", share.too_big
        try:
            return await self._add(git, name, base, modules, share), share.too_big
        except TooLong:
            if git.commands.hurries:  # the daemon is stopping, and the next one stages the tree
                raise
            return "", NOTHING_IN_TIME

    async def _add(
        self,
        git: Git,
        name: str,
        base: str,
        modules: Sequence[str],
        share: Share,
    ) -> str:
        """Update the daemon's index to the share of the tree; return git's error messages.

        `modules` are submodules that the agent populated. They are not given to `git add`, because
        it would run git in them, with the configuration there.
        """
        add = ["add", share.option, "--ignore-errors"]
        spared = [f":(exclude,literal){path}" for path in (*modules, *share.spared)]
        if spared:
            add += ["--", ".", *spared]
        done = await git.run(*add, ok=(0, 1, 128), seconds=STAGE_S)
        if done.err:
            await to_thread.run_sync(make_readable, self.place(name) / "tree")
            done = await git.run(*add, ok=(0, 1, 128), seconds=STAGE_S)
        if done.code == 128:
            # The index is damaged, or the content does not fit an attribute
            # (working-tree-encoding), so store the bytes unchanged.
            await self._forget(name)
            await git.run("read-tree", base)
            no_tree = await git.text("hash-object", "-t", "tree", os.devnull)
            done = await git.run(f"--attr-source={no_tree}", *add, ok=(0, 1), seconds=STAGE_S)
        if modules:  # of a submodule, add only the commit that its HEAD names
            await git.run("update-index", "-z", "--stdin", stdin=ended_by_nul(modules))
        return done.err.decode(errors="replace").strip()[:4000]

    async def _missed(self, git: Git, spared: Sequence[str]) -> list[str]:
        """Return the paths in the tree whose present content is not in the index."""
        how = ("ls-files", "-z", "-o", "-m", "--exclude-standard")
        shown, _ = await beginning_of(git, *how, ok=(0, 1, 128))
        paths = dict.fromkeys(os.fsdecode(shown).split("\0")[:-1])
        inside = tuple(f"{path.rstrip('/')}/" for path in spared)
        missed = [path for path in paths if not f"{path}/".startswith(inside)]
        return missed[:MOST_MISSED]


def _ref(unit: str, attempt: int) -> str:
    return f"{ATTEMPTS}{unit}/{attempt}"


def _all_real(place: Path, tree: Path) -> bool:
    if is_real(place):
        disk.reopen(place)
    return is_real(place) and is_real(tree)
