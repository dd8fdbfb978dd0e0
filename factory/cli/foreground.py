"""Runs the daemon in this terminal and prints the journal, one line for each event.

`factoryd start --foreground` runs `python -m factory.cli.foreground ROOT`. Invariant: the daemon
never waits for whoever reads the output, because a thread with its own connection prints.
"""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread

from factory import daemon
from factory.cli import log, place
from factory.ground.errors import StoreError
from factory.store import unit_views, views

POLL_S = 0.5
LAST_S = 2.0  # time for the last lines after the daemon has ended


def main(argv: list[str] | None = None, run: Callable[[list[str]], int] = daemon.main) -> int:
    """Run the daemon, print its journal meanwhile, and return the daemon's exit code."""
    top = (argv or sys.argv[1:])[0]
    has_ended = Event()
    thread = Thread(target=_print_journal, args=(top, views.now_text(), has_ended), daemon=True)
    thread.start()
    try:
        return run([top])
    finally:
        has_ended.set()
        thread.join(LAST_S)


def _print_journal(top: str, since: str, has_ended: Event) -> None:
    """Print the events from that time on, until the daemon has ended or nobody reads them."""
    seen = None
    is_last = False
    with suppress(OSError):  # the reader of a pipe has ended
        while not is_last:
            is_last = has_ended.wait(POLL_S)
            # A first start makes the store, and a start with an older store converts it.
            with suppress(StoreError), place.store(top) as con:
                if seen is None:
                    seen = unit_views.seq_before(con, since)
                for entry in unit_views.log(con, after=seen):
                    for text in log.told(entry, of_one=False):
                        _write(f"{text}\n".encode(errors="replace"))
                    seen = entry.seq


def _write(line: bytes) -> None:
    # Not `print`: if a thread waits in a buffered write, Python cannot end.
    while line:
        line = line[os.write(1, line) :]


if __name__ == "__main__":
    sys.exit(main())
