"""The files of a commit that say how work is judged, prepared and prompted: which ones, and what they say.

Invariant: no more than a bound is read of each. One that is larger is named, and never taken for
one that says nothing.
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
    """Reads them; what the commit asked for before had too is not read again."""

    def __init__(self, own: Git) -> None:
        self._own = own
        self._known: dict[str, str] = {}  # by blob

    async def read(self, commit: str, blobs: Mapping[str, str]) -> Texts:
        """What these files of a commit say (path → id)."""
        fresh = {path: blob for path, blob in blobs.items() if blob not in self._known}
        locks = {path: fresh.pop(path) for path in LOCKS if path in fresh}
        found, larger = await self._own.read(fresh)
        for path, blob in locks.items():
            size = (await self._own.sizes([blob])).get(blob, 0)
            names = await self._locked(commit, path) if size <= bounded.LOCK_FILE else None
            if names is None:
                larger[path] = size
            else:
                found[path] = names
        known = self._known | {blobs[path]: text for path, text in found.items()}
        self._known = {blob: known[blob] for blob in blobs.values() if blob in known}
        texts = {path: known[blob] for path, blob in blobs.items() if blob in known}
        return Texts(texts, larger)

    async def _locked(self, commit: str, path: str) -> str | None:
        """The lines of a lock file that name what it locks, which git looks for; None if those are too many."""
        how = ("grep", "-h", "-a", "-o", "--no-color", "-E", "-e", LOCKED, commit, "--", path)
        try:
            done = await self._own.run(*how, ok=(0, 1), into=Into(bounded.PARSED))
        except TooMuch:
            return None
        return os.fsdecode(done.out)


def ruling_in(listing: Sequence[str], folder: str) -> list[str]:
    """The files of a commit that rule."""
    return sorted({*wanted(listing, folder), *conventions_in(listing, folder)})


def conventions_in(listing: Iterable[str], folder: str) -> list[str]:
    """The files of the folder with the conventions that count; what else lies there is nobody's."""
    counted = tuple(f"{folder}/{name}" for name in KNOWN)
    return [name for name in listing if name.startswith(counted)]


async def too_large(own: Git, after: str, changes: Sequence[Change], folder: str) -> dict[str, int]:
    """The files of a change that rule and are larger than what is read of them, with their bytes."""
    blobs = await aside(len(changes), partial(_ruling, changes, folder))
    sizes = await own.sizes(blobs.values())
    found = {path: sizes.get(blob, 0) for path, blob in blobs.items()}
    larger = {path: size for path, size in found.items() if size > most(path)}
    if not larger:
        return {}
    listing = list(await own.listing(after))
    ruling = await aside(len(listing), partial(ruling_in, listing, folder))
    return {path: size for path, size in larger.items() if path in ruling}


def most(path: str) -> int:
    """How many bytes such a file may have."""
    return bounded.LOCK_FILE if path in LOCKS else bounded.PARSED


def _ruling(changes: Sequence[Change], folder: str) -> dict[str, str]:
    """Those that may be files that rule, with their blobs."""
    blobs = {change.path: change.new for change in changes if _is_file(change)}
    return {path: blobs[path] for path in ruling_in(list(blobs), folder)}


def _is_file(change: Change) -> bool:
    return bool(change.new) and change.mode not in (GITLINK, SYMLINK)
