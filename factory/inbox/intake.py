"""Intake: files dropped into the inbox become units.

Invariant: a file is renamed into the intake folder first, and its unit is written in one transaction keyed by that
name; whatever is killed in between, the next scan finds the file there and finishes. Nothing is ever deleted.
"""

import fcntl
import hashlib
import json
import os
import re
import secrets
import signal
import stat
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import chain, count
from pathlib import Path
from typing import Any

from factory.dispatch import scheduling
from factory.ground import bounded, faults
from factory.ground.errors import TaskFileError
from factory.ground.reserved import NO_AGENT
from factory.inbox.split import is_part, replaced
from factory.people.escalations import Escalations
from factory.store import task_file
from factory.store.accepted import spec_from
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Fact, Task
from factory.store.spec import Spec
from factory.store.unit import NO_PROOF, Unit, UnitState, advance

STILL_S = 1.0  # unchanged for so long is complete, where the system cannot tell who writes
QUIET_S = 0.02  # a script that appends line by line closes the file in between
OWN = "own."  # begins the intake name of a task that the factory itself wrote
BLANK = b"\xef\xbb\xbf \t\r\n"  # a byte order mark and white space
PASSED_OVER = re.compile(
    r"[.#~].*|.*(~|#|\.(tmp|temp|swp|swo|swx|bak|orig|part)|_jb_(tmp|old)___)|4913|rejected",
    re.DOTALL,
)
EDITING = (".{}.swp", ".{}.swo", ".{}.swn", ".#{}", ".~lock.{}#", ".{}.kate-swp", "~${}")
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


@dataclass(slots=True, kw_only=True)
class Scan:
    """What one pass found."""

    accepted: list[str] = field(default_factory=list)  # units, new or with a new text
    rejected: list[str] = field(default_factory=list)  # file names
    warnings: list[str] = field(
        default_factory=list
    )  # what stays in the inbox, and why: for status
    again_s: float | None = None  # look again after so long: something is still being written


class Intake:
    """The inbox and the intake folder.

    `tracked` gives the names in the inbox that git tracks; `is_taken` tells whether a new unit must not have an id.
    """

    def __init__(
        self,
        *,
        inbox: Path,
        folder: Path,
        store: Store,
        escalations: Escalations,
        tracked: Callable[[], Awaitable[frozenset[str]]],
        is_taken: Callable[[str], bool],
        ask_writers: Callable[[Path], bool | None] | None = None,
    ) -> None:
        self._inbox, self._folder, self._store = inbox, folder, store
        self._name = inbox.name  # inbox or .inbox
        self._escalations, self._ask_git = escalations, tracked
        self._is_taken = is_taken
        self._tracked = frozenset[str]()  # as git last said
        self._written_to = ask_writers or written_to
        self._still: dict[
            tuple[int, int, int], datetime
        ] = {}  # since when a file has stood like that

    async def tick(self, now: datetime) -> Scan:
        """Finish what lies in the intake folder, then take what is complete in the inbox."""
        scan = Scan()
        try:
            with faults.step("folders.make"):
                for folder in (
                    self._inbox,
                    self._folder,
                    self._folder / "taken",
                    self._inbox / "rejected",
                ):
                    folder.mkdir(exist_ok=True)
        except OSError as error:
            scan.warnings.append(
                f"no task file is taken: {error.filename} is no folder to work in ({error.strerror})"
            )
            return scan
        self._still = {
            seen: since for seen, since in self._still.items() if now - since < timedelta(hours=1)
        }
        for path in sorted(path for path in self._folder.iterdir() if path.suffix.lower() == ".md"):
            self._try(path, scan, now, self._admit)
        names, first = self._look(scan), self._store.get(Fact, "inbox") is None
        if first or not self._tracked.issuperset(names):
            self._tracked = await self._ask_git()
        if first:
            self._remember(self._present(self._tracked.intersection(names)), now)
        for name in names:
            self._try(
                self._inbox / name, scan, now, self._copy if name in self._tracked else self._take
            )
        return scan

    def hang(self, name: str, text: str, now: datetime, ignored: tuple[str, ...] = ()) -> str:
        """Accept a task that the factory itself wrote, and return the unit's id; raise TaskFileError.

        `ignored`: keys that its agent gave and may not set.
        """
        file = self._folder / "taken" / f"{OWN}{secrets.token_hex(8)}-{name}"
        with faults.step("inbox.hang"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        return self._accept(name, text, source=file.name, now=now, ignored=ignored)

    def _look(self, scan: Scan) -> list[str]:
        """The names in the inbox that may be task files, in order."""
        names = []
        for path in sorted(self._inbox.iterdir()):
            if PASSED_OVER.fullmatch(path.name):
                continue
            if path.is_dir() and not path.is_symlink():
                scan.warnings.append(
                    f"not yet: batches. The folder {self._name}/{_shown(path)} is left where it is."
                )
            elif path.suffix.lower() != ".md":
                scan.warnings.append(
                    f"{self._name}/{_shown(path)} is not taken: the name of a task file ends in .md"
                )
            else:
                names.append(path.name)
        return names

    def _try(
        self, path: Path, scan: Scan, now: datetime, act: Callable[[Path, Scan, datetime], None]
    ) -> None:
        """Do `act` to a file that is complete; else leave it, and say when to look again or what it waits for."""
        where = f"{path.parent.name}/{_shown(path)}"
        try:
            waits = self._waits(path, now)
            if isinstance(waits, float):
                scan.again_s = min(waits, scan.again_s or waits)
            elif waits:
                scan.warnings.append(f"{where} {waits}")
            else:
                act(path, scan, now)
        except FileNotFoundError:
            pass  # somebody took it back
        except (OSError, TaskFileError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            scan.warnings.append(f"{where} cannot be taken ({reason}); it is tried again")

    def _waits(self, path: Path, now: datetime) -> float | str:
        """Nothing for a complete file; seconds until it is looked at again; or what it waits for."""
        seen = path.lstat()
        if not stat.S_ISREG(seen.st_mode):
            return ""  # refused when it is read
        for pattern in EDITING:
            lock = path.with_name(pattern.format(path.name))
            if os.path.lexists(lock):
                return f"waits: {_shown(lock)} says that it is open in an editor"
        if 0 <= now.timestamp() - seen.st_mtime < QUIET_S:
            return QUIET_S
        if seen.st_size < 64 and not bounded.head(path, 64).strip(BLANK):
            return "is empty: it waits for its text"
        written = self._written_to(path)
        if written is None:
            seen = path.lstat()
            since = self._still.setdefault((seen.st_ino, seen.st_size, seen.st_mtime_ns), now)
            written = (now - since).total_seconds() < STILL_S
        return STILL_S if written else ""

    def _take(self, path: Path, scan: Scan, now: datetime) -> None:
        # The file moves before the record: a crash between the two leaves it where the next scan looks first.
        # Only then is it read, and only if still nobody writes to it, so that no writer is overtaken.
        moved = self._folder / f"{secrets.token_hex(8)}-{path.name}"
        with (
            self._store.transaction(),
            faults.step("inbox.take"),
        ):  # which only the daemon that owns the store begins
            path.rename(moved)
        self._try(moved, scan, now, self._admit)

    # ── files that git tracks: copied, once for each content ──

    def _copy(self, path: Path, scan: Scan, now: datetime) -> None:
        name = _blob_name(path)
        seen = self._seen().get(name)
        if seen == "first":
            what = "is tracked by git and was there at the first start, so it is not taken"
            scan.warnings.append(f"{self._name}/{_shown(path)} {what}")
        elif not seen:
            copy = self._folder / name
            part = copy.with_suffix(".part")
            with faults.step("inbox.copy"):
                part.write_bytes(_read(path))
                part.rename(copy)
            self._remember({name: "taken"}, now)
            self._admit(copy, scan, now)

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
        self._store.write(
            Event.FACT_CHANGED, Fact(name="inbox", value=value), now=now, fact="inbox"
        )

    # ── from file to unit ──

    def _admit(self, path: Path, scan: Scan, now: datetime) -> None:
        """Make a unit of a file in the intake folder, or reject it; once, however often it is tried."""
        name = path.name.partition("-")[2]
        try:
            if not name.isprintable():
                raise TaskFileError(
                    "the file's name holds signs that cannot be shown", form="letters and digits"
                )
            if not self._store.select(Spec, source=path.name):
                text = task_file.decode(_read(path))
                scan.accepted.append(self._accept(name, text, source=path.name, now=now))
        except TaskFileError as error:
            self._reject(path, name, error, now)
            scan.rejected.append(_shown(Path(name)))
        else:
            with faults.step("inbox.settle"):
                path.rename(self._folder / "taken" / path.name)

    def _accept(
        self, name: str, text: str, *, source: str, now: datetime, ignored: tuple[str, ...] = ()
    ) -> str:
        """Make a unit of a task file: the one time that it is parsed."""
        file = task_file.parse(text, name)
        before = self._unstarted(name)
        base = before or Unit(
            id=self._free_id(name), title="", state=UnitState.WAITING, since=now, accepted=now
        )
        spec = spec_from(file, unit=base.id, name=name, source=source)
        spec = replace(spec, ignored=(*spec.ignored, *ignored))
        wholes = self._store.select(Unit, state=UnitState.SPLIT) if spec.needs else []
        split = {each.id: each.needs for each in wholes}
        unit = replace(base, **wished(spec) | {"needs": replaced(spec.needs, split)}, approved=())
        if circle := scheduling.circle(
            unit.id, {each.id: each.needs for each in (*self._store.open(Unit), unit)}
        ):
            reason = f"needs: they go in a circle, so none could ever start: {' → '.join(circle)}"
            raise TaskFileError(reason, line=file.lines["needs"], form=task_file.FORMS["needs"])
        with self._store.transaction():
            if unit.state is UnitState.HELD:
                unit = advance(unit, UnitState.WAITING, now=now)
                self._escalations.leave(unit.id, now=now, why="its task file was saved anew")
            unit = self._settled(unit, now)
            event = Event.TASK_REPLACED if before else Event.TASK_ACCEPTED
            task = Task(unit=unit.id, text=text)
            self._store.write(
                event, unit, spec, task, now=now, unit=unit.id, name=name, why=unit.why
            )
        return unit.id

    def _unstarted(self, name: str) -> Unit | None:
        """The newest unit of a file of that name, if no attempt of it has begun; not a part, which nobody dropped."""
        units = [self._store.get(Unit, spec.unit) for spec in self._store.select(Spec, name=name)]
        waiting = (UnitState.WAITING, UnitState.READY, UnitState.HELD)
        begun_by_nobody = (
            unit for unit in units if unit and unit.state in waiting and not unit.attempt
        )
        dropped = [unit for unit in begun_by_nobody if not is_part(self._store, unit.id)]
        return max(dropped, key=lambda unit: unit.accepted, default=None)

    def _free_id(self, name: str) -> str:
        return next(each for each in task_file.ids(name) if not self._is_taken(each))

    def _settled(self, unit: Unit, now: datetime) -> Unit:
        needed = (self._store.get(Unit, need) for need in unit.needs)
        known = {each.id: each.state for each in (*self._store.open(Unit), *needed) if each}
        settled = next(iter(scheduling.settle([unit], known, now=now)), unit)
        return (
            unit if settled.state is UnitState.HELD else settled
        )  # the pool holds it, with a card

    def refused(self) -> list[str]:
        """The notes on files in rejected/; one whose file was taken back or deleted is of the past."""
        notes = (self._inbox / "rejected").glob("*.error.txt")
        return sorted(
            note.name
            for note in notes
            if os.path.lexists(note.with_name(note.name[: -len(".error.txt")]))
        )

    def _reject(self, path: Path, name: str, error: TaskFileError, now: datetime) -> None:
        whole = Path(name)
        names = chain([name], (f"{whole.stem}-{number}{whole.suffix}" for number in count(2)))
        target = next(
            to
            for to in (self._inbox / "rejected" / each for each in names)
            if not os.path.lexists(to)
        )
        why = f"line {error.line}: {error.reason}" if error.line else error.reason
        text = (
            f"{_shown(whole)} was not accepted, and lies in {self._name}/rejected now.\n\n{why}\n"
            f"correct form: {error.form or 'see the README'}\n\nMend it and move it back into {self._name}/.\n"
        )
        with faults.step("inbox.explain"):
            target.with_name(target.name + ".error.txt").write_text(text, encoding="utf-8")
        with faults.step("inbox.reject"):
            path.rename(target)
        self._store.write(Event.TASK_REJECTED, now=now, name=_shown(whole), why=why)


def wished(spec: Spec) -> dict[str, Any]:
    """What its task file says of a unit."""
    agent = NO_AGENT if spec.run else spec.agent
    proven = "" if spec.accept else NO_PROOF
    names = ("title", "priority", "needs", "scope")
    return {name: getattr(spec, name) for name in names} | {"agent": agent, "proven": proven}


def written_to(path: Path) -> bool | None:
    """Whether a process has the file open for writing; None where the system does not say."""
    if sys.platform != "linux":
        return None
    try:
        handle = os.open(path, READ)
    except PermissionError:
        return None
    try:
        signal.signal(
            signal.SIGIO, signal.SIG_IGN
        )  # sent to who holds a lease when a writer comes: would end us
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(handle)
    return False


def _read(path: Path) -> bytes:
    """The content, one byte more than allowed at most; raise TaskFileError for what is not a plain file."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise TaskFileError("a symlink or a special file, not a file", form="copy the file itself")
    try:
        with os.fdopen(os.open(path, READ), "rb") as file:
            return file.read(task_file.MAX_BYTES + 1)
    except PermissionError:
        raise TaskFileError("the file cannot be read", form="chmod u+r") from None


def _blob_name(path: Path) -> str:
    return f"{hashlib.sha256(_read(path)).hexdigest()[:16]}-{path.name}"


def _shown(path: Path) -> str:
    """The name, less what could steer a terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in path.name)
