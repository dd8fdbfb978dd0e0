"""Another program holds the store for longer than anybody waits for it: a backup, a database browser."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from tests.acceptance.line import Line

TWO_WAITS_S = 11.0  # the line waits five seconds for the store, and then once more


@contextmanager
def held(line: Line) -> Iterator[None]:
    """The store, locked for others until the block and two waits are over."""
    begun = time.monotonic()
    with closing(sqlite3.connect(line.places.store, isolation_level=None, timeout=20)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        line.until("both waits are over", lambda: time.monotonic() > begun + TWO_WAITS_S)
        other.execute("ROLLBACK")


def test_what_ends_or_is_dropped_while_the_store_is_locked_lands_with_its_first_attempt(line: Line) -> None:
    go = line.folder / "go"
    line.drop("one", f"hold({str(go)!r}); write('one.txt', 'fine')")
    line.attempt("one")

    with held(line):
        go.touch()
        line.drop("two", "write('two.txt', 'fine')")

    one, _ = line.unit("one"), line.unit("two")
    assert (line.attempts("one"), line.attempts("two")) == (["submitted"], ["submitted"])
    assert line.git("show", f"{one.commit}:one.txt") == "fine"
