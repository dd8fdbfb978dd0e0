"""Packs the objects of the factory repository, in steps of about a second.

Invariant: no object is ever deleted, reachable or not. git deletes a loose object or a pack only
after another pack has its objects. So packing is safe while agents borrow objects in their
workspaces, and while benches, candidates and other git commands use objects that no ref names.
"""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from anyio import to_thread

from factory.ground import faults
from factory.repo.git import Git

AT_ONCE = 1000  # objects in one step: about half a second of CPU
STEP_BYTES = 32 << 20  # bytes in one step, as they lie on disk
LARGE = 8 << 20  # a loose object with more bytes stays loose
FEW = 8  # so many small packs may stay; more are merged
STALE_S = 86_400.0  # a temporary pack of this age belongs to a dead git
STEP_S = 600.0  # time limit of one git command
# The sample for `loose`: ids are hashes, so each of the 256 folders has about as many objects. A
# step takes folders in order, so the last folder keeps its objects until the last step.
_SAMPLE = "ff"
_SMALL = (
    "pack.threads=1",
    "pack.windowMemory=32m",
    "repack.writeBitmaps=false",
    f"core.bigFileThreshold={LARGE}",
)


class Packing:
    """The packs and loose objects of the factory repository."""

    def __init__(self, own: Git) -> None:
        self._objects = own.git_dir / "objects"
        self._own = replace(own, config=(*own.config, *_SMALL))

    def loose(self) -> int:
        """Return about how many loose objects exist, by looking into one folder."""
        with suppress(OSError):
            return 256 * len(os.listdir(self._objects / _SAMPLE))  # noqa: PTH208 - names are enough
        return 0

    def last(self) -> float:
        """Return when the newest pack was made, or else the clone; seconds since the epoch."""
        found = [self._own.git_dir / "config", *self._packs()]
        return max(path.lstat().st_mtime for path in found)

    async def pack(self) -> bool:
        """Move some loose objects into a new pack; return whether there were any."""
        names = await to_thread.run_sync(lambda: list(_some(self._objects)))
        if not names:
            return False
        asked = "".join(f"{name}\n" for name in names).encode()
        target = str(self._objects / "pack/pack")
        how = ("pack-objects", "-q", "--incremental", "--non-empty", "--delta-base-offset")
        with faults.step("archive.pack"):
            await self._own.run(*how, target, stdin=asked, seconds=STEP_S)
            # A power cut must not keep the deletion of an object and lose its pack.
            await to_thread.run_sync(_sync, self._objects / "pack")
        with faults.step("archive.loose"):
            await self._own.run("prune-packed", "-q", seconds=STEP_S)
        return True

    async def merge(self) -> None:
        """If there are many small packs, make one of them; leave the others alone."""
        every = self._packs()
        small = _small(every)
        if len(small) <= FEW:
            return
        keep = [f"--keep-pack={path.name}" for path in every if path not in small]
        how = ("repack", "--geometric=2", "-d", "-n", "-q")
        with faults.step("archive.merge"):
            self._sweep()
            await self._own.run(*how, *keep, seconds=STEP_S)

    def _packs(self) -> list[Path]:
        return sorted((self._objects / "pack").glob("*.pack"))

    def _sweep(self) -> None:
        """Delete temporary packs that a killed git left."""
        for path in (self._objects / "pack").glob("*tmp*"):
            with suppress(OSError):
                if time.time() - path.lstat().st_mtime > STALE_S:
                    path.unlink()


def _some(objects: Path) -> Iterator[str]:
    """Yield the ids of loose objects, as many as one step packs."""
    count = size = 0
    for number in range(256):
        folder = objects / f"{number:02x}"
        if not folder.is_dir():
            continue
        for path in folder.iterdir():
            about = path.lstat().st_size
            if path.name.startswith("tmp") or about > LARGE:
                continue
            yield folder.name + path.name
            count += 1
            size += about
            if count == AT_ONCE or size > STEP_BYTES:
                return


def _small(packs: list[Path]) -> list[Path]:
    """Return the smallest packs, as many as one step merges."""
    found = []
    room = STEP_BYTES
    for path in sorted(packs, key=lambda pack: pack.lstat().st_size):
        room -= path.lstat().st_size
        if room < 0 or path.with_suffix(".keep").exists():
            continue
        found.append(path)
    return found


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
