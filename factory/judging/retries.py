"""Retries failed steps, after longer and longer waits.

Invariant: times are from the event loop's clock, which nobody can set.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from traceback import format_exception

import anyio

from factory.ground.daemon_state import now
from factory.ground.errors import first_of
from factory.store.fact_values import value_of
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Fact

LONGEST_S = 300.0
EVIDENCE = 4000  # characters of a traceback that are kept
BREAKS = 3  # after so many failures in a row, a card asks a person about the step
_BENCH = re.compile(r"/benches/b\d+")
_OBJECT = re.compile(r"\b[0-9a-f]{40,64}\b")


@dataclass(slots=True)
class _Failures:
    """The number of failures in a row, and the time of the next try."""

    count: int = 0
    due: float = 0.0


class Retries:
    """Failures by name. The next try comes after 2, 4, 8 … 300 seconds."""

    def __init__(self) -> None:
        self._failed: dict[str, _Failures] = {}

    def fail(self, name: str) -> int:
        """Note a failure, and return the number of failures in a row."""
        failed = self._failed.setdefault(name, _Failures())
        failed.count += 1
        failed.due = anyio.current_time() + min(LONGEST_S, 2.0**failed.count)
        return failed.count

    def failures(self, name: str) -> int:
        """Return the number of failures in a row."""
        return self._failed.get(name, _Failures()).count

    def is_due(self, name: str) -> bool:
        """Whether the next try may start now."""
        return self._failed.get(name, _Failures()).due <= anyio.current_time()

    def forget(self, *names: str) -> None:
        """Forget the failures of these names."""
        for name in names:
            self._failed.pop(name, None)

    def keep(self, names: Collection[str]) -> None:
        """Forget the failures of all other names."""
        others = self._failed.keys() - set(names)
        self.forget(*others)

    @property
    def names(self) -> Collection[str]:
        """Return the names whose last try failed."""
        return self._failed.keys()

    def waits(self) -> list[float]:
        """Return how many seconds remain until each try that is not due yet."""
        now = anyio.current_time()
        waits = []
        for failed in self._failed.values():
            if failed.due > now:
                waits.append(failed.due - now)
        return waits


class KeptRetries(Retries):
    """Retries whose counts are kept in the store. After a restart, all tries are due at once."""

    def __init__(self, store: Store, fact: str) -> None:
        super().__init__()
        self._store = store
        self._fact = fact

    def fail(self, name: str) -> int:
        """Note a failure, and return the failures in a row, including those before a restart."""
        super().fail(name)
        counts = self._counts()
        counts[name] = counts.get(name, 0) + 1
        self._write(counts)
        return counts[name]

    def failures(self, name: str) -> int:
        """Return the number of failures in a row."""
        return self._counts().get(name, 0)

    def forget(self, *names: str) -> None:
        """Forget the failures of these names."""
        super().forget(*names)
        counts = self._counts()
        left = {name: count for name, count in counts.items() if name not in names}
        if left != counts:
            self._write(left)

    def keep(self, names: Collection[str]) -> None:
        """Forget the failures of all other names."""
        others = (self._failed.keys() | self._counts().keys()) - set(names)
        if others:
            self.forget(*others)

    def _counts(self) -> dict[str, int]:
        return dict(value_of(self._store, self._fact, {}))

    def _write(self, counts: Mapping[str, int]) -> None:
        fact = Fact(name=self._fact, value=json.dumps(counts))
        self._store.write(Event.FACT_CHANGED, fact, now=now(), fact=self._fact)


def sentence_of(error: BaseException) -> str:
    """Return the error as a sentence, without words that differ between benches and commits.

    So one cause has one card, whichever unit and bench it stops.
    """
    error = first_of(error)
    first = next(iter(str(error).splitlines()), "")
    said = f"{type(error).__name__}: {first}" if first else type(error).__name__
    return _OBJECT.sub("…", _BENCH.sub("/benches/…", said))


def trace_of(error: Exception) -> str:
    """Return the end of the error's traceback."""
    return "".join(format_exception(error))[-EVIDENCE:]
