"""Intake: files dropped into the inbox become units.

Invariant: a file is renamed into the intake folder first, and its unit is written in one transaction keyed by that
name; whatever is killed in between, the next scan finds the file there and finishes. Nothing is ever deleted.
"""

import errno
import fcntl
import hashlib
import json
import os
import secrets
import signal
import stat
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain, count
from pathlib import Path

from factory import scheduling, task_file
from factory.errors import TaskFileError
from factory.escalations import Escalations
from factory.journal import Event
from factory.ports import Store
from factory.records import Fact, Task
from factory.task_file import TaskFile
from factory.unit import Unit, UnitState, advance

STILL_S = 1.0  # unchanged for so long is complete, where the system cannot tell who writes
QUIET_S = 0.02  # a script that appends line by line closes the file in between
BLANK = b"\xef\xbb\xbf \t\r\n"  # a byte order mark and white space
TEMPORARY = ("~", "#", ".tmp", ".temp", ".swp", ".swo", ".swx", ".bak", ".orig", ".part", "_jb_tmp___", "_jb_old___")
EDITING = (".{}.swp", ".{}.swo", ".{}.swn", ".#{}", ".~lock.{}#", ".{}.kate-swp", "~${}")

Signature = tuple[int, int, int]


@dataclass(slots=True, kw_only=True)
class Scan:
    """What one pass found."""

    accepted: list[str] = field(default_factory=list)  # units, new or with a new text
    rejected: list[str] = field(default_factory=list)  # file names
    warnings: list[str] = field(default_factory=list)  # what stays in the inbox, and why: for status
    again_s: float | None = None  # look again after so long: something is still being written

    def soon(self, seconds: float) -> None:
        """Ask for another pass."""
        self.again_s = min(seconds, self.again_s or seconds)


class Intake:
    """The inbox and the intake folder; `tracked` gives the names in the inbox that git tracks."""

    def __init__(
        self,
        *,
        inbox: Path,
        folder: Path,
        store: Store,
        escalations: Escalations,
        tracked: Callable[[], Awaitable[frozenset[str]]],
        ask_writers: Callable[[Path], bool | None] | None = None,
    ) -> None:
        self._inbox, self._folder, self._store = inbox, folder, store
        self._escalations = escalations
        self._tracked = tracked
        self._written_to = ask_writers or written_to
        self._still: dict[str, tuple[Signature, datetime]] = {}
        self._left: dict[str, tuple[Signature, str]] = {}  # tracked files that were dealt with, and what to say of them

    async def tick(self, now: datetime) -> Scan:
        """Finish what lies in the intake folder, then take what is complete in the inbox."""
        scan = Scan()
        try:
            for folder in (self._inbox, self._folder, self._folder / "taken", self._inbox / "rejected"):
                folder.mkdir(exist_ok=True)
        except OSError as error:
            scan.warnings.append(f"no task file is taken: {error.filename} is no folder to work in ({error.strerror})")
            return scan
        for path in sorted(path for path in self._folder.iterdir() if path.suffix.lower() == ".md"):
            self._try(path, scan, now, self._admit)
        names = [name for name in self._look(scan) if not self._is_left(name, scan)]
        first = self._store.get(Fact, "inbox") is None
        tracked = await self._tracked() if names or first else frozenset()
        if first:
            self._remember(self._present(tracked.intersection(names)), now)
        for name in names:
            self._try(self._inbox / name, scan, now, self._copy if name in tracked else self._take)
        return scan

    def hang(self, name: str, text: str, *, now: datetime) -> str:
        """Accept a task that the factory itself wrote, and return the unit's id; raise TaskFileError."""
        return self._accept(Task(unit="", name=name, text=text, source=f"factory-{secrets.token_hex(8)}"), now)

    def _look(self, scan: Scan) -> list[str]:
        """The names in the inbox that may be task files, in order."""
        names = []
        with os.scandir(self._inbox) as entries:
            found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
        for name, is_folder in found:
            if name == "rejected" or _temporary(name):
                continue
            if is_folder:
                scan.warnings.append(f"not yet: batches. The folder inbox/{_shown(name)} is left where it is.")
            elif not name.lower().endswith(".md"):
                scan.warnings.append(f"inbox/{_shown(name)} is not taken: the name of a task file ends in .md")
            else:
                names.append(name)
        return names

    def _is_left(self, name: str, scan: Scan) -> bool:
        """Whether it is a tracked file that was dealt with, and has not changed since."""
        with suppress(KeyError, FileNotFoundError):
            signature, warning = self._left[name]
            if signature == _signature(self._inbox / name):
                scan.warnings += [warning] if warning else []
                return True
        return False

    def _try(self, path: Path, scan: Scan, now: datetime, act: Callable[[Path, Scan, datetime], None]) -> None:
        """Do `act` to a file that is complete; else leave it, and say when to look again or what it waits for."""
        try:
            waits = self._waits(path, now)
            if isinstance(waits, float):
                scan.soon(waits)
            elif waits:
                scan.warnings.append(f"{path.parent.name}/{_shown(path.name)} {waits}")
            else:
                act(path, scan, now)
        except FileNotFoundError:  # somebody took it back
            self._still.pop(path.name, None)
        except (OSError, TaskFileError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            scan.warnings.append(
                f"{path.parent.name}/{_shown(path.name)} cannot be taken ({reason}); it is tried again"
            )

    def _waits(self, path: Path, now: datetime) -> float | str:
        """Nothing for a complete file; seconds until it is looked at again; or what it waits for."""
        seen = path.lstat()
        if not stat.S_ISREG(seen.st_mode):
            return ""  # refused when it is read
        for pattern in EDITING:
            lock = path.with_name(pattern.format(path.name))
            if os.path.lexists(lock):
                return f"waits: {_shown(lock.name)} says that it is open in an editor"
        if 0 <= now.timestamp() - seen.st_mtime < QUIET_S:
            return QUIET_S
        if seen.st_size < 64 and not path.read_bytes().strip(BLANK):
            return "is empty: it waits for its text"
        written = self._written_to(path)
        if written is not None:
            return STILL_S if written else ""
        signature = _signature(path)
        before, since = self._still.get(path.name, (None, now))
        if before != signature:
            self._still[path.name] = signature, now
        return "" if before == signature and (now - since).total_seconds() >= STILL_S else STILL_S

    def _take(self, path: Path, scan: Scan, now: datetime) -> None:
        # The file moves before the record: a crash between the two leaves it where the next scan looks first.
        # Only then is it read, and only if still nobody writes to it, so that no writer is overtaken.
        moved = self._folder / f"{secrets.token_hex(8)}-{path.name}"
        path.rename(moved)
        if path.name in self._still:
            self._still[moved.name] = self._still.pop(path.name)
        self._try(moved, scan, now, self._admit)

    def _copy(self, path: Path, scan: Scan, now: datetime) -> None:
        """Take a file that git tracks without moving it, once for each content that it has."""
        signature, name = _signature(path), _blob_name(path)
        seen = self._seen().get(name)
        if seen is None:
            copy = self._folder / name
            part = copy.with_suffix(".part")
            part.write_bytes(_read(path))
            part.rename(copy)
            self._remember({name: "taken"}, now)
            self._admit(copy, scan, now)
        what = f"inbox/{_shown(path.name)} is tracked by git and was there at the first start, so it is not taken"
        self._left[path.name] = signature, what if seen == "first" else ""
        self._is_left(path.name, scan)

    def _present(self, names: frozenset[str]) -> dict[str, str]:
        blobs = {}
        for name in names:
            with suppress(OSError, TaskFileError):
                blobs[_blob_name(self._inbox / name)] = "first"
        return blobs

    def _seen(self) -> dict[str, str]:
        fact = self._store.get(Fact, "inbox")
        return dict(json.loads(fact.value)) if fact else {}

    def _remember(self, blobs: dict[str, str], now: datetime) -> None:
        value = json.dumps(self._seen() | blobs)
        self._store.write(Event.FACT_CHANGED, Fact(name="inbox", value=value), now=now, fact="inbox")

    def _admit(self, path: Path, scan: Scan, now: datetime) -> None:
        """Make a unit of a file in the intake folder, or reject it; once, however often it is tried."""
        name = path.name.partition("-")[2]
        self._still.pop(path.name, None)
        try:
            if not name.isprintable():
                raise TaskFileError("the file's name holds signs that cannot be shown", form="letters and digits")
            if not self._store.select(Task, source=path.name):
                text = task_file.decode(_read(path))
                scan.accepted.append(self._accept(Task(unit="", name=name, text=text, source=path.name), now))
        except TaskFileError as error:
            self._reject(path, name, error, now)
            scan.rejected.append(_shown(name))
        else:
            path.rename(self._folder / "taken" / path.name)

    def _accept(self, task: Task, now: datetime) -> str:
        file = task_file.parse(task.text, task.name)
        before = self._unstarted(task.name)
        base = before or Unit(id=self._free_id(task.name), title="", state=UnitState.WAITING, since=now, accepted=now)
        unit = replace(
            base,
            title=file.title,
            priority=file.priority,
            needs=file.needs,
            scope=file.scope,
            agent=scheduling.NO_AGENT if file.run else file.agent,
            proven="",
            approved=(),
        )
        self._check_circle(unit, file)
        with self._store.transaction():
            if before and before.state is UnitState.HELD:
                unit = advance(unit, UnitState.WAITING, now=now)
                self._escalations.leave(unit.id, now=now, why="its task file was saved anew")
            unit = self._settled(unit, now)
            event = Event.TASK_REPLACED if before else Event.TASK_ACCEPTED
            self._store.write(
                event, unit, replace(task, unit=unit.id), now=now, unit=unit.id, name=task.name, why=unit.why
            )
        return unit.id

    def _unstarted(self, name: str) -> Unit | None:
        """The newest unit of a file of that name, if no attempt of it has begun."""
        units = [self._store.get(Unit, task.unit) for task in self._store.select(Task, name=name)]
        waiting = (UnitState.WAITING, UnitState.READY, UnitState.HELD)
        unstarted = [unit for unit in units if unit and unit.state in waiting and not unit.attempt]
        return max(unstarted, key=lambda unit: unit.accepted, default=None)

    def _free_id(self, name: str) -> str:
        base = task_file.slug(name)
        names = chain([base], (task_file.numbered(base, number) for number in count(2)))
        return next(name for name in names if self._store.get(Unit, name) is None)

    def _settled(self, unit: Unit, now: datetime) -> Unit:
        known = {each.id: each.state for each in self._store.open(Unit)}
        needed = [self._store.get(Unit, need) for need in unit.needs]
        known |= {need.id: need.state for need in needed if need}
        return next(iter(scheduling.settle([unit], known, now=now)), unit)

    def _check_circle(self, unit: Unit, file: TaskFile) -> None:
        needs = {each.id: each.needs for each in self._store.open(Unit)} | {unit.id: unit.needs}
        ways: list[tuple[str, ...]] = [(unit.id,)]
        seen = set[str]()
        while ways:
            way = ways.pop()
            for need in needs.get(way[-1], ()):
                if need == unit.id:
                    circle = " → ".join((*way, need))
                    reason = f"needs: they go in a circle, so none could ever start: {circle}"
                    raise TaskFileError(reason, line=file.lines["needs"], form=task_file.FORMS["needs"])
                if need not in seen:
                    seen.add(need)
                    ways.append((*way, need))

    def _reject(self, path: Path, name: str, error: TaskFileError, now: datetime) -> None:
        whole = Path(name)
        names = chain([name], (f"{whole.stem}-{number}{whole.suffix}" for number in count(2)))
        target = next(to for to in (self._inbox / "rejected" / each for each in names) if not os.path.lexists(to))
        line = f"line {error.line}: " if error.line else ""
        text = (
            f"{_shown(name)} was not accepted, and lies in inbox/rejected now.\n\n{line}{error.reason}\n"
            f"correct form: {error.form or 'see the README'}\n\nMend it and move it back into inbox/.\n"
        )
        target.with_name(target.name + ".error.txt").write_text(text, encoding="utf-8")
        path.rename(target)
        self._store.write(Event.TASK_REJECTED, now=now, name=_shown(name), why=f"{line}{error.reason}")


def written_to(path: Path) -> bool | None:
    """Whether a process has the file open for writing; None where the system does not say."""
    if sys.platform != "linux":
        return None
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except PermissionError:
        return None
    try:
        signal.signal(signal.SIGIO, signal.SIG_IGN)  # sent to who holds a lease when a writer comes: would end us
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    finally:
        os.close(handle)
    return False


def _read(path: Path) -> bytes:
    """The content, one byte more than allowed at most; raise TaskFileError for what is not a plain file."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise TaskFileError("a symlink or a special file, not a file", form="copy the file itself")
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            return file.read(task_file.MAX_BYTES + 1)
    except PermissionError:
        raise TaskFileError("the file cannot be read", form="chmod u+r") from None


def _blob_name(path: Path) -> str:
    return f"{hashlib.sha256(_read(path)).hexdigest()[:16]}-{path.name}"


def _signature(path: Path) -> Signature:
    seen = path.lstat()
    return seen.st_ino, seen.st_size, seen.st_mtime_ns


def _temporary(name: str) -> bool:
    return name.startswith((".", "#", "~")) or name.endswith(TEMPORARY) or name == "4913"


def _shown(name: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in name)
