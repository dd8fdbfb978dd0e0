"""Opens the store's file for the daemon (sqlite.py) and for commands (views.py).

What must not live here: an import that `factory status` does not need.
"""
# ruff: noqa: PTH110, PTH120, PTH202 - pathlib costs more than a query

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from os.path import dirname, exists, getsize

from factory.ground.disk import complaint
from factory.ground.errors import DamagedStore, StoreError
from factory.store.states import FINAL

SCHEMA = 6  # the store's format, which PRAGMA user_version holds
ATTEMPT_DAY = 'CREATE INDEX "attempt_day" ON "attempt" ("day")'
BUSY_S = 5.0
PAGE = 500  # journal entries in one read; a longer read would block the write-ahead log

_ENDED = ", ".join(f"'{state}'" for state in sorted(FINAL))
# SQLite uses a partial index only if the query repeats the index's condition word for word.
OPEN: Mapping[str, str] = {
    "unit": f'"state" NOT IN ({_ENDED})',
    "card": "\"state\" = 'open'",
    "attempt": '"end" IS NULL',
    "step": '"done" = 0',
    "request": "\"state\" = 'pending'",
}
APPEND = (
    'INSERT INTO "journal" ("at", "event", "unit", "attempt", "worker", "detail", "changes") '
    'VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING "seq"'
)


def connect(path: str, mode: str, *, migrates: bool = False) -> sqlite3.Connection:
    """Open an existing store in mode `ro` or `rw`.

    Raises StoreError if the store is missing, foreign, damaged or of a newer format. Without
    `migrates`, also raises it if the format is older.
    """
    address = "file:" + path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    try:
        # On a full disk SQLite cannot make the files that readers share with a writer. If the
        # write-ahead log is empty, there is no writer.
        log = getsize(f"{path}-wal") if exists(f"{path}-wal") else 0
        address += f"?mode={mode}" + (
            "&immutable=1" if mode == "ro" and not log and complaint(dirname(path)) else ""
        )
        con = sqlite3.connect(address, uri=True, isolation_level=None, timeout=BUSY_S)
    except sqlite3.Error as error:
        raise StoreError(
            f"The store {path} cannot be opened: {error}. Nothing was changed."
        ) from error
    with trusted(con, path):
        ((version,),) = con.execute("PRAGMA user_version").fetchall()
        if version > SCHEMA:
            raise StoreError(
                f"The store {path} was written by a newer factoryd "
                f"(format {version}, this one knows {SCHEMA}). "
                "Nothing was changed. Install that version again."
            )
        if version < 1:
            raise damaged(path, "it is not a store of factoryd")
        if version < SCHEMA and not migrates:
            raise StoreError(
                f"The store {path} has an older format. The daemon converts it at its next start."
            )
    return con


@contextmanager
def trusted(con: sqlite3.Connection, path: str) -> Iterator[None]:
    """Close the connection after the block; raise StoreError if the block cannot read the store."""
    try:
        yield
    except (sqlite3.Error, StoreError) as error:
        con.close()
        raise error if isinstance(error, StoreError) else damaged(path, str(error)) from error


def damaged(path: str, reason: str) -> StoreError:
    """Return the error for a store file that is damaged or cannot be opened."""
    if full := complaint(dirname(path)):
        return StoreError(
            f"{full} The store {path} cannot be opened ({reason}). "
            "Nothing was changed: make room first."
        )
    return DamagedStore(
        f"The store {path} cannot be read ({reason}). Nothing was changed. To go on, run factory "
        "doctor --rebuild: it makes a new store from git and the unit folders, and keeps this one "
        "aside. You can also restore an earlier copy: the next start adds the later events."
    )


def to_json(value: object, default: Callable[[object], object] | None = None) -> str:
    """Return the value as JSON. Bytes that are not UTF-8 become question marks."""
    return json.dumps(value, ensure_ascii=False, default=default).encode(errors="replace").decode()
