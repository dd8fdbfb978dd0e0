"""Records the setup or the gates that run at a place, so that a later daemon can continue them.

Invariant: a record is written before the first of its runs begins. It is removed before anything
else happens at the same place. A run counts only if this store began the run and its exit file is
complete.
"""

import json
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from enum import IntEnum
from pathlib import Path
from typing import Any, Literal

from factory.child import process
from factory.child.killed import killed_by
from factory.child.process import Child, Exit
from factory.ground import bounded, faults
from factory.repo.checkouts import ABANDONED, put_aside
from factory.store.durations import Durations
from factory.store.identity import UNKNOWN, is_nonce_of, new_nonce, recorded
from factory.store.ports import Store
from factory.store.running import RECORD

UNDERWAY = RECORD  # a file beside the tree, where no command can write
CLAIM_SECONDS = 60.0  # for so many seconds after a start, a task may still claim a record

What = Literal["setup", "gates", "proof"]


class Fit(IntEnum):
    """How the record at a place fits what the next user of the place wants to run."""

    OTHER = 0  # the record is for other work, and another task may still want it
    STALE = 1  # no task wants it, because the same work would run differently now
    SAME = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a daemon began at a place."""

    nonce: str  # the exit files of the record's runs repeat it
    what: What
    tree: str
    # Digest of everything that the result depends on, except what can only be seen in the tree.
    about: str
    # the data that a later daemon needs to continue
    found: Mapping[str, Any] = field(default_factory=dict)
    shown: Mapping[str, Any] = field(default_factory=dict)  # what `factory status` shows of it


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a record."""

    folder: Path
    nonce: str


class BrokenOff(Exception):
    """A run of an earlier daemon has no result, because the run was ended or lost.

    `left`: the number of the run's processes that could not be ended.
    """

    def __init__(self, run: str, *, left: int) -> None:
        super().__init__(run)
        self.left = left


class Underway:
    """The records of one factory. `work`: the folder of all places.

    `logs`: the folder of all runs.
    """

    def __init__(
        self,
        *,
        store: Store,
        logs: Path,
        work: Path,
        leaves: Callable[[], bool],
    ) -> None:
        self._store = store
        self._logs = logs
        self._work = work
        self.durations = Durations(store)
        self.leaves = leaves  # whether the next daemon continues what runs now
        self._unclaimed: dict[Path, str] = {}

    # ── while it runs ──

    @faults.during("command.note")
    def begin(
        self,
        place: Path,
        what: What,
        *,
        tree: str,
        about: str,
        found: Mapping[str, Any] | None = None,
        shown: Mapping[str, Any] | None = None,
    ) -> Record:
        """Record what the daemon is about to begin at a place."""
        nonce = new_nonce(self._store)
        record = Record(
            nonce=nonce,
            what=what,
            tree=tree,
            about=about,
            found=found or {},
            shown=shown or {},
        )
        _write(place / UNDERWAY, record)
        return record

    @faults.during("command.note")
    def note(self, place: Path, record: Record, found: Mapping[str, Any]) -> None:
        """Record the progress. Call this before changing anything that the record describes."""
        _write(place / UNDERWAY, replace(record, found=found))

    def fresh(self, place: Path, name: str, record: Record | None = None) -> Run:
        """Return a new run that has not begun; its folder's name identifies its record, if any."""
        plain = re.sub(r"[^a-z0-9]+", "-", name)[:40]
        token = f"{_token(record)}-{secrets.token_hex(2)}" if record else secrets.token_hex(4)
        return self.run(record, f"{place.name}-{token}-{plain}")

    def step(self, place: Path, record: Record, number: int) -> Run:
        """Return the run of a setup's step: every daemon gets the same run for a step."""
        return self.run(record, f"{place.name}-{_token(record)}-{number}-setup")

    def run(self, record: Record | None, name: str) -> Run:
        """Return the run whose folder has this name."""
        return Run(self._logs / name, record.nonce if record else "")

    @contextmanager
    def until_over(self, place: Path) -> Iterator[None]:
        """Remove the record at the end of the block, unless the next daemon continues the work."""
        try:
            yield
        except BaseException:
            if not self.leaves():
                self.forget(place)
            raise
        self.forget(place)

    @faults.during("command.forget")
    def forget(self, place: Path) -> None:
        """Remove the record. None of its runs may be alive or count any more."""
        (place / UNDERWAY).unlink(missing_ok=True)

    # ── after an earlier daemon ──

    def at(self, place: Path) -> Record | None:
        """Return this store's record at a place; None if nothing of it is under way there."""
        record = _read(place / UNDERWAY)
        return record if record and self._is_ours(record) else None

    async def claim(self, place: Path, *about: str) -> Record | None:
        """Return the earlier daemon's record at the place if it fits one of these digests.

        Otherwise end the record's runs.
        """
        self._unclaimed.pop(place, None)
        if not is_noted(place):
            return None
        record = self.at(place)
        if record and record.about in about:
            return record
        await self.vacate(place)
        return None

    async def vacate(self, place: Path) -> None:
        """End everything under way at a place. If that fails, put the place out of use."""
        if not await self.drop(place):
            put_aside(place)

    def let_go(self, place: Path, *broken: BrokenOff) -> None:
        """Forget the work that was interrupted at a place.

        If some processes of that work still run, put the place out of use.
        """
        self.forget(place)
        if any(each.left for each in broken):
            put_aside(place)

    async def drop(self, place: Path) -> bool:
        """End and forget everything under way at a place; return whether all processes ended."""
        is_over = await _end(unended(self._logs, f"{place.name}-*"))
        if is_over:
            self.forget(place)
        return is_over

    async def sort_out(self) -> bool:
        """End everything that no daemon will ask for; return whether all processes ended.

        Gates and setups of this store continue, because the daemon may ask for them again.
        """
        is_over = True
        for place in self._places():
            record = self.at(place)
            if record:
                self._unclaimed[place] = record.nonce
            elif not await self.drop(place):
                is_over = False
        spared = set[Path]()
        for place in self._unclaimed:
            spared.update(self._runs_at(place))
        rest = [folder for folder in unended(self._logs) if folder not in spared]
        return await _end(rest) and is_over

    async def end_unclaimed(self) -> None:
        """End everything that no task has claimed since the start."""
        for place, nonce in list(self._unclaimed.items()):
            record = self.at(place)
            if place in self._unclaimed and record and record.nonce == nonce:
                await self.drop(place)
        self._unclaimed.clear()

    def runs(self) -> Iterator[Path]:
        """Yield the run dirs of everything that the next start may continue."""
        for place in self._places():
            yield from self._runs_at(place)

    def _runs_at(self, place: Path) -> list[Path]:
        record = self.at(place)
        if not record:
            return []
        return sorted(self._logs.glob(f"{place.name}-{_token(record)}-*"))

    def _places(self) -> list[Path]:
        found = sorted(path.parent for path in self._work.glob(f"*/*/{UNDERWAY}"))
        return [place for place in found if ABANDONED not in place.name]

    def _is_ours(self, record: Record) -> bool:
        known = recorded(self._store)
        return is_nonce_of(known.id if known else UNKNOWN, record.nonce)


async def resumed(run: Run) -> Child | Exit | None:
    """Return the result of a run that an earlier daemon began; None if the run never started."""
    if not run.folder.exists():
        return None
    return await process.adopt(run.folder, run.nonce)


def _token(record: Record) -> str:
    return record.nonce.rpartition("-")[2]


def says_something(ended: Exit) -> bool:
    """Whether a run that no daemon watched ended by itself, so that its result counts."""
    if ended.left or killed_by(ended):
        return False
    return ended.cause in ("exited", "timeout", "overran")


def is_noted(place: Path) -> bool:
    """Whether the place has a record, from this store or from another one."""
    return (place / UNDERWAY).exists()


def unended(logs: Path, names: str = "*") -> list[Path]:
    """Return the run dirs with such names and no exit file: they may have live processes."""
    starts = sorted(logs.glob(f"{names}/start.json"))
    return [start.parent for start in starts if not start.with_name("exit.json").exists()]


@faults.during("command.end")
async def _end(folders: Sequence[Path]) -> bool:
    """End all processes of the runs in these run dirs; return whether all ended."""
    ended = [await process.end(folder) for folder in folders]
    return all(ended)


def _read(path: Path) -> Record | None:
    """Return the record in that file; None if the file is missing or incomplete."""
    with suppress(OSError, ValueError, TypeError):
        return Record(**json.loads(bounded.whole(path, bounded.PARSED)))
    return None


def _write(path: Path, record: Record) -> None:
    """Write the record atomically."""
    fresh = path.with_suffix(".new")
    text = json.dumps(asdict(record))
    fresh.write_text(text, encoding="utf-8", errors="surrogateescape")
    fresh.replace(path)
