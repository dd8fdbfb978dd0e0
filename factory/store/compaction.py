"""Decides what old journal entries lose, and which long texts of finished work get short.

Invariant: an entry loses a row only if a later entry has a row with the same key. So applying all
entries to an empty store still gives the present state.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from factory.store import story
from factory.store.records import (
    KEYS,
    KINDS,
    Attempt,
    Card,
    Fact,
    Record,
    Row,
    Scalar,
    Verdict,
    from_row,
)

AT_ONCE = 200  # entries in one step
POSITION = "compacted"  # the name of the fact with the newest entry that was compacted
LEFT_OUT = "… (older than keep.days, so factoryd deleted the rest) …"

Key = tuple[str, tuple[Scalar, ...]]


class Old(NamedTuple):
    """One old entry of the journal."""

    seq: int
    event: str
    unit: str
    changes: list[tuple[str, Row]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What one step changes."""

    changed: dict[int, list[tuple[str, Row]]] = field(default_factory=dict)  # seq → rows it keeps
    dropped: list[int] = field(default_factory=list)  # the seqs of entries that nobody needs
    again: dict[Key, Record] = field(default_factory=dict)  # records to write in a new entry


def plan(
    entries: Iterable[Old],
    *,
    present: Callable[[str, tuple[Scalar, ...]], Row | None],
    is_over: Callable[[str], bool],
) -> Plan:
    """Return what to change in these entries.

    `present` returns the row that a table has now for a key; `is_over` tells whether a unit ended.
    """
    made = Plan()
    for entry in entries:
        kept = []
        for table, row in entry.changes:
            key = _key(table, row)
            is_newest = present(table, key) == row
            again = _again(table, row, is_over) if is_newest else None
            if again is not None:
                made.again[table, key] = again
                is_newest = False
            rest = row if is_newest else story.shortened(entry.event, table, row)
            if rest is not None:
                kept.append((table, rest))
        if not kept and not story.is_told(entry.event, entry.unit):
            made.dropped.append(entry.seq)
        elif kept != entry.changes:
            made.changed[entry.seq] = kept
    return made


def _key(table: str, row: Row) -> tuple[Scalar, ...]:
    return tuple([row[name] for name in KEYS[KINDS[table]]])


def _again(table: str, row: Row, is_over: Callable[[str], bool]) -> Record | None:
    """Return the record to write again: with a short text, or a fact; None if the row stays.

    Few facts exist, but many old entries have the same value as the present one.
    """
    kind: Any = KINDS[table]
    if table != "fact" and not _has_long_text(table, row):
        return None
    match from_row(kind, row):
        case Fact() as fact:
            return fact
        case Verdict() as verdict:
            return replace(verdict, tail=_end_of(verdict.tail))
        case Card(state="closed") as card:
            return replace(card, evidence=_begin_of(card.evidence))
        case Attempt() as attempt if is_over(attempt.unit):
            return replace(attempt, digest=_begin_of(attempt.digest))
    return None


_LONG_TEXTS = {"verdict": "tail", "card": "evidence", "attempt": "digest"}


def _has_long_text(table: str, row: Row) -> bool:
    text = row.get(_LONG_TEXTS.get(table, ""))
    return isinstance(text, str) and len(text) > story.SHORT + len(LEFT_OUT) + 1


def _begin_of(text: str) -> str:
    return f"{text[: story.SHORT]}\n{LEFT_OUT}"


def _end_of(text: str) -> str:
    return f"{LEFT_OUT}\n{text[-story.SHORT :]}"
