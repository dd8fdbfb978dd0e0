"""The one port with several implementations: the store. Its contract suite is tests/store_contract.py."""

from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol

from factory.store.journal import Event
from factory.store.records import R, Record


class Store(Protocol):
    """Records and the journal; every write is one durable transaction that holds both.

    Calls do not await (a write is 0.1 ms, engine.md §3): code between two awaits sees and changes one consistent state.
    """

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
        """Append a journal entry with the records it changed, durable with the outermost block; return its seq.

        With `fence`, raise Fenced and write nothing unless `attempt` is `unit`'s newest attempt number as stored.
        """
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """Several writes as one, undone by an exception; nests. A block must not await: others' writes would join."""
        ...

    def own(self, owner: str, *, now: datetime) -> None:
        """Be the one owner: from now on a transaction that an earlier owner begins raises Deposed, and writes nothing.

        Whoever never owned it (a command) is not asked.
        """
        ...

    def get(self, kind: type[R], *key: str | int) -> R | None:
        """The record with that key (in the order of records.KEYS), or None."""
        ...

    def open(self, kind: type[R]) -> list[R]:
        """The units not final, cards open, attempts without end, steps not done, requests pending, by key; else all."""
        ...

    def select(self, kind: type[R], /, **equal: str | int | frozenset[str]) -> list[R]:
        """All records whose columns equal the given values, or one of a set, by key.

        Raises TypeError for a column that the kind lacks.
        """
        ...

    def last_seq(self) -> int:
        """The seq of the newest journal entry; 0 in an empty journal."""
        ...

    def close(self) -> None:
        """Checkpoint and close."""
        ...
