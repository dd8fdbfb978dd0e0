"""The journal, read back, and the rows that it leaves: folded from empty, it gives the store's present state."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from factory.ground.times import from_stamp
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import KEYS, KINDS, Row, Scalar
from factory.store.sqlite import SqliteStore

State = dict[tuple[str, tuple[Scalar, ...]], Row]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of the journal. `changes` holds (table, row) pairs, each the whole row as it then stood."""

    seq: int
    at: datetime
    event: Event
    unit: str = ""
    attempt: int = 0
    worker: str = ""
    detail: Mapping[str, Any]
    changes: tuple[tuple[str, Row], ...]


def entries_of(store: Store, *, after: int = 0, unit: str = "") -> Iterator[Entry]:
    """The entries with seq > after, oldest first; of one unit where named."""
    if not isinstance(store, SqliteStore):
        in_memory: Any = store
        return iter(in_memory.journal(after=after, unit=unit))
    condition, args = (' AND "unit" = ?', (unit,)) if unit else ("", ())
    query = f'SELECT * FROM "journal" WHERE "seq" > ?{condition} ORDER BY "seq"'
    return map(_entry, store._con.execute(query, (after, *args)).fetchall())


def fold(entries: Iterable[Entry]) -> State:
    """The rows that the entries leave, by table and key."""
    rows: State = {}
    for entry in entries:
        for table, row in entry.changes:
            rows[table, tuple(row[name] for name in KEYS[KINDS[table]])] = row
    return rows


def _entry(row: tuple[Any, ...]) -> Entry:
    seq, at, event, unit, attempt, worker, detail, changes = row
    return Entry(
        seq=seq,
        at=from_stamp(at),
        event=Event(event),
        unit=unit,
        attempt=attempt,
        worker=worker,
        detail=json.loads(detail),
        changes=tuple((table, values) for table, values in json.loads(changes)),
    )
