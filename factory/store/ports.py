"""The port of the store. Its contract suite is tests/store_contract.py."""

from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol

from factory.store.journal import Event
from factory.store.records import R, Record


class Store(Protocol):
    """Records and the journal; every write is one durable transaction that holds both.

    Calls do not await (a write takes 0.1 ms), so code between two awaits sees one consistent state.
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
        """Append a journal entry with the records that it changed; return its seq.

        It is durable with the outermost transaction. With `fence`, raise Fenced and write nothing
        unless `attempt` is the number of `unit`'s newest attempt.
        """
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """Several writes as one, undone by an exception; nests. The block must not await."""
        ...

    def own(self, owner: str, *, now: datetime) -> None:
        """Be the one owner: a transaction that an earlier owner begins raises Deposed.

        A store that never owned it (a command's) is not checked.
        """
        ...

    def get(self, kind: type[R], *key: str | int) -> R | None:
        """The record with that key (in the order of records.KEYS), or None."""
        ...

    def open(self, kind: type[R]) -> list[R]:
        """The records that are not finished, by key; of a kind that does not finish, all."""
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
