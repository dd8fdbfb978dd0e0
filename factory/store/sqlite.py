"""The store in SQLite: one file, one open connection, one writer.

Invariant: a record and its journal entry become durable in the same transaction.
"""

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from factory.ground import faults
from factory.ground.errors import Deposed, Fenced, StoreError
from factory.ground.times import stamp
from factory.store import compaction
from factory.store.compaction import Old
from factory.store.fact_values import value_of
from factory.store.journal import Event
from factory.store.migrations import MIGRATIONS, SPEC_NAME, SPEC_SOURCE, Step
from factory.store.opening import (
    APPEND,
    ATTEMPT_DAY,
    OPEN,
    SCHEMA,
    connect,
    damaged,
    to_json,
    trusted,
)
from factory.store.records import (
    HINTS,
    KEYS,
    KINDS,
    Fact,
    R,
    Record,
    Row,
    Scalar,
    from_row,
    kind_name,
    to_row,
)
from factory.store.unit import FINAL, Unit

JOURNAL = (
    'CREATE TABLE "journal" '
    '("seq" INTEGER PRIMARY KEY, "at", "event", "unit", "attempt", "worker", "detail", "changes")',
    'CREATE INDEX "journal_unit" ON "journal" ("unit")',
)
INDEXES = (
    'CREATE INDEX "unit_state" ON "unit" ("state")',
    'CREATE INDEX "unit_landed" ON "unit" ("landed") WHERE "landed" IS NOT NULL',
    SPEC_SOURCE,
    'CREATE INDEX "card_fingerprint" ON "card" ("fingerprint")',
    'CREATE INDEX "verdict_tree" ON "verdict" ("tree")',
    'CREATE INDEX "verdict_gate" ON "verdict" ("gate")',
    ATTEMPT_DAY,
    SPEC_NAME,
)
COLUMNS: Mapping[type[Record], tuple[str, ...]] = {
    kind: tuple(hints) for kind, hints in HINTS.items()
}
_TIMES = 'SELECT "seq", "at" FROM "journal" WHERE "seq" > ? ORDER BY "seq" LIMIT ?'
_OLD = 'SELECT "event", "unit", "changes" FROM "journal" WHERE "seq" = ?'
_SHORTEN = 'UPDATE "journal" SET "changes" = ? WHERE "seq" = ?'
_FILES = ("", "-wal", "-shm")
_HEADING = "*** in database main ***\n"  # the heading in the output of sqlite's check
PER_CONNECTION = (
    "PRAGMA synchronous = FULL",
    "PRAGMA fullfsync = ON",  # on macOS, fsync leaves data in the disk's cache
    "PRAGMA checkpoint_fullfsync = ON",
    "PRAGMA journal_size_limit = 16777216",
)
SNAPSHOT_ROWS = 200  # the most rows in one journal entry


class SqliteStore:
    """ports.Store in one file. Do not await in a `transaction()`, or other writes would join it."""

    def __init__(self, path: Path, *, new: bool = True) -> None:
        """Open the store, or create it if `new`; raise StoreError if the store is damaged."""
        if not path.exists():
            if not new:
                raise damaged(str(path), "it is missing, although results of attempts exist")
            _create(path)
        self._con = connect(str(path), "rw", migrates=True)
        self._depth = 0
        self._path = path
        self._inode = path.stat().st_ino
        self._told: list[str] = []  # the events written in the open transaction
        self._owner = ""  # the owner that this connection wrote into the store, as JSON
        with trusted(self._con, str(path)):
            for pragma in PER_CONNECTION:
                self._con.execute(pragma)
            ((found,), *_) = self._con.execute("PRAGMA quick_check(1)").fetchall()
            if found != "ok":
                first, _, _ = str(found).removeprefix(_HEADING).partition("\n")
                raise damaged(str(path), first)
            migrate(self._con, path)
            # Check that our table exists, because another program may use the same format numbers.
            self._con.execute('SELECT "seq" FROM "journal" LIMIT 1')

    def write(
        self,
        event: Event,
        *records: Record,
        now: datetime,
        unit: str = "",
        attempt: int = 0,
        worker: str = "",
        fence: bool = False,
        **detail: Any,
    ) -> int:
        """Append an entry and write its changed records; return the entry's seq. Raises Fenced."""
        rows = [(type(record), to_row(record)) for record in records]
        changes = to_json([(kind_name(kind), row) for kind, row in rows])
        entry = (stamp(now), event, unit, attempt, worker, to_json(detail, _moment), changes)
        with self.transaction():
            self._told.append(f"store.{event}")
            if fence:
                self._check_newest(unit, attempt)
            for kind, row in rows:
                self._execute(UPSERT[kind], tuple(row.values()))
            ((seq,),) = self._execute(APPEND, entry)
        return int(seq)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Combine several writes; an exception undoes them.

        Can be nested: rolling back an inner block does not roll back the outer one.
        """
        inner = f"depth_{self._depth}" if self._depth else ""
        if inner and not self._con.in_transaction:
            # A full disk ended the outer transaction. A savepoint would now silently begin a new
            # one.
            raise StoreError(
                "The store has already undone this transaction, so nothing more was written."
            )
        self._execute(f"SAVEPOINT {inner}" if inner else "BEGIN IMMEDIATE")
        self._depth += 1
        try:
            if self._owner and not inner:
                self._check_owner()
            yield
            if inner:
                self._execute(f"RELEASE {inner}")
            else:
                with faults.step(*self._told):
                    self._execute("COMMIT")
        except BaseException:
            if self._con.in_transaction:
                self._execute(f"ROLLBACK TO {inner}" if inner else "ROLLBACK")
            raise
        finally:
            self._depth -= 1
            if not inner:
                self._told.clear()

    def own(self, owner: str, *, now: datetime) -> None:
        """Become the only owner: the next transaction of an earlier owner will raise Deposed."""
        self._owner, value = "", json.dumps(owner)
        self.write(Event.FACT_CHANGED, Fact(name="owner", value=value), now=now)
        self._owner = value

    def get(self, kind: type[R], *key: str | int) -> R | None:
        """Return the record with this key, or None."""
        found = self._records(kind, _where(KEYS[kind]), key)
        return found[0] if found else None

    def open(self, kind: type[R]) -> list[R]:
        """Return the records that are not finished, by key."""
        condition = OPEN.get(kind_name(kind))
        return self._records(kind, f" WHERE {condition}" if condition else "")

    def select(self, kind: type[R], /, **equal: str | int | frozenset[str]) -> list[R]:
        """Return, by key, the records whose columns have these values; a set stands for any member.

        Raises TypeError for a column that the kind does not have.
        """
        where, args = _conditions(kind, equal)
        return self._records(kind, where, args)

    def newest(self, kind: type[R], most: int, /, **equal: str | int) -> list[R]:
        """Return at most so many records with these values, the one that was written last first.

        A record keeps its place in this order when it is written again. Raises TypeError as above.
        """
        where, args = _conditions(kind, equal)
        args.append(most)
        # The rows of an index are in the order of rowid, so SQLite reads no more than it returns.
        return self._read(kind, f'{where} ORDER BY "rowid" DESC LIMIT ?', args)

    def last_seq(self) -> int:
        """Return the seq of the newest journal entry; 0 if the journal is empty."""
        ((newest,),) = self._execute('SELECT coalesce(max("seq"), 0) FROM "journal"')
        return int(newest)

    def compact(self, *, before: datetime, now: datetime) -> int:
        """Compact the next few journal entries older than `before`; return how many these were."""
        with self.transaction():
            entries = self._next_older(stamp(before))
            if not entries:
                return 0
            made = compaction.plan(entries, present=self._row, is_over=self._is_over)
            position = Fact(name=compaction.POSITION, value=json.dumps(entries[-1].seq))
            made.again["fact", (position.name,)] = position
            self.write(Event.KEPT_COMPACTED, *made.again.values(), now=now, count=len(entries))
            for seq, changes in made.changed.items():
                self._execute(_SHORTEN, (to_json(changes), seq))
            for seq in made.dropped:
                self._execute('DELETE FROM "journal" WHERE "seq" = ?', (seq,))
        return len(entries)

    def _next_older(self, before: str) -> list[Old]:
        """Return the next entries to compact."""
        position = value_of(self, compaction.POSITION, 0)
        found = []
        # Most calls find nothing, so read the times alone before the rows.
        for seq, at in self._execute(_TIMES, (position, compaction.AT_ONCE)):
            if at >= before:
                break
            ((event, unit, changes),) = self._execute(_OLD, (seq,))
            rows = [(table, row) for table, row in json.loads(changes)]
            found.append(Old(seq, event, unit, rows))
        return found

    def _row(self, table: str, key: tuple[Scalar, ...]) -> Row | None:
        kind = KINDS[table]
        found = self._execute(f"{_select(kind)}{_where(KEYS[kind])}", key)
        return dict(zip(COLUMNS[kind], found[0], strict=True)) if found else None

    def _is_over(self, unit: str) -> bool:
        found = self.get(Unit, unit)
        return found is not None and found.state in FINAL

    def close(self) -> None:
        """Checkpoint and close the store. A second call does nothing."""
        # If this fails, all commits are still in the write-ahead log, where the next start reads
        # them.
        with suppress(sqlite3.Error):
            self._con.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._con.close()

    def _execute(self, query: str, args: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._con.execute(query, args).fetchall()
        except sqlite3.Error as error:
            raise StoreError(
                f"The store could not do its work: {error}. This step was undone."
            ) from error

    def _records(self, kind: type[R], where: str, args: Sequence[Any] = ()) -> list[R]:
        return self._read(kind, f"{where} ORDER BY {_names(KEYS[kind])}", args)

    def _read(self, kind: type[R], condition: str, args: Sequence[Any]) -> list[R]:
        columns = COLUMNS[kind]
        found = []
        for row in self._execute(f"{_select(kind)}{condition}", args):
            found.append(from_row(kind, dict(zip(columns, row, strict=True))))
        return found

    def is_there(self) -> bool:
        """Return whether the store's path still has the file that this connection writes to."""
        with suppress(OSError):
            return self._path.stat().st_ino == self._inode
        return False

    def _check_owner(self) -> None:
        if not self.is_there():
            raise Deposed
        owner = self._execute('SELECT "value" FROM "fact" WHERE "name" = \'owner\'')
        if owner != [(self._owner,)]:
            raise Deposed

    def _check_newest(self, unit: str, attempt: int) -> None:
        newest = self._execute('SELECT "attempt" FROM "unit" WHERE "id" = ?', (unit,))
        if newest != [(attempt,)]:
            raise Fenced(
                f"Attempt {attempt} is not the newest of {unit}, so its request was refused."
            )


@faults.during("store.make")
def _create(path: Path) -> None:
    """Make an empty store under another name, then rename it. So a kill leaves no partial store."""
    log = path.with_name(f"{path.name}-wal")
    if log.exists():
        raise damaged(str(path), f"it is missing, although {log.name} exists")
    new = path.with_name(f"{path.name}.new")
    try:
        new.unlink(missing_ok=True)
        with closing(sqlite3.connect(new, isolation_level=None)) as con:
            for statement in ("PRAGMA journal_mode = WAL", *PER_CONNECTION):
                con.execute(statement)
            for statement in ("BEGIN", *_schema(), "COMMIT"):
                con.execute(statement)
        new.replace(path)
        _sync(path.parent)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"The store {path} cannot be made: {error}.") from error


@contextmanager
def making_anew(path: Path, at: datetime) -> Iterator[tuple[SqliteStore, Path]]:
    """Yield an empty store and a path.

    After the block, the damaged store moves to this path and the new one replaces it.
    """
    new = path.with_name(f"{path.name}.rebuilt")
    aside = path.with_name(f"{path.name}.damaged-{at:%Y%m%dT%H%M%S}")
    for suffix in _FILES:  # files of an earlier rebuild that was killed
        new.with_name(new.name + suffix).unlink(missing_ok=True)
    with closing(SqliteStore(new)) as store:
        yield store, aside
    # if a kill interrupts this loop, the store is missing, and no start creates one
    for suffix in _FILES:
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    new.rename(path)
    _sync(path.parent)


def migrate(
    con: sqlite3.Connection,
    path: Path,
    *,
    to: int = SCHEMA,
    steps: Mapping[int, Sequence[Step]] = MIGRATIONS,
) -> None:
    """Convert a store of an older format in one transaction; keep a copy beside it."""
    ((version,),) = con.execute("PRAGMA user_version").fetchall()
    if version == to:
        return
    copy = path.with_name(f"{path.name}.format-{version}")
    part = copy.with_name(f"{copy.name}.new")
    with faults.step("store.make"):
        part.unlink(missing_ok=True)
        con.execute("VACUUM INTO ?", (str(part),))
        part.replace(copy)
        _sync(copy.parent)
    con.create_function("behind", 2, _behind, deterministic=True)
    con.execute("BEGIN IMMEDIATE")
    for number in range(version, to):
        for step in steps[number]:
            _take(con, step)
    con.execute(f"PRAGMA user_version = {to}")
    _journal_all(con, datetime.now(UTC))
    with faults.step("store.migrate"):
        con.execute("COMMIT")


def _take(con: sqlite3.Connection, step: Step) -> None:
    if isinstance(step, str):
        con.execute(step)
    else:
        step(con)


def _behind(text: str, mark: str) -> str:
    """Return the text from the last `mark` on; without a mark, "?" followed by the whole text."""
    _, found, rest = text.rpartition(mark)
    return f"{mark}{rest}" if found else f"?{text}"


def _journal_all(con: sqlite3.Connection, at: datetime) -> None:
    """Journal every record in its new format, because earlier entries have the old one."""
    for kind, columns in COLUMNS.items():
        rows = con.execute(_select(kind))
        while some := rows.fetchmany(SNAPSHOT_ROWS):
            changes = []
            for row in some:
                changes.append((kind_name(kind), dict(zip(columns, row, strict=True))))
            entry = (stamp(at), Event.STORE_MIGRATED, "", 0, "", "{}", to_json(changes))
            con.execute(APPEND, entry)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _schema() -> Iterator[str]:
    yield f"PRAGMA user_version = {SCHEMA}"
    for kind in KINDS.values():
        yield _table(kind)
    for table, condition in OPEN.items():
        keys = _names(KEYS[KINDS[table]])
        yield f'CREATE INDEX "{table}_open" ON "{table}" ({keys}) WHERE {condition}'
    yield from INDEXES
    yield from JOURNAL


def _table(kind: type[Record]) -> str:
    # SQLite assigns numbers to an INTEGER key. In all other columns it keeps values unchanged.
    columns = []
    for name, hint in HINTS[kind].items():
        columns.append(f"{_name(name)} INTEGER" if hint is int else _name(name))
    key = f"PRIMARY KEY ({_names(KEYS[kind])})"
    return f"CREATE TABLE {_name(kind_name(kind))} ({', '.join(columns)}, {key})"


def _select(kind: type[Record]) -> str:
    return f"SELECT {_names(COLUMNS[kind])} FROM {_name(kind_name(kind))}"


def _upsert(kind: type[Record]) -> str:
    columns = COLUMNS[kind]
    keys = KEYS[kind]
    marks = ", ".join("?" * len(columns))
    changes = []
    for column in columns:
        if column not in keys:
            changes.append(f"{_name(column)} = excluded.{_name(column)}")
    return (
        f"INSERT INTO {_name(kind_name(kind))} ({_names(columns)}) VALUES ({marks}) "
        f"ON CONFLICT ({_names(keys)}) DO UPDATE SET {', '.join(changes)}"
    )


def _conditions(
    kind: type[Record], equal: Mapping[str, str | int | frozenset[str]]
) -> tuple[str, list[Any]]:
    """Return the condition for these values, and its arguments."""
    if unknown := sorted(equal.keys() - COLUMNS[kind]):
        raise TypeError(f"a {kind_name(kind)} has no {', '.join(unknown)}")
    conditions = []
    args: list[Any] = []
    for column, value in equal.items():
        if isinstance(value, frozenset):
            # Pass all values in one parameter, because SQLite limits the number of parameters.
            conditions.append(f"{_name(column)} IN (SELECT value FROM json_each(?))")
            args.append(to_json(sorted(value)))
        else:
            conditions.append(f"{_name(column)} = ?")
            args.append(value)
    return (f" WHERE {' AND '.join(conditions)}" if conditions else ""), args


def _where(columns: Sequence[str]) -> str:
    return " WHERE " + " AND ".join(f"{_name(column)} = ?" for column in columns) if columns else ""


def _names(columns: Sequence[str]) -> str:
    return ", ".join(map(_name, columns))


def _name(word: str) -> str:
    return f'"{word}"'


def _moment(value: Any) -> str:
    if isinstance(value, datetime):
        return stamp(value)
    raise TypeError(f"the journal cannot hold {type(value).__name__}")


UPSERT: Mapping[type[Record], str] = {kind: _upsert(kind) for kind in KEYS}
