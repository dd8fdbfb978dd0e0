"""Git: read and write the content of a git dir with plumbing commands.

Invariant: answers about objects are cached, because an object never changes.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, TypeVar

from factory.ground import bounded, plumbing
from factory.ground.aside import aside
from factory.ground.plumbing import Change, Texts
from factory.repo.git_dir import GitDir, ended_by_nul, many

_BATCH_MOST = 32 << 20  # most bytes that are read in one call, for all files together

K = TypeVar("K")
V = TypeVar("V")


class Person(NamedTuple):
    """The author or committer of a commit."""

    name: str
    email: str


FACTORY = Person("factoryd", "factoryd@factoryd.invalid")


MOST_BYTES = 64 << 20  # of the values in one cache
PATH_BYTES = 200  # about what a path in a listing takes
CHANGE_BYTES = 400  # about what a changed path takes


class Recent(dict[K, V]):
    """A cache that keeps only the newest entries, within a number of entries and of bytes.

    It always keeps the newest two entries, because a step compares at most two.
    """

    def __init__(self, most: int, weigh: Callable[[V], int] = lambda value: 0) -> None:
        """Take `most`, a number of entries, and a function that returns a value's size in bytes."""
        super().__init__()
        self._most = most
        self._weigh = weigh
        self._bytes = 0

    def __setitem__(self, key: K, value: V) -> None:
        """Store the value as the newest entry; remove the oldest entries if there is no room."""
        if key in self:
            self._forget(key)
        super().__setitem__(key, value)
        self._bytes += self._weigh(value)
        while len(self) > self._most or (self._bytes > MOST_BYTES and len(self) > 2):
            self._forget(next(iter(self)))

    def _forget(self, key: K) -> None:
        self._bytes -= self._weigh(self[key])
        del self[key]


Listing = tuple[Mapping[str, str], frozenset[str]]  # path → id, and the paths of symbolic links


class Known:
    """What git reported about objects; the keys are object ids."""

    def __init__(self) -> None:
        self.trees = Recent[str, str](4096)  # commit → its tree
        self.bases = Recent[str, str](4096)  # commits that this process made → their first parent
        # commit → the listing of its tree
        self.listings = Recent[str, Listing](16, lambda listing: len(listing[0]) * PATH_BYTES)
        # two trees → their differences
        self.diffs = Recent[tuple[str, str], list[Change]](
            256, lambda changes: len(changes) * CHANGE_BYTES
        )
        self.sizes = Recent[str, int](4096)  # sizes of blobs; -1: the blob does not exist


@dataclass(frozen=True, slots=True, kw_only=True)
class Git(GitDir):
    """A git dir with its objects."""

    known: Known = field(default_factory=Known, repr=False, compare=False)

    async def tree(self, commit: str) -> str:
        """Return the tree of the commit with this id."""
        tree = self.known.trees.get(commit)
        if tree is None:
            tree = await self.text("rev-parse", "--verify", f"{commit}^{{tree}}")
            self.known.trees[commit] = tree
        return tree

    async def author(self, commit: str) -> Person:
        """Return the author of the commit with this id."""
        how = ("--no-walk", "--no-show-signature", "--no-mailmap", "--format=%an%x00%ae")
        name, _, email = (await self.text("log", *how, commit)).partition("\0")
        return Person(name, email)

    async def listing(self, commit: str) -> Mapping[str, str]:
        """Return path → object id of the commit with this id, sorted by path."""
        paths, _ = await self._listed(commit)
        return paths

    async def links(self, commit: str) -> frozenset[str]:
        """Return the paths of the symbolic links of the commit with this id."""
        _, links = await self._listed(commit)
        return links

    async def _listed(self, commit: str) -> Listing:
        found = self.known.listings.get(commit)
        if found is None:
            found = await self._list(commit)
            self.known.listings[commit] = found
        return found

    async def _list(self, commit: str) -> Listing:
        base = self.known.bases.get(commit, "")
        below = self.known.listings.get(base)
        if below is None:
            printed = await self.run("ls-tree", "-r", "-z", "--full-tree", commit)
            return await aside(many(printed.out), partial(plumbing.entries, printed.out))
        # This process made the commit on top of a known one, so git need not list it.
        changes = await self.changed(base, commit)
        paths, links = below
        return await aside(
            len(paths) + len(changes), partial(plumbing.after, paths, links, changes)
        )

    async def sizes(self, blobs: Iterable[str]) -> dict[str, int]:
        """Return the sizes in bytes of the blobs with these ids; leave out missing blobs."""
        found = dict[str, int]()
        fresh = []
        for blob in dict.fromkeys(blobs):
            size = self.known.sizes.get(blob)
            if size is None:
                fresh.append(blob)
            else:
                found[blob] = size
        for blob, size in zip(fresh, await self._sizes(fresh), strict=True):
            self.known.sizes[blob] = size
            found[blob] = size
        return {blob: size for blob, size in found.items() if size >= 0}

    async def _sizes(self, names: Sequence[str]) -> list[int]:
        if not names:
            return []
        asked = [os.fsencode(name) for name in names]
        form = "--batch-check=%(objecttype) %(objectsize)"
        printed = await self.run("cat-file", form, "--buffer", "-z", stdin=ended_by_nul(names))
        return list(plumbing.sizes(printed.out, asked))

    async def read(self, blobs: Mapping[str, str], *, most: int = bounded.PARSED) -> Texts:
        """Return the content of `blobs` (path → id) by path; replace bytes that are not UTF-8.

        It leaves out blobs of more than `most` bytes, and blobs beyond the limit of one call.
        """
        known = await self.sizes(blobs.values())
        sizes = {path: known.get(blob, -1) for path, blob in blobs.items()}
        return await self._texts(blobs, sizes, most)

    async def read_many(
        self,
        rev: str,
        paths: Iterable[str],
        *,
        most: int = bounded.PARSED,
    ) -> Texts:
        """Return, like `read`, the content of those `paths` that are files in the tree."""
        names = {path: f"{rev}:{path}" for path in paths}
        sizes = await self._sizes(list(names.values()))
        return await self._texts(names, dict(zip(names, sizes, strict=True)), most)

    async def _texts(self, names: Mapping[str, str], sizes: Mapping[str, int], most: int) -> Texts:
        """Return the content of `names` (path → the object's name) by path, read by one process."""
        small, larger = _within(sizes, most)
        found = dict[str, str]()
        if small:
            asked = [os.fsencode(names[path]) for path in small]
            given = ended_by_nul(names[path] for path in small)
            printed = await self.run("cat-file", "--batch", "-z", stdin=given)
            for path, content in zip(small, plumbing.contents(printed.out, asked), strict=True):
                if content is not None:
                    found[path] = content.decode(errors="replace")
        return Texts(found, larger)

    async def show(self, rev: str, path: str) -> str | None:
        """Return the content of one small file of a tree; None if the tree has no such file."""
        return (await self.read_many(rev, [path])).found.get(path)

    async def changed(self, before: str, after: str) -> list[Change]:
        """Return the differences between the commits or trees with these ids, by path.

        A rename counts as a deletion and an addition.
        """
        trees = self.known.trees
        ends = (trees.get(before, before), trees.get(after, after))
        found = self.known.diffs.get(ends)
        if found is None:
            how = ("diff-tree", "-r", "-z", "--raw", "--no-renames", "--full-index")
            printed = await self.run(*how, *ends)
            found = await aside(many(printed.out), partial(plumbing.changes, printed.out))
            self.known.diffs[ends] = found
        return found

    async def merge(
        self,
        onto: str,
        change: str,
        *,
        since: str,
    ) -> tuple[str, tuple[str, ...]]:
        """Return the tree of `onto` with what `change` did after `since`; or "" and the conflicts.

        The merge uses the attributes of `onto`.
        """
        how = ("merge-tree", "--write-tree", "-z", "--name-only", "--no-messages")
        ends = (f"--merge-base={since}", onto, change)
        done = await self.run(f"--attr-source={onto}", *how, *ends, ok=(0, 1))
        tree, *conflicts = os.fsdecode(done.out).rstrip("\0").split("\0")
        return "" if done.code else tree, tuple(conflicts)

    async def commit_tree(
        self,
        tree: str,
        parents: Sequence[str],
        message: str,
        *,
        author: Person,
        committer: Person,
    ) -> str:
        """Create a commit object, and return its id."""
        env = {
            "GIT_AUTHOR_NAME": author.name,
            "GIT_AUTHOR_EMAIL": author.email,
            "GIT_COMMITTER_NAME": committer.name,
            "GIT_COMMITTER_EMAIL": committer.email,
        }
        command = ["commit-tree", tree, "-F", "-"]
        for parent in parents:
            command += ["-p", parent]
        made = await self.text(*command, stdin=message.encode(), env=env)
        self.known.trees[made] = tree
        if parents:
            self.known.bases[made] = parents[0]
        return made


def _within(sizes: Mapping[str, int], most: int) -> tuple[list[str], dict[str, int]]:
    """Return the files to read, and the files that are too large. Every file needs a size."""
    small = list[str]()
    larger = dict[str, int]()
    room = _BATCH_MOST
    for path, size in sizes.items():
        if size > min(most, room):
            larger[path] = size
        elif size >= 0:
            room -= size
            small.append(path)
    return small, larger
