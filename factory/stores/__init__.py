"""The store's file, and what its two sides agree on: sqlite.py writes for the daemon, views.py reads for the commands.

What must not live here: anything that `factory status` would have to import and does not need.
"""

import sqlite3
from collections.abc import Mapping

from factory.errors import StoreError

SCHEMA = 1  # PRAGMA user_version
BUSY_S = 5.0

# SQLite takes a partial index only for a query that repeats its condition, so both sides take the text from here.
OPEN: Mapping[str, str] = {
    "unit": "\"state\" NOT IN ('cancelled', 'landed', 'split')",
    "card": "\"state\" = 'open'",
    "attempt": '"end" IS NULL',
    "step": '"done" = 0',
    "request": "\"state\" = 'pending'",
}


def connect(path: str, mode: str) -> sqlite3.Connection:
    """Open an existing store in mode ro or rw; raise StoreError where it is missing, foreign, newer or damaged."""
    address = "file:" + path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    try:
        con = sqlite3.connect(f"{address}?mode={mode}", uri=True, isolation_level=None, timeout=BUSY_S)
    except sqlite3.Error as error:
        raise StoreError(f"The store {path} cannot be opened: {error}. Nothing was changed.") from error
    try:
        _check_version(path, con.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.Error as error:
        con.close()
        raise damaged(path, str(error)) from error
    except StoreError:
        con.close()
        raise
    return con


def damaged(path: str, reason: str) -> StoreError:
    """The refusal to work on a file that cannot be trusted."""
    return StoreError(
        f"The store {path} cannot be read ({reason}). Nothing was changed. "
        "Put back a copy of it, or move it and its -wal and -shm files aside to begin with an empty one."
    )


def _check_version(path: str, version: int) -> None:
    if version > SCHEMA:
        raise StoreError(
            f"The store {path} was written by a newer factoryd (format {version}, this one knows {SCHEMA}). "
            "Nothing was changed. Install that version again."
        )
    if version < SCHEMA:
        raise damaged(path, "it is not a store of factoryd")
