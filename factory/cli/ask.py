"""What a command asks of the daemon: checked and written in one transaction, so that it holds with the daemon down too.

Invariant: nothing but the request's row is written here; the daemon alone changes anything else.
"""

import sqlite3
import time
from collections.abc import Callable

from factory.cli import place, say
from factory.cli.place import Seen
from factory.errors import RefusedByState
from factory.stores import views

WAIT_S = 2.0
FINAL = ("landed", "split", "cancelled")

Check = Callable[[sqlite3.Connection], Seen]  # gives the request's arguments, or raises what refuses it


def ask(kind: str, check: Check) -> int:
    """Ask, wait for the outcome where the daemon is up, say it, and return the exit code."""
    top = place.root()
    with place.store(top, write=True) as con:
        with views.writing(con):
            request = views.make_request(con, kind, check(con), views.now_text())
        place.wake(top)
        if views.daemon(con)["state"] == "stopped":
            print("queued for the next start; the daemon is not running (factoryd start)")
            return 0
        return _outcome(con, request)


def unit(con: sqlite3.Connection, name: str) -> Seen:
    """The unit of that id; raise RefusedByState where there is none."""
    return place.unit(con, name, refusal=RefusedByState)


def open_unit(con: sqlite3.Connection, name: str) -> Seen:
    """The unit, which has not ended; raise RefusedByState where there is none or it has."""
    found = unit(con, name)
    if found["state"] in FINAL:
        raise RefusedByState(
            f"{name} is {found['state']}: nothing more happens to it. To have more done, add a new task."
        )
    return found


def _outcome(con: sqlite3.Connection, request: int) -> int:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        seen = views.request_outcome(con, request) or {"state": "pending"}
        if seen["state"] == "done":
            print(say.clean(seen["outcome"]) or "done")
            return 0
        if seen["state"] == "refused":
            raise RefusedByState(seen["outcome"])
        time.sleep(0.02)
    print("asked; the daemon is busy and takes it next (factory log says when)")
    return 0
