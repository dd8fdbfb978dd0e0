"""Requests. A request is the only row that a command writes; the daemon carries it out.

Invariant: one transaction holds a request, its journal entry, and the checks before them.
"""

import json
import sqlite3
from collections.abc import Mapping
from contextlib import AbstractContextManager

from factory.ground.errors import StoreError
from factory.store import unit_rows, views
from factory.store.opening import APPEND, OPEN, to_json

INSERT = (
    'INSERT INTO "request" ("kind", "args", "at", "state", "outcome") '
    'VALUES (?, ?, ?, ?, ?) RETURNING "id"'
)


def writing(con: sqlite3.Connection) -> AbstractContextManager[None]:
    """Run checks and write the request in one transaction; an exception undoes everything."""
    return views.one_state(con, "BEGIN IMMEDIATE")


def make_request(
    con: sqlite3.Connection, kind: str, args: Mapping[str, str | bool | int], now: str
) -> int:
    """Inside `writing(con)`, write a request and its journal entry; return the request's id."""
    if not con.in_transaction:
        raise StoreError(
            "A request is made inside writing(): its checks and its row are one transaction."
        )
    row = {"kind": kind, "args": to_json(args), "at": now, "state": "pending", "outcome": ""}
    ((made,),) = views.fetch(con, INSERT, *row.values())
    detail = to_json({"request": made, "kind": kind, "args": args})
    changes = to_json([["request", {"id": made, **row}]])
    unit = args.get("unit", "")
    views.fetch(con, APPEND, now, "request.made", unit, 0, "", detail, changes)
    return int(made)


def request_outcome(con: sqlite3.Connection, made: int) -> unit_rows.Outcome | None:
    """Return the outcome of a request."""
    found = views.fetch(con, 'SELECT "state", "outcome" FROM "request" WHERE "id" = ?', made)
    return unit_rows.Outcome(**dict(found[0])) if found else None


def pending(con: sqlite3.Connection, kind: str) -> list[unit_rows.RequestArgs]:
    """Return the arguments of each request of this kind that the daemon has not handled yet."""
    query = f'SELECT "args" FROM "request" WHERE {OPEN["request"]} AND "kind" = ?'
    found = views.fetch(con, query, kind)
    return [unit_rows.RequestArgs(**json.loads(args)) for (args,) in found]
