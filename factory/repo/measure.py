"""Measures what an attempt left, before git reads it, and decides what a snapshot includes.

Invariant: no content is read. A file counts with its apparent size, so a sparse file counts in
full. Files that a snapshot leaves out stay in place, and are named.
"""

import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from anyio import create_task_group, to_thread

from factory.ground import plumbing
from factory.ground.bounded import listed, shown
from factory.ground.bounded import named as short
from factory.ground.errors import TooMuch
from factory.ground.pipes import Into
from factory.repo.git import Git

MOST_BYTES = 4 << 30  # most bytes of all files that an attempt changed
MOST_PATHS = 50_000
NAME_BYTES = 8 << 20  # most bytes of the names of all paths together
STAGE_S = 600.0  # time limit in seconds for git to read and store the tree
MOST_NAMED = 100  # most paths that a message names and that git leaves out one by one

# Without this option, git would run inside submodules.
_CHANGED = ("diff-files", "-z", "--name-only", "--ignore-submodules=all")
_NEW = ("ls-files", "-z", "--others", "--exclude-standard")
_FOLDED = (*_NEW, "--directory")  # lists a new folder only by its name


@dataclass(frozen=True, slots=True)
class TooBig:
    """Why a snapshot lacks something that the attempt left, and which paths it lacks."""

    why: str  # a clause such as "it changed …"
    # Path → its bytes. A folder has no size, and its path ends with a slash.
    paths: tuple[tuple[str, int], ...] = ()

    @property
    def sentence(self) -> str:
        """Return a sentence for a person."""
        files = []
        folders = []
        for path, size in self.paths:
            if path.endswith("/"):
                folders.append(short(path))
            else:
                files.append((path, size))
        if files:
            return f"{self.why}: {listed(files, 3)}"
        if folders:
            return f"{self.why}: {', '.join(folders[:3])}"
        return self.why


@dataclass(frozen=True, slots=True)
class Share:
    """The part of a tree that a snapshot includes: what `git add OPTION` adds, except `spared`."""

    option: str = "-A"  # "-u": only files tracked before; "": nothing
    spared: tuple[str, ...] = ()
    too_big: TooBig | None = None


NOTHING_IN_TIME = TooBig(f"git could not take in what it changed within {STAGE_S / 60:.0f} minutes")
_TOO_MANY = (
    f"it changed more than {MOST_PATHS:,} files,"
    f" or files with longer paths than {shown(NAME_BYTES)} together"
)


async def share_of(git: Git, tree: Path) -> Share:
    """Return the part of the tree to include. `git` names the index to compare the tree with."""
    changed, new = await _both(git)
    if changed is None:
        return Share("", (), TooBig(f"{_TOO_MANY}. All of it was left out"))
    if new is not None and len(changed) + len(new) <= MOST_PATHS:
        return await to_thread.run_sync(_within, tree, [*changed, *new], Share())
    folded = await _names(git, _FOLDED)
    files = list[str]()
    folders = list[str]()
    for path in folded or ():
        which = folders if path.endswith("/") else files
        which.append(path)
    named = tuple((path, 0) for path in folders[:MOST_NAMED])
    fits = folded is not None and len(changed) + len(files) <= MOST_PATHS
    if fits and len(folders) <= MOST_NAMED:
        too_big = TooBig(f"{_TOO_MANY}. New folders were left out", named)
        share = Share("-A", tuple(folders), too_big)
        return await to_thread.run_sync(_within, tree, [*changed, *files], share)
    share = Share("-u", (), TooBig(f"{_TOO_MANY}. All new files were left out", named))
    return await to_thread.run_sync(_within, tree, changed, share)


def _within(tree: Path, paths: Sequence[str], share: Share) -> Share:
    """Return the share, and leave out the largest files if the total is too large."""
    sizes = sorted(_sizes(tree, paths), key=itemgetter(1), reverse=True)
    total = sum(map(itemgetter(1), sizes))
    rest = total
    spared = list[tuple[str, int]]()
    for path, size in sizes:
        if rest <= MOST_BYTES:
            break
        rest -= size
        spared.append((path, size))
    if not spared:
        return share
    why = (
        f"the files that it changed have {shown(total)} together; the limit is {shown(MOST_BYTES)}"
    )
    named = tuple(spared[:MOST_NAMED])
    too_big = TooBig(why, named)
    if share.too_big:
        too_big = TooBig(f"{share.too_big.why}; {why}", (*named, *share.too_big.paths))
    if len(spared) > MOST_NAMED:
        return Share("", (), too_big)
    names = map(itemgetter(0), spared)
    return Share(share.option, (*share.spared, *names), too_big)


def _sizes(tree: Path, paths: Iterable[str]) -> Iterable[tuple[str, int]]:
    for path in paths:
        try:
            about = (tree / path).lstat()
        except OSError:  # the file is deleted, or its path is longer than the system allows
            continue
        if not stat.S_ISDIR(about.st_mode):
            yield path, about.st_size


async def _both(git: Git) -> tuple[list[str] | None, list[str] | None]:
    """Return the tracked paths that may have changed, and the new paths.

    Each list is None if there are too many paths.
    """
    found: dict[Sequence[str], list[str] | None] = {}

    async def ask(argv: Sequence[str]) -> None:
        found[argv] = await _names(git, argv)

    async with create_task_group() as together:
        together.start_soon(ask, _CHANGED)
        together.start_soon(ask, _NEW)
    return found[_CHANGED], found[_NEW]


async def _names(git: Git, argv: Sequence[str]) -> list[str] | None:
    try:
        done = await git.run(*argv, into=Into(NAME_BYTES), seconds=STAGE_S)
    except TooMuch:
        return None
    if done.out.count(b"\0") > MOST_PATHS:
        return None
    return plumbing.names(done.out)
