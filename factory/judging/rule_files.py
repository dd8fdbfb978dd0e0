"""The files of a commit that say how work is judged, prepared and prompted.

Invariant: no more than a bound is read of each. A larger one is named, and never counts as empty.
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
from factory.inference.infer import wanted
from factory.inference.python import LOCKED, LOCKS
from factory.repo.git import Git


class RuleFiles:
    """Reads them; what it read of one commit it does not read again for the next."""

    def __init__(self, own: Git) -> None:
        self._own = own
        self._known: dict[str, str] = {}  # by blob

    async def read(self, commit: str, blobs: Mapping[str, str]) -> Texts:
        """What these files of a commit say (path → id)."""
        # A copy: while git is asked, somebody else may read another commit.
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
        """The lines of a lock file that name packages, which git finds; None if too many."""
        how = ("grep", "-h", "-a", "-o", "--no-color", "-E", "-e", LOCKED, commit, "--", path)
        try:
            done = await self._own.run(*how, ok=(0, 1), into=Into(bounded.PARSED))
        except TooMuch:
            return None
        return os.fsdecode(done.out)


def ruling_in(listing: Sequence[str], folder: str) -> list[str]:
    """The files of a commit that rule; `folder`: the name of the one with the conventions."""
    return sorted({*wanted(listing, folder), *conventions_in(listing, folder)})


def conventions_in(listing: Iterable[str], folder: str) -> list[str]:
    """The files of the folder with the conventions that count; other files there are ignored."""
    counted = tuple(f"{folder}/{name}" for name in KNOWN)
    return [name for name in listing if name.startswith(counted)]


async def too_large(own: Git, after: str, changes: Sequence[Change], folder: str) -> dict[str, int]:
    """The files of a change that rule and have more bytes than are read of them, with these."""
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
    """How many bytes such a file may have."""
    return bounded.LOCK_FILE if path in LOCKS else bounded.PARSED


def _ruling(changes: Sequence[Change], folder: str) -> dict[str, str]:
    """Those that may be files that rule, with their blobs."""
    blobs = dict[str, str]()
    for change in changes:
        if change.new and change.mode not in (GITLINK, SYMLINK):
            blobs[change.path] = change.new
    return {path: blobs[path] for path in ruling_in(list(blobs), folder)}
