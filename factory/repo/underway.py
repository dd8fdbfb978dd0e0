"""What is under way at a place: a setup, or gates, that a later daemon goes on with.

Invariant: a record is written before the first of its runs begins, and removed before anything else
happens at its place. A run counts only if this very store began it and its exit file is whole.
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
from factory.child.process import Child, Exit
from factory.ground import bounded, faults
from factory.store.identity import UNKNOWN, is_nonce_of, new_nonce, recorded
from factory.store.ports import Store

UNDERWAY = "underway.json"  # beside the tree; no command can write there
CLAIM_SECONDS = 60.0  # how long a start leaves a record to whoever asks for the same
_OUT_OF_USE = ".abandoned-"

What = Literal["setup", "gates", "proof"]


class Fit(IntEnum):
    """How a record at a place fits what its next taker wants to run there."""

    OTHER = 0  # somebody else may ask for it
    STALE = 1  # nobody will: it would run otherwise now
    SAME = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What was begun at a place."""

    nonce: str  # repeated in the exit files of its runs
    what: What
    tree: str
    about: str  # digest of all that its outcome depends on, as far as no look at the tree tells it
    found: Mapping[str, Any] = field(default_factory=dict)  # what is to be known to go on with it


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a record."""

    folder: Path
    nonce: str


class BrokenOff(Exception):
    """A run that an earlier daemon began says nothing: it was ended, or lost.

    `left`: how many of its processes could not be ended.
    """

    def __init__(self, run: str, *, left: int) -> None:
        super().__init__(run)
        self.left = left


class Underway:
    """The records of one factory. `work`: the folder of all places; `logs`: of all runs."""

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
        self.leaves = leaves  # whether what runs now is for the next daemon to see through
        self._unclaimed: dict[Path, str] = {}

    # ── while it lasts ──

    @faults.during("command.note")
    def begin(
        self,
        place: Path,
        what: What,
        *,
        tree: str,
        about: str,
        found: Mapping[str, Any] | None = None,
    ) -> Record:
        """Note what is about to begin at a place."""
        nonce = new_nonce(self._store)
        record = Record(
            nonce=nonce,
            what=what,
            tree=tree,
            about=about,
            found=found or {},
        )
        _write(place / UNDERWAY, record)
        return record

    @faults.during("command.note")
    def note(self, place: Path, record: Record, found: Mapping[str, Any]) -> None:
        """Note how far it has come, before anything that this tells of changes."""
        _write(place / UNDERWAY, replace(record, found=found))

    def fresh(self, place: Path, name: str, record: Record | None = None) -> Run:
        """A run that nobody began; one of a record is known by its folder's name."""
        plain = re.sub(r"[^a-z0-9]+", "-", name)[:40]
        token = f"{_token(record)}-{secrets.token_hex(2)}" if record else secrets.token_hex(4)
        return self.run(record, f"{place.name}-{token}-{plain}")

    def step(self, place: Path, record: Record, number: int) -> Run:
        """The run of a setup's step: the same one for each daemon that goes on with it."""
        return self.run(record, f"{place.name}-{_token(record)}-{number}-setup")

    def run(self, record: Record | None, name: str) -> Run:
        """A run by the name of its folder."""
        return Run(self._logs / name, record.nonce if record else "")

    @contextmanager
    def until_over(self, place: Path) -> Iterator[None]:
        """Forget it at the end of the block, unless the next daemon goes on with it."""
        try:
            yield
        except BaseException:
            if not self.leaves():
                self.forget(place)
            raise
        self.forget(place)

    @faults.during("command.forget")
    def forget(self, place: Path) -> None:
        """Remove the record: nothing of it runs any more, or nothing of it counts."""
        (place / UNDERWAY).unlink(missing_ok=True)

    # ── after an earlier daemon ──

    def is_noted(self, place: Path) -> bool:
        """Whether anything is noted there, whoever's it is."""
        return (place / UNDERWAY).exists()

    def at(self, place: Path) -> Record | None:
        """What this store began at a place; None where nothing is under way there."""
        record = _read(place / UNDERWAY)
        return record if record and self._is_ours(record) else None

    async def claim(self, place: Path, *about: str) -> Record | None:
        """What an earlier daemon began here, if it is about one of these; else it is ended."""
        self._unclaimed.pop(place, None)
        if not self.is_noted(place):
            return None
        record = self.at(place)
        if record and record.about in about:
            return record
        await self.vacate(place)
        return None

    async def vacate(self, place: Path) -> None:
        """End whatever is under way there, or put the place out of use where that fails."""
        if not await self.drop(place):
            _put_out_of_use(place)

    def let_go(self, place: Path, *broken: BrokenOff) -> None:
        """Forget what was broken off; put a place out of use where something of it still runs."""
        self.forget(place)
        if any(each.left for each in broken):
            _put_out_of_use(place)

    async def drop(self, place: Path) -> bool:
        """End whatever is under way at a place, and forget it; whether nothing of it is left."""
        is_over = await _end(unended(self._logs, f"{place.name}-*"))
        if is_over:
            self.forget(place)
        return is_over

    async def sort_out(self) -> bool:
        """End what no daemon will ask for; true when nothing of it is left.

        What may be asked for again runs on: gates and setups that this store began.
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
        """End what nobody has asked for since the start."""
        for place, nonce in list(self._unclaimed.items()):
            record = self.at(place)
            if place in self._unclaimed and record and record.nonce == nonce:
                await self.drop(place)
        self._unclaimed.clear()

    def runs(self) -> Iterator[Path]:
        """The run dirs of all that the next start may go on with."""
        for place in self._places():
            yield from self._runs_at(place)

    def _runs_at(self, place: Path) -> list[Path]:
        record = self.at(place)
        if not record:
            return []
        return sorted(self._logs.glob(f"{place.name}-{_token(record)}-*"))

    def _places(self) -> list[Path]:
        found = sorted(path.parent for path in self._work.glob(f"*/*/{UNDERWAY}"))
        return [place for place in found if _OUT_OF_USE not in place.name]

    def _is_ours(self, record: Record) -> bool:
        known = recorded(self._store)
        return is_nonce_of(known.id if known else UNKNOWN, record.nonce)


async def resumed(run: Run) -> Child | Exit | None:
    """What became of a run that an earlier daemon began; None where it never came to that."""
    if not run.folder.exists():
        return None
    return await process.adopt(run.folder, run.nonce)


def _token(record: Record) -> str:
    return record.nonce.rpartition("-")[2]


def says_something(ended: Exit) -> bool:
    """Whether a run that nobody watched ended by itself."""
    return ended.cause in ("exited", "timeout", "overran") and not ended.left


def unended(logs: Path, names: str = "*") -> list[Path]:
    """The run dirs of such names that have no exit file: what was begun there may still run."""
    starts = sorted(logs.glob(f"{names}/start.json"))
    return [start.parent for start in starts if not start.with_name("exit.json").exists()]


@faults.during("command.end")
async def _end(folders: Sequence[Path]) -> bool:
    """End what runs in these run dirs; whether nothing of it is left."""
    ended = [await process.end(folder) for folder in folders]
    return all(ended)


@faults.during("tree.abandon")
def _put_out_of_use(place: Path) -> None:
    """Rename it: what could not be ended may still write there."""
    place.rename(place.with_name(f"{place.name}{_OUT_OF_USE}{secrets.token_hex(4)}"))


def _read(path: Path) -> Record | None:
    """The record in that file; None where there is none, or only half of one."""
    with suppress(OSError, ValueError, TypeError):
        return Record(**json.loads(bounded.whole(path, bounded.PARSED)))
    return None


def _write(path: Path, record: Record) -> None:
    """Write the record, whole or not at all."""
    fresh = path.with_suffix(".new")
    text = json.dumps(asdict(record))
    fresh.write_text(text, encoding="utf-8", errors="surrogateescape")
    fresh.replace(path)
