"""A store that another program holds, as a backup or a database browser does."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from factory.store.sqlite import SqliteStore


@contextmanager
def locked(store: SqliteStore) -> Iterator[None]:
    """Let another program hold it; it is waited for no more than an instant from now on."""
    store._con.execute("PRAGMA busy_timeout = 20")
    with closing(sqlite3.connect(store._path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")
