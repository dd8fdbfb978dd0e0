"""Intake: makes units from files that people drop into the inbox.

Invariant: a file is first renamed into the intake folder. Then its unit is written in one
transaction, with the new name as its key. If the daemon dies between the two, the next scan finds
the file there and finishes. No file is ever deleted.
"""

import errno
import json
import os
import re
import secrets
import stat
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import NamedTuple

from anyio.lowlevel import checkpoint

from factory.ground import faults
from factory.ground.errors import TaskFileError
from factory.ground.regular import is_real
from factory.inbox import dropped
from factory.inbox.acceptance import Acceptance, Dropped
from factory.inbox.dropped import OWN, shown
from factory.inbox.rejections import NOTE, note
from factory.store import task_file
from factory.store.fact_values import value_of
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Fact
from factory.store.spec import Spec

STILL_S = 1.0  # a file is complete after this time without a change, if writers are unknown
QUIET_S = 0.02  # a script that appends line by line closes the file after each line
AHEAD_S = 1.0  # a file may change after the pass has read the clock
NAME_BYTES = 100  # most bytes of a name in rejected/ that was cut because it is too long
PASSED_OVER = re.compile(
    r"[.#~].*|.*(~|#|\.(tmp|temp|swp|swo|swx|bak|orig|part)|_jb_(tmp|old)___)|4913|rejected",
    re.DOTALL,
)
LOOKED_AT = 500  # files whose names one turn of the event loop checks


@dataclass(slots=True, kw_only=True)
class Scan:
    """The result of one pass."""

    accepted: list[str] = field(default_factory=list)  # ids of new or replaced units
    rejected: list[str] = field(default_factory=list)  # file names
    warnings: list[str] = field(default_factory=list)  # sentences: which file stays, and why
    again_s: float | None = None  # seconds until the next pass, if a file is still being written


def _nothing(scan: Scan) -> None:
    """Do nothing between two files."""


class _Wait(NamedTuple):
    """Why an incomplete file waits: a number of seconds, or a sentence with the reason."""

    seconds: float = 0
    why: str = ""


class Intake:
    """The inbox and the intake folder; `tracked` returns the names in the inbox that git tracks."""

    def __init__(
        self,
        *,
        inbox: Path,
        folder: Path,
        store: Store,
        acceptance: Acceptance,
        tracked: Callable[[], Awaitable[frozenset[str]]],
        ask_writers: Callable[[Path], bool | None] = dropped.written_to,
    ) -> None:
        self._inbox = inbox
        self._folder = folder
        self._store = store
        self._acceptance = acceptance
        self._ask_git = tracked
        self._tracked = frozenset[str]()  # names that git tracks, by git's last answer
        self._written_to = ask_writers
        # Inode, size and time of change of a file → the time since these have not changed.
        self._still: dict[tuple[int, int, int], datetime] = {}

    async def tick(self, now: datetime, between: Callable[[Scan], None] = _nothing) -> Scan:
        """Finish the files in the intake folder, then take the complete files in the inbox.

        After each file, it calls `between` and lets the other loops run.
        """
        scan = Scan()
        try:
            self._make_folders()
        except OSError as error:
            where = f"{error.filename} cannot be used as a folder ({error.strerror})"
            scan.warnings.append(f"factoryd takes no task file: {where}")
            return scan
        self._forget_old(now)
        for path in _by_arrival(self._folder.glob("*.[mM][dD]"), dropped.arrival_of_taken, now):
            self._try(path, scan, now, self._admit)
            between(scan)
            await checkpoint()
        names = await self._look(scan, now)
        await self._learn_tracked(names, now)
        for name in names:
            act = self._copy if name in self._tracked else self._take
            self._try(self._inbox / name, scan, now, act)
            between(scan)
            await checkpoint()
        return scan

    def hang(
        self,
        name: str,
        text: str,
        now: datetime,
        ignored: tuple[str, ...] = (),
        *,
        unit: str = "",
    ) -> str:
        """Accept a task that the factory itself wrote, and return the unit's id.

        `ignored`: keys in the text that its agent may not set. `unit`: the id of the new unit, if
        the caller has chosen a free one. Raises TaskFileError.
        """
        file = self._folder / "taken" / f"{OWN}{secrets.token_hex(8)}-{name}"
        with faults.step("inbox.hang"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        return self._acceptance.accept(Dropped(name, text, file.name, now, ignored, unit), now)

    @property
    def rejected(self) -> Path:
        """Return the folder with the files that were not accepted."""
        return self._inbox / "rejected"

    def _make_folders(self) -> None:
        folders = (self._inbox, self._folder, self._folder / "taken", self.rejected)
        with faults.step("folders.make"):
            for folder in folders:
                folder.mkdir(exist_ok=True)

    def _forget_old(self, now: datetime) -> None:
        for seen, since in list(self._still.items()):
            if now - since >= timedelta(hours=1):
                del self._still[seen]

    async def _look(self, scan: Scan, now: datetime) -> list[str]:
        """Return the names in the inbox that may be task files, by arrival; warn about others."""
        found = []
        for number, path in enumerate(sorted(self._inbox.iterdir())):
            if number % LOOKED_AT == LOOKED_AT - 1:
                await checkpoint()
            if PASSED_OVER.fullmatch(path.name):
                continue
            where = _where(path)
            if is_real(path):
                scan.warnings.append(
                    f"factoryd does not take the folder {where}: batches are not available yet"
                )
            elif path.suffix.lower() != ".md":
                scan.warnings.append(
                    f"factoryd does not take {where}: the name of a task file ends in .md"
                )
            else:
                found.append(path)
        return [path.name for path in _by_arrival(found, dropped.arrival, now)]

    def _try(
        self,
        path: Path,
        scan: Scan,
        now: datetime,
        act: Callable[[Path, Scan, datetime], None],
    ) -> None:
        """Call `act` with a complete file; note in the scan why an incomplete file waits."""
        where = _where(path)
        try:
            wait = self._wait(path, now)
            if wait is None:
                self._do(act, path, scan, now)
            elif wait.why:
                scan.warnings.append(f"{where} {wait.why}")
            else:
                scan.again_s = min(wait.seconds, scan.again_s or wait.seconds)
        except FileNotFoundError:
            pass  # somebody removed the file again
        except (OSError, TaskFileError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            scan.warnings.append(f"{where} cannot be taken ({reason}); factoryd tries again")

    def _do(
        self,
        act: Callable[[Path, Scan, datetime], None],
        path: Path,
        scan: Scan,
        now: datetime,
    ) -> None:
        """Call `act`; reject a file whose name leaves no room for factoryd's own prefix."""
        try:
            act(path, scan, now)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            reason = f"the file's name is too long: {len(os.fsencode(path.name))} bytes"
            form = f"at most {NAME_BYTES} bytes, with a `title:` in the file"
            self._reject(path, _cut(path.name), TaskFileError(reason, form=form), now)
            scan.rejected.append(shown(path.name))

    def _wait(self, path: Path, now: datetime) -> _Wait | None:
        """Return why the file waits; None if it is complete."""
        seen = path.lstat()
        if not stat.S_ISREG(seen.st_mode):
            return None  # complete, and `read` then refuses the file
        lock = dropped.editor_lock(path)
        if lock:
            return _Wait(why=f"waits: {shown(lock.name)} shows that an editor has it open")
        if -AHEAD_S < now.timestamp() - seen.st_mtime < QUIET_S:
            return _Wait(QUIET_S)
        if dropped.is_blank(path, seen.st_size):
            return _Wait(why="is empty: factoryd waits for its text")
        written = self._written_to(path)
        if written is None:
            written = not self._stands_still(path, now)
        return _Wait(STILL_S) if written else None

    def _stands_still(self, path: Path, now: datetime) -> bool:
        seen = path.lstat()
        since = self._still.setdefault((seen.st_ino, seen.st_size, seen.st_mtime_ns), now)
        return (now - since).total_seconds() >= STILL_S

    def _take(self, path: Path, scan: Scan, now: datetime) -> None:
        # Move the file before writing the record: after a crash between the two, the next scan
        # finds the file. Read it only after the move, and only if no process writes to it then. So
        # the text is always complete.
        moved = self._folder / dropped.intake_name(path, now)
        # Only the daemon that owns the store can begin a transaction.
        with self._store.transaction(), faults.step("inbox.take"):
            path.rename(moved)
        self._try(moved, scan, now, self._admit)

    # ── files that git tracks: copied, once for each content ──

    async def _learn_tracked(self, names: list[str], now: datetime) -> None:
        """Ask git about new names, if any; at the first start, record the existing files."""
        is_first = self._store.get(Fact, "inbox") is None
        if is_first or not self._tracked.issuperset(names):
            self._tracked = await self._ask_git()
        if is_first:
            self._remember(self._present(self._tracked.intersection(names)), now)

    def _copy(self, path: Path, scan: Scan, now: datetime) -> None:
        name = dropped.blob_name(path)
        seen = self._seen().get(name)
        if seen == "first":
            what = "is tracked by git and existed at the first start, so factoryd does not take it"
            scan.warnings.append(f"{_where(path)} {what}")
        if seen:
            return
        copy = self._folder / name
        part = copy.with_suffix(".part")
        with faults.step("inbox.copy"):
            part.write_bytes(dropped.read(path))
            part.rename(copy)
        self._remember({name: "taken"}, now)
        self._admit(copy, scan, now)

    def _present(self, names: frozenset[str]) -> dict[str, str]:
        blobs = {}
        for name in names:
            with suppress(OSError, TaskFileError):
                blobs[dropped.blob_name(self._inbox / name)] = "first"
        return blobs

    def _seen(self) -> dict[str, str]:
        return dict(value_of(self._store, "inbox", {}))

    def _remember(self, blobs: dict[str, str], now: datetime) -> None:
        fact = Fact(name="inbox", value=json.dumps(self._seen() | blobs))
        self._store.write(Event.FACT_CHANGED, fact, now=now, fact="inbox")

    # ── from file to unit ──

    def _admit(self, path: Path, scan: Scan, now: datetime) -> None:
        """Make a unit from a file in the intake folder, or reject it; may be called twice."""
        name = path.name.partition("-")[2]
        try:
            if not name.isprintable():
                reason = "the file's name has characters that cannot be shown"
                raise TaskFileError(reason, form="letters and digits")
            if not self._store.select(Spec, source=path.name):
                text = task_file.decode(dropped.read(path))
                file = Dropped(name, text, path.name, dropped.arrival_of_taken(path, now))
                unit = self._acceptance.accept(file, now)
                scan.accepted.append(unit)
        except TaskFileError as error:
            self._reject(path, name, error, now)
            scan.rejected.append(shown(name))
            return
        with faults.step("inbox.settle"):
            path.rename(self._folder / "taken" / path.name)

    def _reject(
        self,
        path: Path,
        name: str,
        error: TaskFileError,
        now: datetime,
    ) -> None:
        target = self._free_place(name)
        why = f"line {error.line}: {error.reason}" if error.line else error.reason
        text = note(shown(name), why, error, inbox=self._inbox.name)
        with faults.step("inbox.explain"):
            target.with_name(f"{target.name}{NOTE}").write_text(text, encoding="utf-8")
        with faults.step("inbox.reject"):
            path.rename(target)
        self._store.write(Event.TASK_REJECTED, now=now, name=shown(name), why=why)

    def _free_place(self, name: str) -> Path:
        """Return a free path in rejected/ for the file: NAME.md, NAME-2.md, …"""
        folder = self.rejected
        whole = Path(name)
        target = folder / name
        numbers = count(2)
        while os.path.lexists(target):
            target = folder / f"{whole.stem}-{next(numbers)}{whole.suffix}"
        return target


def _cut(name: str) -> str:
    """Return a name of at most NAME_BYTES, with the same suffix."""
    suffix = Path(name).suffix
    stem = os.fsencode(name)[: NAME_BYTES - len(os.fsencode(suffix))]
    return stem.decode(errors="ignore") + suffix


def _by_arrival(
    paths: Iterable[Path], arrival: Callable[[Path, datetime], datetime], now: datetime
) -> list[Path]:
    """Return the files that still exist, first those that were dropped first."""
    found = []
    for path in paths:
        with suppress(FileNotFoundError):
            found.append((arrival(path, now), path))
    return [path for _, path in sorted(found)]


def _where(path: Path) -> str:
    """Return the path as text for a person: the file with its folder."""
    return f"{path.parent.name}/{shown(path.name)}"
