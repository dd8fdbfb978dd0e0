"""The port of the store. Its contract suite is tests/store_contract.py."""

from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol

from factory.store.journal import Event
from factory.store.records import R, Record


class Store(Protocol):
    """Records and the journal. Every write is one durable transaction with both.

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

        The write is durable once the outermost transaction ends. With `fence`, raise Fenced and
        write nothing unless `attempt` is the number of the unit's newest attempt.
        """
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """Combine several writes; an exception undoes them. The block must not await.

        Can be nested: rolling back an inner block does not roll back the outer one.
        """
        ...

    def own(self, owner: str, *, now: datetime) -> None:
        """Become the only owner: the next transaction of an earlier owner raises Deposed.

        A connection that never owned the store (a command's) is not checked.
        """
        ...

    def get(self, kind: type[R], *key: str | int) -> R | None:
        """Return the record with this key (in the order of records.KEYS), or None."""
        ...

    def open(self, kind: type[R]) -> list[R]:
        """Return the unfinished records, by key; all records of a kind that has no end."""
        ...

    def select(self, kind: type[R], /, **equal: str | int | frozenset[str]) -> list[R]:
        """Return, by key, the records whose columns equal the values, or a member of a set.

        Raises TypeError for a column that the kind does not have.
        """
        ...

    def last_seq(self) -> int:
        """Return the seq of the newest journal entry; 0 if the journal is empty."""
        ...

    def close(self) -> None:
        """Checkpoint and close."""
        ...
