"""The store without a file: what the pure parts are tested on. It passes the contract suite like the real one."""

import json
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

from factory.ground.errors import Fenced
from factory.ground.times import from_stamp, stamp
from factory.store import compaction
from factory.store.compaction import Old
from factory.store.journal import Event
from factory.store.opening import OPEN
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
from tests.journal import Entry, fold

FINISHED: Mapping[str, Callable[[Row], bool]] = {
    "unit": lambda row: row["state"] in FINAL,
    "card": lambda row: row["state"] != "open",
    "attempt": lambda row: row["end"] is not None,
    "step": lambda row: bool(row["done"]),
    "request": lambda row: row["state"] != "pending",
}
assert FINISHED.keys() == OPEN.keys()


def key_of(record: Record) -> tuple[Scalar, ...]:
    """The values of the record's key fields, in the order of the table."""
    return tuple(getattr(record, name) for name in KEYS[type(record)])


class MemoryStore:
    """ports.Store in two values: the rows by table and key, each with the record that it reads as, and the journal."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[tuple[Scalar, ...], tuple[Row, Any]]] = {
            table: {} for table in KINDS
        }
        self._journal: list[Entry] = []
        self._depth = 0
        self._ends: list[int] = []  # how long the journal was after each transaction

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
        written = _through_json(detail)
        if fence and ((stored := self.get(Unit, unit)) is None or stored.attempt != attempt):
            raise Fenced(
                f"Attempt {attempt} is not the newest of {unit}, so its request was refused."
            )
        rows = [(kind_name(type(record)), key_of(record), to_row(record)) for record in records]
        for table, key, row in rows:
            kind: Any = KINDS[table]
            self._rows[table][key] = row, from_row(kind, row)
        entry = Entry(
            seq=self.last_seq() + 1,
            at=from_stamp(stamp(now)),
            event=event,
            unit=unit,
            attempt=attempt,
            worker=worker,
            detail=written,
            changes=tuple((table, row) for table, _, row in rows),
        )
        self._journal.append(entry)
        self._end()
        return entry.seq

    @contextmanager
    def transaction(self) -> Iterator[None]:
        rows, length = {table: dict(rows) for table, rows in self._rows.items()}, len(self._journal)
        self._depth += 1
        try:
            yield
        except BaseException:
            self._rows = rows
            del self._journal[length:]
            raise
        finally:
            self._depth -= 1
        self._end()

    def lose(self, transactions: int, *, keep: int = 0) -> None:
        """Be as before the last so many transactions, of those that lie behind the first `keep` journal entries."""
        ends = [end for end in self._ends if end >= keep]
        if not ends:
            return
        length = ends[max(0, len(ends) - 1 - transactions)]
        self._ends = [end for end in self._ends if end <= length]
        del self._journal[length:]
        self._rows = {table: {} for table in KINDS}
        for (table, key), row in fold(self._journal).items():
            kind: Any = KINDS[table]
            self._rows[table][key] = row, from_row(kind, row)

    def _end(self) -> None:
        if not self._depth:
            self._ends.append(len(self._journal))

    def own(self, owner: str, *, now: datetime) -> None:
        """It is nobody else's."""
        self.write(Event.FACT_CHANGED, Fact(name="owner", value=json.dumps(owner)), now=now)

    def get(self, kind: type[R], *key: str | int) -> R | None:
        found = self._rows[kind_name(kind)].get(key)
        return None if found is None else found[1]

    def open(self, kind: type[R]) -> list[R]:
        finished = FINISHED.get(kind_name(kind))
        return [record for row, record in self._of(kind) if not (finished and finished(row))]

    def select(self, kind: type[R], /, **equal: str | int | frozenset[str]) -> list[R]:
        if unknown := sorted(equal.keys() - HINTS[kind]):
            raise TypeError(f"a {kind_name(kind)} has no {', '.join(unknown)}")
        return [
            record
            for row, record in self._of(kind)
            if all(_is_one(row[name], value) for name, value in equal.items())
        ]

    def newest(self, kind: type[R], most: int, /, **equal: str | int) -> list[R]:
        found = self.select(kind, **equal)
        written = list(self._rows[kind_name(kind)])
        found.sort(key=lambda record: written.index(key_of(record)), reverse=True)
        return found[:most]

    def last_seq(self) -> int:
        """The seq of the newest journal entry."""
        return self._journal[-1].seq if self._journal else 0

    def compact(self, *, before: datetime, now: datetime) -> int:
        """What was compacted can no longer be lost."""
        fact = self.get(Fact, compaction.POSITION)
        entries = list[Old]()
        for each in self.journal(after=json.loads(fact.value) if fact else 0):
            if each.at >= before or len(entries) == compaction.AT_ONCE:
                break
            entries.append(Old(each.seq, each.event, each.unit, list(each.changes)))
        if not entries:
            return 0
        made = compaction.plan(entries, present=self._row, is_over=self._is_over)
        position = Fact(name=compaction.POSITION, value=json.dumps(entries[-1].seq))
        made.again["fact", (position.name,)] = position
        self.write(Event.KEPT_COMPACTED, *made.again.values(), now=now, count=len(entries))
        kept = [each for each in self._journal if each.seq not in made.dropped]
        self._journal = [
            replace(each, changes=tuple(made.changed.get(each.seq, each.changes))) for each in kept
        ]
        self._ends = [len(self._journal)]
        return len(entries)

    def _row(self, table: str, key: tuple[Scalar, ...]) -> Row | None:
        found = self._rows[table].get(key)
        return found[0] if found else None

    def _is_over(self, unit: str) -> bool:
        found = self.get(Unit, unit)
        return found is not None and found.state in FINAL

    def journal(self, *, after: int = 0, unit: str = "") -> Iterator[Entry]:
        begin = bisect_right(self._journal, after, key=lambda entry: entry.seq)
        return iter([entry for entry in self._journal[begin:] if unit in ("", entry.unit)])

    def close(self) -> None:
        """Nothing to close."""

    def _of(self, kind: type[Record]) -> list[tuple[Row, Any]]:
        rows = self._rows[kind_name(kind)]
        return [
            rows[key] for key in sorted(rows, key=lambda key: [_sortable(part) for part in key])
        ]


def _is_one(found: Scalar, wanted: str | int | frozenset[str]) -> bool:
    return found in wanted if isinstance(wanted, frozenset) else found == wanted


def _sortable(key: Scalar) -> Any:
    return key.encode() if isinstance(key, str) else key  # SQLite sorts text by its bytes


def _through_json(detail: dict[str, Any]) -> Any:
    def moment(value: Any) -> str:
        if isinstance(value, datetime):
            return stamp(value)
        raise TypeError(f"the journal cannot hold {type(value).__name__}")

    return json.loads(
        json.dumps(detail, ensure_ascii=False, default=moment).encode(errors="replace")
    )
