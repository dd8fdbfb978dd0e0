"""Intake: files dropped into the inbox become units.

Invariant: a file is renamed into the intake folder first, and its unit is written in one
transaction keyed by that name; whatever is killed in between, the next scan finds the file there
and finishes. Nothing is ever deleted.
"""

import json
import os
import re
import secrets
import stat
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import NamedTuple

from factory.ground import faults
from factory.ground.errors import TaskFileError
from factory.inbox import dropped
from factory.inbox.acceptance import Acceptance
from factory.inbox.dropped import shown
from factory.store import task_file
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Fact
from factory.store.spec import Spec

STILL_S = 1.0  # unchanged for so long is complete, where the system cannot tell who writes
QUIET_S = 0.02  # a script that appends line by line closes the file in between
OWN = "own."  # begins the intake name of a task that the factory itself wrote
PASSED_OVER = re.compile(
    r"[.#~].*|.*(~|#|\.(tmp|temp|swp|swo|swx|bak|orig|part)|_jb_(tmp|old)___)|4913|rejected",
    re.DOTALL,
)
_NOTE = ".error.txt"


@dataclass(slots=True, kw_only=True)
class Scan:
    """What one pass found."""

    accepted: list[str] = field(default_factory=list)  # units, new or with a new text
    rejected: list[str] = field(default_factory=list)  # file names
    warnings: list[str] = field(default_factory=list)  # what stays in the inbox, and why
    again_s: float | None = None  # look again after so long: something is still being written


class _Wait(NamedTuple):
    """What a file that is not complete waits for: so many seconds, or what a sentence says."""

    seconds: float = 0
    why: str = ""


class Intake:
    """The inbox and the intake folder; `tracked` gives the names in the inbox that git tracks."""

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
        self._tracked = frozenset[str]()  # as git last said
        self._written_to = ask_writers
        # Since when a file (its inode, size and time of change) has stood like that.
        self._still: dict[tuple[int, int, int], datetime] = {}

    async def tick(self, now: datetime) -> Scan:
        """Finish what lies in the intake folder, then take what is complete in the inbox."""
        scan = Scan()
        try:
            self._make_folders()
        except OSError as error:
            where = f"{error.filename} is no folder to work in ({error.strerror})"
            scan.warnings.append(f"no task file is taken: {where}")
            return scan
        self._forget_old(now)
        for path in sorted(self._folder.iterdir()):
            if path.suffix.lower() == ".md":
                self._try(path, scan, now, self._admit)
        names = self._look(scan)
        await self._learn_tracked(names, now)
        for name in names:
            act = self._copy if name in self._tracked else self._take
            self._try(self._inbox / name, scan, now, act)
        return scan

    def hang(
        self,
        name: str,
        text: str,
        now: datetime,
        ignored: tuple[str, ...] = (),
    ) -> str:
        """Accept a task that the factory itself wrote, and return the unit's id.

        `ignored`: keys that its agent gave and may not set. Raises TaskFileError.
        """
        file = self._folder / "taken" / f"{OWN}{secrets.token_hex(8)}-{name}"
        with faults.step("inbox.hang"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        return self._acceptance.accept(name, text, source=file.name, now=now, ignored=ignored)

    def refused(self) -> list[str]:
        """The notes on files that still lie in rejected/."""
        found = []
        for note in (self._inbox / "rejected").glob(f"*{_NOTE}"):
            if os.path.lexists(note.with_name(note.name.removesuffix(_NOTE))):
                found.append(note.name)
        return sorted(found)

    def _make_folders(self) -> None:
        folders = (self._inbox, self._folder, self._folder / "taken", self._inbox / "rejected")
        with faults.step("folders.make"):
            for folder in folders:
                folder.mkdir(exist_ok=True)

    def _forget_old(self, now: datetime) -> None:
        for seen, since in list(self._still.items()):
            if now - since >= timedelta(hours=1):
                del self._still[seen]

    def _look(self, scan: Scan) -> list[str]:
        """The names in the inbox that may be task files, in order."""
        names = []
        for path in sorted(self._inbox.iterdir()):
            if PASSED_OVER.fullmatch(path.name):
                continue
            where = _where(path)
            if path.is_dir() and not path.is_symlink():
                scan.warnings.append(f"not yet: batches. The folder {where} is left where it is.")
            elif path.suffix.lower() != ".md":
                scan.warnings.append(f"{where} is not taken: the name of a task file ends in .md")
            else:
                names.append(path.name)
        return names

    def _try(
        self,
        path: Path,
        scan: Scan,
        now: datetime,
        act: Callable[[Path, Scan, datetime], None],
    ) -> None:
        """Do `act` to a complete file; note in the scan what an incomplete one waits for."""
        where = _where(path)
        try:
            wait = self._wait(path, now)
            if wait is None:
                act(path, scan, now)
            elif wait.why:
                scan.warnings.append(f"{where} {wait.why}")
            else:
                scan.again_s = min(wait.seconds, scan.again_s or wait.seconds)
        except FileNotFoundError:
            pass  # somebody took it back
        except (OSError, TaskFileError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            scan.warnings.append(f"{where} cannot be taken ({reason}); it is tried again")

    def _wait(self, path: Path, now: datetime) -> _Wait | None:
        """What the file waits for; None for a complete one."""
        seen = path.lstat()
        if not stat.S_ISREG(seen.st_mode):
            return None  # refused when it is read
        lock = dropped.editor_lock(path)
        if lock:
            return _Wait(why=f"waits: {shown(lock.name)} says that it is open in an editor")
        if 0 <= now.timestamp() - seen.st_mtime < QUIET_S:
            return _Wait(QUIET_S)
        if dropped.is_blank(path, seen.st_size):
            return _Wait(why="is empty: it waits for its text")
        written = self._written_to(path)
        if written is None:
            written = not self._stands_still(path, now)
        return _Wait(STILL_S) if written else None

    def _stands_still(self, path: Path, now: datetime) -> bool:
        seen = path.lstat()
        since = self._still.setdefault((seen.st_ino, seen.st_size, seen.st_mtime_ns), now)
        return (now - since).total_seconds() >= STILL_S

    def _take(self, path: Path, scan: Scan, now: datetime) -> None:
        # The file moves before the record: a crash between the two leaves it where the next scan
        # looks first. Only then is it read, and only if still nobody writes to it, so that no
        # writer is overtaken.
        moved = self._folder / f"{secrets.token_hex(8)}-{path.name}"
        # Only the daemon that owns the store can begin a transaction.
        with self._store.transaction(), faults.step("inbox.take"):
            path.rename(moved)
        self._try(moved, scan, now, self._admit)

    # ── files that git tracks: copied, once for each content ──

    async def _learn_tracked(self, names: list[str], now: datetime) -> None:
        """Ask git when there are new names; at the first start note what is there already."""
        is_first = self._store.get(Fact, "inbox") is None
        if is_first or not self._tracked.issuperset(names):
            self._tracked = await self._ask_git()
        if is_first:
            self._remember(self._present(self._tracked.intersection(names)), now)

    def _copy(self, path: Path, scan: Scan, now: datetime) -> None:
        name = dropped.blob_name(path)
        seen = self._seen().get(name)
        if seen == "first":
            what = "is tracked by git and was there at the first start, so it is not taken"
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
        fact = self._store.get(Fact, "inbox")
        return dict(json.loads(fact.value)) if fact else {}

    def _remember(self, blobs: dict[str, str], now: datetime) -> None:
        fact = Fact(name="inbox", value=json.dumps(self._seen() | blobs))
        self._store.write(Event.FACT_CHANGED, fact, now=now, fact="inbox")

    # ── from file to unit ──

    def _admit(self, path: Path, scan: Scan, now: datetime) -> None:
        """Make a unit of a file in the intake folder, or reject it; trying it twice is the same."""
        name = path.name.partition("-")[2]
        try:
            if not name.isprintable():
                reason = "the file's name holds signs that cannot be shown"
                raise TaskFileError(reason, form="letters and digits")
            if not self._store.select(Spec, source=path.name):
                text = task_file.decode(dropped.read(path))
                unit = self._acceptance.accept(name, text, source=path.name, now=now)
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
        inbox = self._inbox.name
        why = f"line {error.line}: {error.reason}" if error.line else error.reason
        text = (
            f"{shown(name)} was not accepted, and lies in {inbox}/rejected now.\n\n{why}\n"
            f"correct form: {error.form or 'see the README'}\n\n"
            f"Mend it and move it back into {inbox}/.\n"
        )
        with faults.step("inbox.explain"):
            target.with_name(f"{target.name}{_NOTE}").write_text(text, encoding="utf-8")
        with faults.step("inbox.reject"):
            path.rename(target)
        self._store.write(Event.TASK_REJECTED, now=now, name=shown(name), why=why)

    def _free_place(self, name: str) -> Path:
        """Where in rejected/ the file can lie: NAME.md, NAME-2.md, …"""
        folder = self._inbox / "rejected"
        whole = Path(name)
        target = folder / name
        numbers = count(2)
        while os.path.lexists(target):
            target = folder / f"{whole.stem}-{next(numbers)}{whole.suffix}"
        return target


def _where(path: Path) -> str:
    """The file and its folder, for a person."""
    return f"{path.parent.name}/{shown(path.name)}"
