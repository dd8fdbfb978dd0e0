"""Reads the rule files of a commit, which say how to judge, prepare and prompt.

Invariant: each file is read up to a bound. A larger file is reported and never counts as empty.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from factory.ground import bounded
from factory.ground.aside import aside
from factory.ground.errors import TooMuch
from factory.ground.names import KNOWN
from factory.ground.pipes import Into
from factory.ground.plumbing import GITLINK, SYMLINK, Change, Texts
from factory.inference.files import LOCKED, LOCKS
from factory.inference.infer import wanted
from factory.repo.git import Git


class RuleFiles:
    """Reads rule files. If a file is the same as in the last commit, it is not read again."""

    def __init__(self, own: Git) -> None:
        self._own = own
        self._known: dict[str, str] = {}  # the texts by blob id

    async def read(self, commit: str, blobs: Mapping[str, str]) -> Texts:
        """Return the texts of these files of a commit; `blobs`: path → blob id."""
        # A copy, because another task may read another commit while git runs.
        known = dict(self._known)
        fresh = {path: blob for path, blob in blobs.items() if blob not in known}
        locks = {path: fresh.pop(path) for path in LOCKS if path in fresh}
        found, larger = await self._own.read(fresh)
        for path, blob in locks.items():
            sizes = await self._own.sizes([blob])
            size = sizes.get(blob, 0)
            names = await self._locked(commit, path) if size <= bounded.LOCK_FILE else None
            if names is None:
                larger[path] = size
            else:
                found[path] = names
        for path, text in found.items():
            known[blobs[path]] = text
        texts = dict[str, str]()
        self._known = {}
        for path, blob in blobs.items():
            if blob in known:
                texts[path] = known[blob]
                self._known[blob] = known[blob]
        return Texts(texts, larger)

    async def _locked(self, commit: str, path: str) -> str | None:
        """Return the lines of a lock file that name packages; None if there are too many."""
        how = ("grep", "-h", "-a", "-o", "--no-color", "-E", "-e", LOCKED, commit, "--", path)
        try:
            done = await self._own.run(*how, ok=(0, 1), into=Into(bounded.PARSED))
        except TooMuch:
            return None
        return os.fsdecode(done.out)


def ruling_in(listing: Sequence[str], folder: str) -> list[str]:
    """Return the rule files of a commit; `folder`: the name of the conventions folder."""
    return sorted({*wanted(listing, folder), *conventions_in(listing, folder)})


def conventions_in(listing: Iterable[str], folder: str) -> list[str]:
    """Return the files in the conventions folder that factoryd knows; other files are ignored."""
    counted = tuple(f"{folder}/{name}" for name in KNOWN)
    return [name for name in listing if name.startswith(counted)]


async def too_large(own: Git, after: str, changes: Sequence[Change], folder: str) -> dict[str, int]:
    """Return the rule files in a change that are too large to be read, each with its bytes."""
    blobs = await aside(len(changes), partial(_ruling, changes, folder))
    sizes = await own.sizes(blobs.values())
    larger = dict[str, int]()
    for path, blob in blobs.items():
        size = sizes.get(blob, 0)
        if size > most(path):
            larger[path] = size
    if not larger:
        return {}
    listing = list(await own.listing(after))
    ruling = await aside(len(listing), partial(ruling_in, listing, folder))
    return {path: larger[path] for path in ruling if path in larger}


def most(path: str) -> int:
    """Return how many bytes a rule file with this path may have."""
    return bounded.LOCK_FILE if path in LOCKS else bounded.PARSED


def _ruling(changes: Sequence[Change], folder: str) -> dict[str, str]:
    """Return those files of a change that may be rule files, with their blob ids."""
    blobs = dict[str, str]()
    for change in changes:
        if change.new and change.mode not in (GITLINK, SYMLINK):
            blobs[change.path] = change.new
    return {path: blobs[path] for path in ruling_in(list(blobs), folder)}
