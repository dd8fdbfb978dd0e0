"""The interface of the store. tests/store_contract.py tests every implementation of it."""

from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol

from factory.store.journal import Event
from factory.store.records import R, Record


class Store(Protocol):
    """Records and the journal. Every write changes both in one durable transaction.

    Calls do not await (a write takes 0.1 ms), so code between two awaits sees a consistent state.
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
        """Append a journal entry and write its changed records; return the entry's seq.

        The write is durable once the outermost transaction ends. With `fence`, if `attempt` is not
        the number of the unit's newest attempt, write nothing and raise Fenced.
        """
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """Combine several writes; an exception undoes them. The block must not await.

        Can be nested: rolling back an inner block does not roll back the outer one.
        """
        ...

    def own(self, owner: str, *, now: datetime) -> None:
        """Become the only owner: the next transaction of an earlier owner raises Deposed.

        If a connection never owned the store (such as that of a command), it is not checked.
        """
        ...

    def get(self, kind: type[R], *key: str | int) -> R | None:
        """Return the record with this key (in the order of records.KEYS), or None."""
        ...

    def open(self, kind: type[R]) -> list[R]:
        """Return the unfinished records, by key. If a kind has no end, return all records."""
        ...

    def select(self, kind: type[R], /, **equal: str | int | frozenset[str]) -> list[R]:
        """Return, by key, the records whose columns have these values; a set stands for any member.

        Raises TypeError for a column that the kind does not have.
        """
        ...

    def newest(self, kind: type[R], most: int, /, **equal: str | int) -> list[R]:
        """Return at most so many records with these values, the one that was written last first.

        A record keeps its place in this order when it is written again. Raises TypeError as above.
        """
        ...

    def last_seq(self) -> int:
        """Return the seq of the newest journal entry; 0 if the journal is empty."""
        ...

    def compact(self, *, before: datetime, now: datetime) -> int:
        """Compact the next few journal entries older than `before`; return how many these were.

        Old entries lose rows that later entries replace, and everything that nobody reads about
        finished units. Long texts of finished work get short.
        """
        ...

    def close(self) -> None:
        """Write the log into the store's file (checkpoint), and close the store."""
        ...
