"""Git: what a git dir holds, read and written in plumbing.

Invariant: what git said of an object is kept, since an object never changes.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, TypeVar

from factory.ground import bounded, plumbing
from factory.ground.aside import aside
from factory.ground.plumbing import Change, Texts
from factory.repo.git_dir import GitDir, many

_BATCH_MOST = 32 << 20  # bytes of all files together that are read at once

K = TypeVar("K")
V = TypeVar("V")


class Person(NamedTuple):
    """Who wrote or committed."""

    name: str
    email: str


FACTORY = Person("factoryd", "factoryd@factoryd.invalid")


class Recent(dict[K, V]):
    """The newest entries: a further one makes it forget the oldest."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def __setitem__(self, key: K, value: V) -> None:
        """Keep it."""
        if key not in self and len(self) >= self._most:
            del self[next(iter(self))]
        super().__setitem__(key, value)


Listing = tuple[Mapping[str, str], frozenset[str]]  # path → id, and which are symbolic links


class Known:
    """What git said of objects, by their ids."""

    def __init__(self) -> None:
        self.trees = Recent[str, str](4096)  # of commits
        self.bases = Recent[str, str](4096)  # of commits that were made here: their first parent
        self.listings = Recent[str, Listing](16)  # of commits
        self.diffs = Recent[tuple[str, str], list[Change]](256)  # between trees
        self.sizes = Recent[str, int](4096)  # of blobs; -1: there is none


@dataclass(frozen=True, slots=True, kw_only=True)
class Git(GitDir):
    """A git dir with its objects."""

    known: Known = field(default_factory=Known, repr=False, compare=False)

    async def tree(self, commit: str) -> str:
        """The tree of the commit with this id."""
        tree = self.known.trees.get(commit)
        if tree is None:
            tree = await self.text("rev-parse", "--verify", f"{commit}^{{tree}}")
            self.known.trees[commit] = tree
        return tree

    async def listing(self, commit: str) -> Mapping[str, str]:
        """Every path of the commit with this id, sorted, with the id of what is there."""
        paths, _ = await self._listed(commit)
        return paths

    async def links(self, commit: str) -> frozenset[str]:
        """The paths of the symbolic links of the commit with this id."""
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
        # It was made here on a known one: git need not list it.
        changes = await self.changed(base, commit)
        paths, links = below
        return await aside(
            len(paths) + len(changes), partial(plumbing.after, paths, links, changes)
        )

    async def sizes(self, blobs: Iterable[str]) -> dict[str, int]:
        """The bytes of the blobs with these ids, less those that are missing."""
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
        printed = await self.run("cat-file", form, "--buffer", "-z", stdin=_ended(asked))
        return list(plumbing.sizes(printed.out, asked))

    async def read(self, blobs: Mapping[str, str], *, most: int = bounded.PARSED) -> Texts:
        """The content of blobs by their paths (path → id); what is not UTF-8 is replaced.

        One of more than `most` bytes is not read, nor one beyond what is read at once.
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
        """The same for those of `paths` that are files of the tree."""
        names = {path: f"{rev}:{path}" for path in paths}
        sizes = await self._sizes(list(names.values()))
        return await self._texts(names, dict(zip(names, sizes, strict=True)), most)

    async def _texts(self, names: Mapping[str, str], sizes: Mapping[str, int], most: int) -> Texts:
        """The content of objects by their paths (path → the object's name), read in one process."""
        small, larger = _within(sizes, most)
        found = dict[str, str]()
        if small:
            asked = [os.fsencode(names[path]) for path in small]
            printed = await self.run("cat-file", "--batch", "-z", stdin=_ended(asked))
            for path, content in zip(small, plumbing.contents(printed.out, asked), strict=True):
                if content is not None:
                    found[path] = content.decode(errors="replace")
        return Texts(found, larger)

    async def show(self, rev: str, path: str) -> str | None:
        """The content of one small file of a tree; None when the tree has no such file."""
        return (await self.read_many(rev, [path])).found.get(path)

    async def changed(self, before: str, after: str) -> list[Change]:
        """What differs between the commits or trees with these ids, by path.

        A rename is a deletion and an addition.
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
        """The tree of `onto` with what `change` did after `since`; or "" and the conflicts.

        The attributes are those of `onto`.
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
        """Make a commit object, and return its id."""
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


def _ended(names: Iterable[bytes]) -> bytes:
    """Names as git reads them with -z."""
    return b"".join(name + b"\0" for name in names)


def _within(sizes: Mapping[str, int], most: int) -> tuple[list[str], dict[str, int]]:
    """Which files are read, and those that are too large for it; what has no size is no file."""
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
