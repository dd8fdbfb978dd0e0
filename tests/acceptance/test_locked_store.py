"""Another program holds the store for longer than anybody waits for it: a backup, a database browser."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from factory.child import proc
from tests.acceptance.line import Line

TWO_WAITS_S = 11.0  # the line waits five seconds for the store, and then once more


@contextmanager
def held(line: Line) -> Iterator[None]:
    """The store, locked for others until the block and two waits are over."""
    begun = time.monotonic()
    with locked(line):
        yield
        line.until("both waits are over", lambda: time.monotonic() > begun + TWO_WAITS_S)


@contextmanager
def locked(line: Line) -> Iterator[None]:
    """The store, locked for others."""
    with closing(sqlite3.connect(line.places.store, isolation_level=None, timeout=20)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


def test_what_ends_or_is_dropped_while_the_store_is_locked_lands_with_its_first_attempt(
    line: Line,
) -> None:
    go = line.folder / "go"
    line.drop("one", f"hold({str(go)!r}); write('one.txt', 'fine')")
    line.attempt("one")

    with held(line):
        go.touch()
        line.drop("two", "write('two.txt', 'fine')")

    one, _ = line.unit("one"), line.unit("two")
    assert (line.attempts("one"), line.attempts("two")) == (["submitted"], ["submitted"])
    assert line.git("show", f"{one.commit}:one.txt") == "fine"


def test_a_stop_at_once_while_the_store_is_locked_ends_the_agent_and_the_next_start_goes_on(
    line: Line,
) -> None:
    here = line.folder / "pid"
    begin = f"Path({str(here)!r}).write_text(str(os.getpid())); time.sleep(60)"
    line.drop("one", f"if attempt == 1: {begin}\nwrite('one.txt', 'fine')")
    line.attempt("one")
    pid = int(line.until("its agent works", lambda: here.read_text() if here.exists() else ""))

    with locked(line):
        code, said = line.factoryd("stop", "--now")
    assert line.daemon is not None
    assert (code, line.daemon.wait(1), proc.stat(pid)) == (0, 0, []), said

    line.start()
    line.unit("one")
    assert line.attempts("one") == ["handed_back", "submitted"]
