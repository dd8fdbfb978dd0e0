"""Workspaces and benches: pooled trees, each with a private git dir that borrows the factory repository's objects.

Invariant: the daemon's git calls on a tree use the factory repository and an index of the daemon's own, never a git dir
found in the tree; so what an agent leaves there neither runs nor redirects, nor reaches the next unit.
"""

import os
import re
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import anyio
from anyio import to_thread

from factory.ground import bounded, disk, faults
from factory.ground.errors import FactoryError, GitError, TooLong, TooMuch
from factory.ground.pipes import Into
from factory.ground.plumbing import GITLINK
from factory.repo import kept, private_git
from factory.repo.git import FACTORY, Git
from factory.repo.measure import NOTHING_IN_TIME, STAGE_S, Share, TooBig, share_of
from factory.repo.sweep import make_readable, move_git_dirs, sweep
from factory.repo.underway import UNDERWAY, Fit

# Folders that tools make and nobody means to submit; one that trunk tracks something in is not among them.
SHIPPED = (
    *("__pycache__", ".venv", "node_modules", "*.egg-info", ".eggs", ".tox", ".nox"),
    *(".hypothesis", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".gradle", ".direnv", ".aider.tags.cache.*"),
)

_SHIPPED = re.compile(rf"(?<![^/])(?:{'|'.join(re.escape(name).replace(chr(92) + '*', '[^/]*') for name in SHIPPED)})/")

# Not the user's global attributes, no questions about line ends, no name that another system would take for `.git`.
_PLAIN = ("core.attributesFile=/dev/null", "core.safecrlf=false", "core.protectHFS=true", "core.protectNTFS=true")
# What a kept attempt consists of survives a power failure; the index can be made anew.
_DURABLE = ("core.fsync=all,-index", "core.fsyncMethod=batch")
_PACKED_REF = "--format=%(objectname) %(refname)%(if)%(*objectname)%(then)%0a^%(*objectname)%(end)"
_INTENT_CHARACTERS = 8192
ABANDONED = ".abandoned-"
CLAIM = "attempt"  # in a workspace's place: the nonce of the attempt that it was prepared for
MOST_MISSED = 100
DIFF_MOST = 16 << 20  # bytes of the diff of an earlier attempt
MOST_ASKED = 200  # paths about which commits are asked
TOLD_BYTES = 4 << 20  # of what git says to be amiss in a tree
CHECKOUT_S = 600.0  # what writing a whole tree may take


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """A worker's working tree; what belongs to it (venv, home, tmp) lies beside the tree in `place`."""

    name: str
    place: Path
    keeps: tuple[str, ...] = ()  # paths in the tree that setup made: not cleaned, not submitted

    @property
    def tree(self) -> Path:
        """The folder that the agent works in."""
        return self.place / "tree"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What an agent left, as a tree in the factory repository."""

    tree: str
    changed: bool  # it differs from the base
    nested: tuple[str, ...] = ()  # folders that were repositories of their own and are plain files now
    left_out: str = ""  # git's words about what it could not take
    missed: tuple[str, ...] = ()  # the paths that it did not take, at most MOST_MISSED
    too_big: TooBig | None = None  # why it lacks something that lies in the workspace, and what
    gone: bool = False  # the workspace itself was deleted or replaced: the tree is the base's

    @property
    def lacking(self) -> tuple[str, ...]:
        """The paths that it lacks, as far as they are named."""
        large = self.too_big.paths if self.too_big else ()
        return (*self.missed, *(path for path, _ in large))[:MOST_MISSED]


@dataclass(frozen=True, slots=True)
class Conflict:
    """The previous attempt does not merge onto the new base; its diff is in a file."""

    paths: tuple[str, ...]
    diff: Path
    intent: str  # what the commits that changed these paths meanwhile say of themselves


@dataclass(frozen=True, slots=True)
class Ground:
    """What the base says about untracked files."""

    excludes: str  # gitignore lines below the tree's own
    caches: frozenset[str]  # names of folders in which a repository is not the agent's but a tool's


class Checkouts:
    """Named working trees in one folder, with what workspaces and benches do alike."""

    def __init__(self, *, own: Git, folder: Path, index_dir: Path, trunk_branch: str, excludes: str = "") -> None:
        self._own = replace(own, config=(*own.config, *_DURABLE))
        self._folder, self._index_dir = folder, index_dir
        with faults.step("folders.make"):
            index_dir.mkdir(parents=True, exist_ok=True)
        self._trunk_branch, self._excludes = trunk_branch, excludes
        self._tags: tuple[object, bytes] = (None, b"")  # what they were made of, and their lines of packed-refs
        self._tracked: tuple[str, frozenset[str]] = ("", frozenset())  # the base, its folders of the shipped list

    def place(self, name: str) -> Path:
        """Where the tree called `name`, and what belongs to it, lies."""
        return self._folder / name

    def git(self, name: str) -> Git:
        """Git on that tree, by the factory repository and the daemon's own index."""
        return replace(
            self._own,
            work_tree=self.place(name) / "tree",
            index=self._index(name),
            config=(*self._own.config, *_PLAIN, f"core.excludesFile={self._index(name, '.exclude')}"),
        )

    async def ground(self, name: str, base: str, keeps: Iterable[str]) -> Ground:
        """What of the tree's untracked files stays out, written where `git(name)` reads it."""
        if base != self._tracked[0]:
            self._tracked = base, frozenset(_shipped_folders(await self._own.listing(base)))
        _, tracked = self._tracked
        lines = [f"{pattern}/" for pattern in SHIPPED] + [f"!/{_literal(path)}/" for path in sorted(tracked)]
        excludes = "\n".join([*lines, self._excludes.rstrip("\n"), *_patterns(keeps), ""])
        with faults.step("tree.excludes"):
            _write(self._index(name, ".exclude"), excludes)
        return Ground(excludes, (frozenset(SHIPPED) - {Path(path).name for path in tracked}).union(keeps))

    @faults.during("tree.reset")
    async def reset(self, name: str, rev: str, *, clean: tuple[str, ...], caches: Iterable[str]) -> None:
        """Make the tree exactly `rev`, less what `clean` spares; raise FactoryError if not even a new one succeeds.

        First as it stands, then without trusting the index, then in a new folder. Repositories in it are deleted with
        their folders (git would leave those in tracked ones), but for those in `caches` (names, or paths).
        """
        trouble = ""
        for remedy in (self._enter, self._forget, self._discard):
            await remedy(name)
            if not (trouble := await self._reset_once(name, rev, clean=clean, caches=caches)):
                return
        raise FactoryError(f"{self.place(name)} could not be set to {rev}: {trouble}. Nothing else was touched.")

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
        return (os.fsencode(f"{trunk} refs/heads/{self._trunk_branch}\n") if trunk else b"") + self._tags[1]

    async def ignored(self, name: str) -> list[str]:
        """What git ignores in the tree, whole folders as one, less what tools make everywhere."""
        await to_thread.run_sync(sweep, self.place(name) / "tree")  # a fifo called .gitignore would stop git for ever
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
        if self._index(name).exists():  # by it git sees what has changed, without reading all of the tree
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

    async def _reset_once(self, name: str, rev: str, *, clean: tuple[str, ...], caches: Iterable[str]) -> str:
        git = self.git(name)
        tree = self.place(name) / "tree"
        try:
            for nested in await to_thread.run_sync(sweep, tree):
                if not any(f"/{cache}/" in f"/{nested}/" for cache in caches):
                    await self.remove(tree / nested)
            reset = await git.run("read-tree", "-u", "--reset", rev, seconds=CHECKOUT_S)
            amiss = await _told(git, "ls-files", "-z", "-o", "-m", "-d", "--directory", *_shown(clean))
            if not (reset.err or any(amiss)):
                return ""
            cleaned = await git.run("clean", "-q", *clean)
            # A tracked folder that became a link to itself elsewhere passes read-tree and loses its link to clean.
            lost, _ = await _told(git, "diff-files", "--name-only", "--diff-filter=DT")
        except TooLong:
            raise  # the tree is not to blame: another remedy would take as long
        except (GitError, OSError) as error:
            return str(error)
        return (reset.err + cleaned.err + lost).decode(errors="replace")

    async def remove(self, path: Path) -> None:
        """Delete a file, a link (never what it leads to) or a whole folder; what cannot be deleted stays."""
        await to_thread.run_sync(disk.remove, path)


class Workspaces(Checkouts):
    """The workers' trees: prepared for an attempt, snapshotted after it."""

    def at(self, name: str, *, keeps: tuple[str, ...] = ()) -> Workspace:
        """The workspace called `name`, as it stands."""
        return Workspace(name=name, place=self.place(name), keeps=keeps)

    async def prepare(
        self,
        name: str,
        *,
        base: str,
        nonce: str = "",
        tree: str | None = None,
        renew_git: bool = True,
        keeps: tuple[str, ...] = (),
        dependencies: tuple[str, ...] = (),
        warm: bool = False,
    ) -> Workspace:
        """Make the workspace show `base`, or `tree` as uncommitted work on it.

        `nonce`: of the attempt, whose the workspace is from now on. `warm`: ignored files stay, since no other unit was
        there; else only `dependencies` do. Not `renew_git`: a resumed session keeps its own `.git`, where that is still
        a folder. Raises FactoryError.
        """
        ground = await self.ground(name, base, keeps)
        workspace = self.at(name, keeps=keeps)
        await self._enter(name)
        self._claim(name, nonce)
        renewed = renew_git or not is_real(workspace.tree / ".git")
        first = base if renewed else tree or base
        if warm:
            await self.reset(name, first, clean=("-ffd",), caches=ground.caches)
        else:
            await self.reset(name, first, clean=_all_but(dependencies), caches=dependencies)
        if renewed:
            await self.renew_git(name, base, excludes=ground.excludes)
        if tree and tree != first:
            # After the copy of the index: the agent's git sees the carried work as changes that it has not committed.
            with faults.step("tree.carry"):
                await self.git(name).run("read-tree", "-u", "--reset", tree, seconds=CHECKOUT_S)
        return workspace

    @faults.during("tree.claim")
    def _claim(self, name: str, nonce: str) -> None:
        # Before anything in the tree changes: what lies there from now on is of this attempt.
        path = self.place(name) / CLAIM
        disk.remove(path)
        path.write_text(nonce)

    def claimed_by(self, name: str) -> str:
        """The nonce of the attempt that the workspace was prepared for last; "" where nothing says so."""
        path = self.place(name) / CLAIM
        with suppress(OSError):
            if not path.is_symlink():
                return bounded.head(path, 200).decode(errors="replace").strip()
        return ""

    def where(self, name: str, nonce: str) -> str:
        """What the workspace of an attempt is called now: `name`, or as it was put aside by a trip that broke off."""
        if not nonce or self.claimed_by(name) == nonce:
            return name
        asides = [each for each in self.names() if each.startswith(f"{name}{ABANDONED}")]
        return next((each for each in asides if self.claimed_by(each) == nonce), name)

    async def kept(self, unit: str, attempt: int, *, nonce: str) -> str:
        """The commit that keeps what an attempt made; "" where there is none, or it is of another attempt."""
        work = await kept.read(self._own, _ref(unit, attempt))
        return work.commit if work and nonce and work.run == nonce else ""

    async def snapshot(self, workspace: Workspace, *, base: str, aside: Path) -> Snapshot:
        """Write what the agent left as a tree; nothing of the attempt may run any more.

        The git dirs of nested repositories that `base` does not have as submodules are moved to `aside`/nested.
        """
        git = self.git(workspace.name)
        base_tree = await self._own.tree(base)
        if not _all_real(workspace.place, workspace.tree):
            return Snapshot(tree=base_tree, changed=False, gone=True)
        await self.ground(workspace.name, base, workspace.keeps)
        with faults.step("attempt.stage"):
            await self._enter(workspace.name)
            found = await to_thread.run_sync(sweep, workspace.tree)
            links = await self._gitlinks(base) if found else []
            nested = await self._foreign(git, links, found) if found else []
            with faults.step("attempt.nested"):
                odd = await to_thread.run_sync(move_git_dirs, workspace.tree, nested, aside / "nested")
            modules = tuple(link for link in links if link in found)
            share = await self._share(git, workspace.name, base)
            left_out, too_big = await self._stage(git, workspace.name, base, modules, share)
            missed = (*(await self._missed(git, (*modules, *share.spared)) if left_out else ()), *odd)
            tree = await git.text("write-tree")
        return Snapshot(
            tree=tree,
            changed=tree != base_tree,
            nested=tuple(nested),
            left_out=left_out,
            missed=missed,
            too_big=too_big,
        )

    @faults.during("attempt.carry")
    async def carry(self, previous: str, *, onto: str, diff: Path) -> str | Conflict:
        """The tree of attempt commit `previous` merged onto commit `onto`; on conflict its diff, written to `diff`."""
        tree, conflicts = await self._own.merge(onto, previous, since=f"{previous}^")
        if tree:
            return tree
        await self._write_diff(previous, diff)
        how = ("--reverse", "--no-show-signature", "--format=%B", f"{previous}^..{onto}")
        said = await self._intents(*how, "--", *conflicts[:MOST_ASKED])
        return Conflict(conflicts, diff, said[:_INTENT_CHARACTERS].strip())

    async def _write_diff(self, commit: str, target: Path) -> None:
        """The diff of an attempt, or, where it is too long to be of use, the names of what it changed."""
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
        """What commits say of themselves, as far as it is told."""
        try:
            done = await self._own.run("log", *how, env={"GIT_LITERAL_PATHSPECS": "1"}, into=Into(TOLD_BYTES))
        except TooMuch as error:
            return os.fsdecode(error.out)
        return os.fsdecode(done.out)

    @faults.during("attempt.keep")
    async def keep(self, unit: str, attempt: int, *, tree: str, base: str, message: str) -> str:
        """Keep an attempt's tree for good, under refs/factory/attempts/UNIT/N in the factory repository.

        Kept already, it is the same commit; another tree that was kept there before is kept under a second name.
        """
        ref = _ref(unit, attempt)
        before = await kept.read(self._own, ref)
        if before and (before.tree, before.base, before.run) == (tree, base, kept.run_in(message)):
            return before.commit
        commit = await self.commit(tree, base=base, message=message)
        await kept.put(self._own, ref, commit, before)
        return commit

    async def commit(self, tree: str, *, base: str, message: str) -> str:
        """A commit of the factory's in its own repository, which no ref keeps yet."""
        return await self._own.commit_tree(tree, [base], message, author=FACTORY, committer=FACTORY)

    async def _gitlinks(self, base: str) -> list[str]:
        entries = await self._own.names("ls-tree", "-r", "-z", base)
        return [entry.partition("\t")[2] for entry in entries if entry.startswith(GITLINK)]

    async def _foreign(self, git: Git, links: list[str], nested: list[str]) -> list[str]:
        """Those of the nested repositories that are neither ignored nor in a submodule of base."""
        ours = [path for path in nested if not any(f"{path}/".startswith(f"{link}/") for link in links)]
        asked = os.fsencode("".join(f"{path}\0" for path in ours))
        done = await git.run("check-ignore", "--no-index", "-z", "--stdin", stdin=asked, ok=(0, 1))
        ignored = os.fsdecode(done.out).split("\0")
        return [path for path in ours if path not in ignored]

    async def _share(self, git: Git, name: str, base: str) -> Share:
        """What of the tree is staged: a damaged index is made anew for that."""
        tree = self.place(name) / "tree"
        if self._index(name).exists():
            with suppress(GitError):
                return await share_of(git, tree)
            await self._forget(name)
        await git.run("read-tree", base)
        # Else every file counts as changed.
        await git.run("update-index", "-q", "--ignore-submodules", "--refresh", ok=(0, 1), seconds=STAGE_S)
        return await share_of(git, tree)

    async def _stage(
        self, git: Git, name: str, base: str, modules: Sequence[str], share: Share
    ) -> tuple[str, TooBig | None]:
        """Stage the share of the tree; what git complains of, and why something is lacking."""
        if not share.option:
            return "", share.too_big
        try:
            return await self._add(git, name, base, modules, share), share.too_big
        except TooLong:
            if git.commands.hurries:  # the daemon goes, and the next one stages it
                raise
            return "", NOTHING_IN_TIME

    async def _add(self, git: Git, name: str, base: str, modules: Sequence[str], share: Share) -> str:
        """Bring the daemon's index up to the share of the tree; what git still complains of in the end.

        `modules`: submodules that the agent populated. `add` would run git in them, by the configuration there.
        """
        spared = [f":(exclude,literal){path}" for path in (*modules, *share.spared)]
        add = ("add", share.option, "--ignore-errors", *(("--", ".", *spared) if spared else ()))
        done = await git.run(*add, ok=(0, 1, 128), seconds=STAGE_S)
        if done.err:
            await to_thread.run_sync(make_readable, self.place(name) / "tree")
            done = await git.run(*add, ok=(0, 1, 128), seconds=STAGE_S)
        if done.code == 128:
            # A damaged index, or an attribute (working-tree-encoding) that the content breaks: the bytes as they are.
            await self._forget(name)
            await git.run("read-tree", base)
            no_tree = await git.text("hash-object", "-t", "tree", os.devnull)
            done = await git.run(f"--attr-source={no_tree}", *add, ok=(0, 1), seconds=STAGE_S)
        if modules:  # only what their HEAD names
            await git.run("update-index", "-z", "--stdin", stdin=os.fsencode("".join(f"{path}\0" for path in modules)))
        return done.err.decode(errors="replace").strip()[:4000]

    async def _missed(self, git: Git, spared: Sequence[str]) -> tuple[str, ...]:
        """The paths of the tree that are not in the index as they are."""
        shown, _ = await _told(git, "ls-files", "-z", "-o", "-m", "--exclude-standard", ok=(0, 1, 128))
        paths = dict.fromkeys(os.fsdecode(shown).split("\0")[:-1])
        inside = tuple(f"{path.rstrip('/')}/" for path in spared)
        return tuple(path for path in paths if not f"{path}/".startswith(inside))[:MOST_MISSED]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A clean tree for gates, with venv, home and tmp beside it in `place`."""

    name: str
    place: Path
    benches: "Benches" = field(repr=False)

    @property
    def tree(self) -> Path:
        """The folder that gates run in."""
        return self.place / "tree"

    async def show(self, commit: str, *, keeps: tuple[str, ...] = ()) -> None:
        """Make the tree exactly `commit`, ignored files gone but for `keeps`; `.git` new, HEAD at the commit."""
        await self.benches.reset(self.name, commit, clean=_all_but(keeps), caches=keeps)
        await self.benches.renew_git(self.name, commit, excludes="\n".join([*_patterns(keeps), ""]))

    async def ignored(self) -> list[str]:
        """What git ignores in the tree, less what tools make everywhere."""
        return await self.benches.ignored(self.name)

    async def shows(self, tree: str) -> bool:
        """Whether that tree was shown there last: the daemon's index is exactly that."""
        told = await self.benches.git(self.name).run("diff-index", "--cached", "--name-only", tree)
        return not told.out


Fitting = Callable[[Bench], Fit]


class Benches(Checkouts):
    """The pool of benches: each is one taker's at a time."""

    def __init__(self, *, own: Git, folder: Path, index_dir: Path, trunk_branch: str, size: int) -> None:
        super().__init__(own=own, folder=folder, index_dir=index_dir, trunk_branch=trunk_branch)
        self._size = size
        self._taken: set[str] = set()
        self._changed = anyio.Event()

    def resize(self, size: int) -> None:
        """Let `size` benches be in use at once from now on; those in use are not interrupted."""
        self._size = size
        self.look_again()

    def look_again(self) -> None:
        """Let whoever waits for a bench see whether one is free now."""
        self._changed.set()
        self._changed = anyio.Event()

    def begun(self) -> list[Bench]:
        """The benches that nobody has taken and on which something of an earlier daemon is under way."""
        return [bench for bench in self._untaken() if (bench.place / UNDERWAY).exists()]

    @asynccontextmanager
    async def take(self, fit: Fitting = lambda bench: Fit.OTHER) -> AsyncIterator[Bench]:
        """Wait for a free bench; it is given back at the end of the block.

        `fit`: how what is under way on one fits what the taker wants. A bench with what another may ask for waits.
        """
        while (bench := self._free(fit)) is None:
            await self._changed.wait()
        self._taken.add(bench.name)
        try:
            yield bench
        finally:
            self._taken.discard(bench.name)
            self.look_again()

    def _free(self, fit: Fitting) -> Bench | None:
        """The bench to take now, if any may be taken."""
        if len(self._taken) >= self._size:
            return None
        begun = self.begun()
        idle = [bench for bench in self._untaken() if bench not in begun]
        same = [bench for bench in begun if fit(bench) is Fit.SAME]
        stale = [bench for bench in begun if fit(bench) is Fit.STALE]
        return next(iter([*same, *idle, *stale]), None)

    def _untaken(self) -> list[Bench]:
        names = [f"b{number}" for number in range(1, self._size + 1)]
        return [Bench(name=name, place=self.place(name), benches=self) for name in names if name not in self._taken]


def _ref(unit: str, attempt: int) -> str:
    return f"refs/factory/attempts/{unit}/{attempt}"


def _tops(paths: Iterable[str]) -> list[str]:
    """Those of the paths that lie in no other, less what tools make everywhere."""
    tops = set[str]()
    for path in sorted((path.rstrip("/") for path in paths), key=len):
        above = map(str, PurePosixPath(path).parents)
        if not _SHIPPED.search(f"{path}/") and tops.isdisjoint(above):
            tops.add(path)
    return sorted(tops)


def _all_but(paths: Iterable[str]) -> tuple[str, ...]:
    """Options for git to clean away all that is not tracked, ignored files too, but for these paths."""
    return ("-ffdx", *(option for pattern in _patterns(paths) for option in ("-e", pattern)))


def _shown(clean: Sequence[str]) -> list[str]:
    """Options that make `ls-files -o` show what `clean` with its options would delete."""
    spared = ["-x" if option == "-e" else option for option in clean[1:]]
    return spared if "x" in clean[0] else ["--exclude-standard"]


def _shipped_folders(paths: Iterable[str]) -> Iterator[str]:
    """The folders of the shipped list that these tracked files lie in."""
    for path in paths:
        for found in _SHIPPED.finditer(path):
            yield path[: found.end() - 1]


def _patterns(paths: Iterable[str]) -> list[str]:
    return [f"/{_literal(path)}" for path in paths]


async def _told(git: Git, *argv: str, ok: tuple[int, ...] = (0,)) -> tuple[bytes, bytes]:
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


def _all_real(place: Path, tree: Path) -> bool:
    if is_real(place):
        disk.reopen(place)
    return is_real(place) and is_real(tree)


def _write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.fsencode(content))
