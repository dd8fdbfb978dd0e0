"""The only caller of git.

Invariant: a git dir of the factory's is used with the factory's own configuration only (nothing that an agent or the
user planted runs), a user's repository with its user's, less hooks, gc, signing and prompts.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

from factory.child import process
from factory.child.shim import MARKER
from factory.ground import bounded, faults, plumbing
from factory.ground.aside import aside
from factory.ground.commands import Commands
from factory.ground.errors import GitError, TooLong, TooMuch
from factory.ground.pipes import Into
from factory.ground.plumbing import Change, Texts

T = TypeVar("T")
_TREES_KEPT, _DIFFS_KEPT, _LISTINGS_KEPT, _SIZES_KEPT = 4096, 256, 16, 4096
SHOWN_BYTES = 64 << 10  # of what a command printed that printed too much
_BATCH_MOST = 32 << 20  # bytes of all files together that are read at once
_TRIES = 3  # of a command of our own that a signal ends

_QUIET = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "commit.gpgSign=false",
    "advice.detachedHead=false",
    "submodule.recurse=false",
    "protocol.ext.allow=never",
    "i18n.logOutputEncoding=UTF-8",
    "i18n.commitEncoding=UTF-8",
)


def clean_environment(source: Mapping[str, str]) -> dict[str, str]:
    """`source` less every GIT_ variable, with messages in English and no prompts."""
    kept = {name: value for name, value in source.items() if not name.startswith("GIT_")}
    return kept | {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0"}


class Person(NamedTuple):
    """Who wrote or committed."""

    name: str
    email: str


FACTORY = Person("factoryd", "factoryd@factoryd.invalid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Git:
    """One git dir, spoken to in plumbing.

    `own`: the factory's (neither the system's nor the user's configuration is read, unless `configured`); else the
    user's, as they have it. A command on our own that a signal ended is run again: all of them can be.
    With `work_tree`, `index` must be named too: the daemon never uses an index that an agent can write.
    """

    git_dir: Path
    own: bool
    environ: Mapping[str, str]
    configured: bool = False  # for their safe.directory
    work_tree: Path | None = None
    index: Path | None = None
    config: tuple[str, ...] = ()  # further `name=value`, for each call
    trees: dict[str, str] = field(
        default_factory=dict, repr=False, compare=False
    )  # of commits: they never change
    diffs: dict[tuple[str, str], list[Change]] = field(
        default_factory=dict, repr=False, compare=False
    )  # nor do these
    bases: dict[str, str] = field(
        default_factory=dict, repr=False, compare=False
    )  # commits made here, with the parent
    listings: dict[str, Mapping[str, str]] = field(
        default_factory=dict, repr=False, compare=False
    )  # of commits
    known_sizes: dict[str, int] = field(
        default_factory=dict, repr=False, compare=False
    )  # of blobs; -1: there is none
    symlinks: dict[str, frozenset[str]] = field(
        default_factory=dict, repr=False, compare=False
    )  # of the same ones
    commands: Commands = field(default_factory=Commands, repr=False, compare=False)  # which run now

    async def run(
        self,
        *argv: str,
        stdin: bytes | IO[bytes] = b"",
        ok: tuple[int, ...] = (0,),
        env: Mapping[str, str] | None = None,
        started: Callable[[int], None] | None = None,
        seconds: float = 0,
        into: Into = process.INTO,
    ) -> process.Output:
        """Run one git command; raise GitError unless its exit code is in `ok`, TooLong where it was ended at its limit.

        `started` gets its pid before git does anything: should the daemon die in it, git never runs. `seconds` is the
        limit; 0 stands for that of its kind. A command that was ended has a negative exit code. Raises TooMuch where it
        prints more than `into` takes.
        """
        settings = [part for value in (*_QUIET, *self.config) for part in ("-c", value)]
        command = ["git", *settings, *argv]
        said = stdin if isinstance(stdin, bytes) else b""
        if started:
            command, stdin = (
                ["/bin/sh", "-c", 'read -r go && exec "$@"', "sh", *command],
                b"go\n" + said,
            )
        env = self._env() | dict(env or {})
        for _ in range(_TRIES if self.own else 1):
            with self.commands.running(argv, seconds) as one:
                done = await process.run(
                    command,
                    cwd=self.work_tree,
                    env=env,
                    stdin=stdin,
                    started=one.started(started),
                    left=partial(self.commands.left, one),
                    into=into,
                )
            if not self.own or done.code >= 0 or done.left:
                break
            # Killed, by whomever: nobody else writes what it wrote.
            self._unlock([*argv, *os.fsdecode(said).split()] if argv[0] == "update-ref" else argv)
            if done.over or done.much:
                break
        if done.much:
            raise TooMuch(argv, done.code, done.out[:SHOWN_BYTES], into.most)
        if done.over:
            done = replace(done, err=one.ended.encode() + done.err)
        # A git that was asked to end may end with an exit code that stands for something else.
        if done.code not in ok or (done.over and done.code > 0):
            why = done.err.decode(errors="replace")
            raise (
                TooLong(argv, done.code, why, left=done.left)
                if done.over
                else GitError(argv, done.code, why)
            )
        return done

    @faults.during("clone.seize")
    async def seize(self) -> None:
        """End what a dead daemon's git still does in our own git dir, and remove every lock in it."""
        await process.end(self.git_dir)
        for lock in self.git_dir.rglob("*.lock"):
            lock.unlink(missing_ok=True)

    async def missing(self, objects: Iterable[str]) -> set[str]:
        """Those of the objects that are not there."""
        asked = "".join(f"{each}\n" for each in objects)
        told = (
            await self.text("cat-file", "--batch-check", "--buffer", stdin=asked.encode())
            if asked
            else ""
        )
        return {line.split()[0] for line in told.splitlines() if line.endswith(" missing")}

    async def damage(self, seconds: float) -> str:
        """What is wrong with the links between objects; empty where nothing is, or it cannot be told in time."""
        command = ["git", "fsck", "--connectivity-only", "--no-dangling", "--no-progress"]
        done = await process.run(command, env=self._env(), seconds=seconds)
        said = (done.err + done.out).decode(errors="replace").splitlines()
        return "; ".join(said[:3]) or "it says nothing" if done.code > 0 else ""

    def _unlock(self, argv: Sequence[str]) -> None:
        """Remove the locks of a command of ours that is dead: of its index, and of the refs that it names."""
        refs = {
            ref for word in argv for ref in word.lstrip("+").split(":") if ref.startswith("refs/")
        }
        locks = [self.git_dir / f"{name}.lock" for name in ("shallow", "packed-refs", *refs)]
        locks += [Path(f"{self.index}.lock")] if self.index else []
        folders = [(self.git_dir / ref).parent for ref in refs if ref.endswith("/*")]
        for lock in (*locks, *(path for folder in folders for path in folder.rglob("*.lock"))):
            lock.unlink(missing_ok=True)

    async def text(
        self, *argv: str, stdin: bytes = b"", env: Mapping[str, str] | None = None
    ) -> str:
        """What one git command prints, stripped of the last newline; raise GitError unless it exits 0."""
        return os.fsdecode((await self.run(*argv, stdin=stdin, env=env)).out).rstrip("\n")

    async def names(self, *argv: str) -> list[str]:
        """The NUL-separated names that one git command prints (pass its -z)."""
        told = await self.run(*argv)
        return await aside(_many(told.out), partial(plumbing.names, told.out))

    async def commit(self, rev: str) -> str:
        """The id of the commit that `rev` names; empty when there is none."""
        asked = f"{rev}^{{commit}}"
        done = await self.run(
            "rev-parse", "--verify", "--quiet", "--end-of-options", asked, ok=(0, 1, 128)
        )
        return os.fsdecode(done.out).strip()

    async def contains(self, rev: str, commit: str) -> bool:
        """Whether `commit` is `rev` or an ancestor of it; a commit that is not here is not."""
        return (
            await self.run("merge-base", "--is-ancestor", commit, rev, ok=(0, 1, 128))
        ).code == 0

    async def tree(self, commit: str) -> str:
        """The tree of the commit with this id; git is asked once."""
        if commit not in self.trees:
            self._note_tree(commit, await self.text("rev-parse", "--verify", f"{commit}^{{tree}}"))
        return self.trees[commit]

    async def listing(self, commit: str) -> Mapping[str, str]:
        """Every path of the commit with this id, sorted, with the id of what is there."""
        if commit not in self.listings:
            base = self.bases.get(commit, "")
            if below := self.listings.get(base):  # made here on a known one: git need not be asked
                changes, before = await self.changed(base, commit), self.symlinks[base]
                after = partial(plumbing.after, below, before, changes)
                known, links = await aside(len(below) + len(changes), after)
            else:
                told = await self.run("ls-tree", "-r", "-z", "--full-tree", commit)
                known, links = await aside(_many(told.out), partial(plumbing.entries, told.out))
            for kept in (self.listings, self.symlinks):
                _make_room(kept, _LISTINGS_KEPT)
            self.listings[commit], self.symlinks[commit] = known, links
        return self.listings[commit]

    async def links(self, commit: str) -> frozenset[str]:
        """The paths of the symbolic links of the commit with this id."""
        await self.listing(commit)
        return self.symlinks[commit]

    async def sizes(self, blobs: Iterable[str]) -> dict[str, int]:
        """The bytes of the blobs with these ids, one that is missing has none; git is asked once."""
        every = list(blobs)
        known = {blob: self.known_sizes[blob] for blob in every if blob in self.known_sizes}
        fresh = [blob for blob in dict.fromkeys(every) if blob not in known]
        for blob, size in zip(fresh, await self._sizes(fresh), strict=True):
            _make_room(self.known_sizes, _SIZES_KEPT)
            known[blob] = self.known_sizes[blob] = size
        return {blob: size for blob, size in known.items() if size >= 0}

    async def _sizes(self, names: Sequence[str]) -> list[int]:
        if not names:
            return []
        asked = [os.fsencode(name) for name in names]
        how = ("cat-file", "--batch-check=%(objecttype) %(objectsize)", "--buffer", "-z")
        told = await self.run(*how, stdin=b"".join(name + b"\0" for name in asked))
        return list(plumbing.sizes(told.out, asked))

    async def read(self, blobs: Mapping[str, str], *, most: int = bounded.PARSED) -> Texts:
        """The content of blobs by their paths (path → id); what is not UTF-8 is replaced.

        One of more than `most` bytes is not read, nor one beyond what is read at once.
        """
        sizes = await self.sizes(blobs.values())
        small, larger = _within({path: sizes.get(blob, -1) for path, blob in blobs.items()}, most)
        texts = await self._contents([blobs[path] for path in small])
        return Texts(
            {path: text for path, text in zip(small, texts, strict=True) if text is not None},
            larger,
        )

    async def read_many(
        self, rev: str, paths: Iterable[str], *, most: int = bounded.PARSED
    ) -> Texts:
        """The same for those of `paths` that are files of the tree."""
        wanted = list(dict.fromkeys(paths))
        sizes = await self._sizes([f"{rev}:{path}" for path in wanted])
        small, larger = _within(dict(zip(wanted, sizes, strict=True)), most)
        texts = await self._contents([f"{rev}:{path}" for path in small])
        return Texts(
            {path: text for path, text in zip(small, texts, strict=True) if text is not None},
            larger,
        )

    async def _contents(self, names: Sequence[str]) -> list[str | None]:
        """What these objects hold, in one process."""
        if not names:
            return []
        asked = [os.fsencode(name) for name in names]
        done = await self.run(
            "cat-file", "--batch", "-z", stdin=b"".join(name + b"\0" for name in asked)
        )
        found = plumbing.contents(done.out, asked)
        return [None if content is None else content.decode(errors="replace") for content in found]

    async def show(self, rev: str, path: str) -> str | None:
        """The content of one small file of a tree; None when the tree has no such file."""
        return (await self.read_many(rev, [path])).found.get(path)

    async def changed(self, before: str, after: str) -> list[Change]:
        """What differs between the commits or trees with these ids, by path; a rename is a deletion and an addition."""
        ends = self.trees.get(before, before), self.trees.get(after, after)
        if ends not in self.diffs:
            told = await self.run(
                "diff-tree", "-r", "-z", "--raw", "--no-renames", "--full-index", *ends
            )
            found = await aside(_many(told.out), partial(plumbing.changes, told.out))
            _make_room(self.diffs, _DIFFS_KEPT)
            self.diffs[ends] = found
        return self.diffs[ends]

    async def merge(self, onto: str, change: str, *, since: str) -> tuple[str, tuple[str, ...]]:
        """The tree of `onto` with what `change` did after `since`, by `onto`'s attributes; or "" and the conflicts."""
        done = await self.run(
            *(
                f"--attr-source={onto}",
                "merge-tree",
                "--write-tree",
                "-z",
                "--name-only",
                "--no-messages",
            ),
            *(f"--merge-base={since}", onto, change),
            ok=(0, 1),
        )
        tree, *conflicts = os.fsdecode(done.out).rstrip("\0").split("\0")
        return "" if done.code else tree, tuple(conflicts)

    async def commit_tree(
        self, tree: str, parents: Sequence[str], message: str, *, author: Person, committer: Person
    ) -> str:
        """Make a commit object, and return its id."""
        env = {
            "GIT_AUTHOR_NAME": author.name,
            "GIT_AUTHOR_EMAIL": author.email,
            "GIT_COMMITTER_NAME": committer.name,
            "GIT_COMMITTER_EMAIL": committer.email,
        }
        above = [part for parent in parents for part in ("-p", parent)]
        made = await self.text(
            "commit-tree", tree, *above, "-F", "-", stdin=message.encode(), env=env
        )
        self._note_tree(made, tree)
        if parents:
            _make_room(self.bases, _TREES_KEPT)
            self.bases[made] = parents[0]
        return made

    def read_ref(self, ref: str) -> str:
        """What a full ref points to, as its loose file or packed-refs has it; empty where git must be asked.

        Only for a git dir that keeps its refs in files.
        """
        with suppress(OSError):
            loose = bounded.head(self.git_dir / ref, bounded.PARSED).decode().strip()
            return "" if loose.startswith("ref:") else loose
        with suppress(OSError):
            line = rb"^([0-9a-f]+) %s$" % re.escape(os.fsencode(ref))
            found = re.search(line, (self.git_dir / "packed-refs").read_bytes(), re.MULTILINE)
            return found[1].decode() if found else ""
        return ""

    def tag_marks(self) -> tuple[tuple[str, int, int], ...]:
        """Something that differs after a tag was made, moved or deleted. Only where refs are kept in files."""
        paths = [str(self.git_dir / "packed-refs")]
        for folder, _, files in os.walk(self.git_dir / "refs/tags"):
            paths += [folder, *(f"{folder}/{name}" for name in files)]
        seen = ((path, os.lstat(path)) for path in sorted(paths) if os.path.lexists(path))
        return tuple((path, about.st_mtime_ns, about.st_ino) for path, about in seen)

    def _note_tree(self, commit: str, tree: str) -> None:
        _make_room(self.trees, _TREES_KEPT)
        self.trees[commit] = tree

    def _env(self) -> dict[str, str]:
        env = clean_environment(self.environ) | {"GIT_DIR": str(self.git_dir)}
        if self.own:
            env[MARKER] = str(self.git_dir)  # known again by `seize`
        if self.own and not self.configured:
            env |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
        if self.work_tree:
            env["GIT_WORK_TREE"] = str(self.work_tree)
        if self.index:
            env["GIT_INDEX_FILE"] = str(self.index)
        return env


def _make_room(kept: dict[Any, Any], most: int) -> None:
    """Forget the oldest where there are so many."""
    if len(kept) >= most:
        del kept[next(iter(kept))]


def _within(sizes: Mapping[str, int], most: int) -> tuple[list[str], dict[str, int]]:
    """Which files are read, and those that are too large for it; what has no size is no file."""
    small, larger, room = list[str](), dict[str, int](), _BATCH_MOST
    for path, size in sizes.items():
        if size > min(most, room):
            larger[path] = size
        elif size >= 0:
            room -= size
            small.append(path)
    return small, larger


def _many(out: bytes) -> int:
    """About how many things a command printed."""
    return len(out) // 64
