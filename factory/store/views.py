"""What the commands read from the store, as plain values; and the one row that they write, a request.

Invariant: nothing here changes a record; a request and its journal entry are one transaction.
"""
# ruff: noqa: PTH118, PTH120 - pathlib costs more than a query

import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from os.path import dirname

from factory.ground.errors import StoreError
from factory.store.opening import APPEND, OPEN, PAGE, connect, to_json

TYPE_CHECKING = (
    False  # importing typing for its constant would cost `factory status` more than the query
)
if TYPE_CHECKING:
    from typing import Any

    Json = dict[str, Any]
else:
    Json = dict  # the commands write it in annotations

STATES = ("waiting", "ready", "running", "queued", "held", "landed", "split", "cancelled")
NEEDS_YOU_FIRST = ("held", "running", "queued", "ready", "waiting")
SHOWN = ("id", "title", "state", "attempt", "why", "since", "priority")
ASKED = (
    "id",
    "kind",
    "unit",
    "units",
    "question",
    "default",
    "deadline",
    "count",
    "since",
    "recommended",
    "answer",
)
LANDED = (
    'SELECT "id" AS "unit", "commit", "landed" AS "at" FROM "unit" '
    'WHERE "landed" IS NOT NULL ORDER BY "landed" DESC LIMIT 5'
)
TASK = (
    'SELECT s."name", coalesce(t."text", \'\') AS "text" '
    'FROM "spec" AS s LEFT JOIN "task" AS t ON t."unit" = s."unit" WHERE s."unit" = ?'
)
_LISTS = (
    "needs",
    "scope",
    "approved",
    "units",
    "options",
    "left_out",
    "rewrote",
)  # columns that hold JSON
_TRUTHS = (
    "resume",
    "fresh",
    "resumed",
    "estimated",
    "ok",
    "settled",
    "flaky",
)  # columns that hold 0 or 1


def open_store(path: str, *, write: bool = False) -> sqlite3.Connection:
    """The store, read-only unless said otherwise; raise StoreError where it cannot be opened."""
    if not os.path.exists(path):  # noqa: PTH110 - pathlib costs more than the query
        lost = "or, where it was lost, make it anew: factory doctor --rebuild"
        raise StoreError(
            f"There is no store at {path}. Start the factory here first: factoryd start\n  {lost}"
        )
    con = connect(path, "rw" if write else "ro")
    con.row_factory = sqlite3.Row
    return con


def remembered_trunk(root: str) -> str:
    """The branch that units landed on before: it stays trunk, whatever is checked out; "" before the first start."""
    try:
        with closing(open_store(f"{root}/.factory/store.sqlite")) as con:
            return str((fact(con, "trunk") or {}).get("branch") or "")
    except (StoreError, sqlite3.Error):
        return ""  # none yet, or one that the start says more about


def identity_at(root: str) -> "str | None":
    """The identity of the store in the checkout at `root`: "" where there is none, None where nobody can tell."""
    path = f"{root}/.factory/store.sqlite"
    try:
        os.stat(path)  # noqa: PTH116 - it tells "no such file" from "you may not look"
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError:
        return None
    try:
        with closing(open_store(path)) as con:
            return str((fact(con, "identity") or {}).get("id") or "") or None
    except (StoreError, sqlite3.Error):
        return None


def now_text() -> str:
    """The present moment, in the form that the store keeps times in."""
    seconds, rest = divmod(time.time_ns(), 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest // 1000:06d}Z"


def status(con: sqlite3.Connection, now: str) -> "Json":
    """What `factory status --json` prints (line.md §10), of one moment."""
    with writing(con, "BEGIN"):  # several queries see one state
        counts = dict(_rows(con, 'SELECT "state", count(*) FROM "unit" GROUP BY "state"'))
        units, up, elsewhere = _open_units(con), daemon(con), used_in(con)
        return {
            "schema": 1,
            "at": now,
            "daemon": up,
            "trunk": {"branch": None, "commit": None, "state": "unknown", "gates_red": []}
            | (fact(con, "trunk") or {}),
            "workers": _workers(con, up=up["state"] != "stopped", elsewhere=bool(elsewhere)),
            "units": {state: counts.get(state, 0) for state in STATES},
            "units_open": [_only(unit, *SHOWN) for unit in units],
            "queue": _queue(con, units),
            "escalations": [_escalation(card) for card in cards(con, open_only=True)],
            "budget": _budget(con, now[:10]),
            "sandbox": fact(con, "sandbox"),
            "paused": fact(con, "paused"),
            "warnings": [*_of_place(elsewhere), *(fact(con, "warnings") or [])],
            "last_landed": _last_landed(con),
            "inbox": inbox(con),
        }


def used_in(con: sqlite3.Connection) -> str:
    """The checkout that this store was last used in, where that is another one than it lies in now; else ""."""
    root = str((fact(con, "identity") or {}).get("root") or "")
    here = os.path.realpath(dirname(_home(con)))
    return root if root not in ("", here) else ""


def _of_place(elsewhere: str) -> "list[str]":
    if not elsewhere:
        return []
    return [
        f"This store was last used in {elsewhere}. What it says is about that place until: factoryd start"
    ]


def _last_landed(con: sqlite3.Connection) -> "list[Json]":
    missing = (fact(con, "trunk") or {}).get("missing", [])
    return [{**row, "on_trunk": row["unit"] not in missing} for row in _dicts(con, LANDED)]


def show(con: sqlite3.Connection, unit: str) -> "Json | None":
    """All that is on record about one unit, or None."""
    with writing(con, "BEGIN"):  # several queries see one state
        found = _dicts(con, 'SELECT * FROM "unit" WHERE "id" = ?', unit)
        if not found:
            return None
        task = _dicts(con, TASK, unit)
        return {
            **found[0],
            "on_trunk": found[0]["state"] == "landed"
            and unit not in (fact(con, "trunk") or {}).get("missing", []),
            "task": task[0] if task else None,
            "attempts": [_attempt(con, row) for row in _of_unit(con, "attempt", "number", unit)],
            "verdicts": _verdicts(con, unit),
            "escalations": [
                card for card in cards(con) if unit == card["unit"] or unit in card["units"]
            ],
            "remarks": _of_unit(con, "remark", "seq", unit),
        }


def log(con: sqlite3.Connection, *, after: int = 0, unit: str = "") -> "Iterator[Json]":
    """Journal entries with seq > after, oldest first, as `factory log --json` prints them; of one unit where named."""
    condition, args = (' AND "unit" = ?', (unit,)) if unit else ("", ())
    query = f'SELECT * FROM "journal" WHERE "seq" > ?{condition} ORDER BY "seq" LIMIT {PAGE}'
    while rows := _dicts(con, query, after, *args):
        for row in rows:
            said = {name: value for name, value in _said(row) if value}
            yield {
                **said,
                **json.loads(row["detail"]),
                **_only(row, "seq", "at", "event", "unit", "attempt", "worker"),
            }
        after = rows[-1]["seq"]


def _said(row: "Json") -> "Iterator[tuple[str, Any]]":
    """What the records that changed with an entry say: why a unit is where it is, what a card asks, who starts."""
    for table, changed in json.loads(row["changes"]):
        if table == "card" and row["event"].startswith("card."):
            yield "question", changed["question"]
        elif table == "unit" and row["event"].startswith("unit."):
            yield "why", changed["why"]
        elif table == "attempt" and row["event"] == "attempt.started":
            yield "agent", changed["agent"]


def last_seq(con: sqlite3.Connection) -> int:
    """The newest journal entry's seq, 0 in an empty journal."""
    return int(_rows(con, 'SELECT coalesce(max("seq"), 0) FROM "journal"')[0][0])


def cards(con: sqlite3.Connection, *, open_only: bool = False) -> "list[Json]":
    """The cards with all their fields, oldest first."""
    return _dicts(
        con, f'SELECT * FROM "card" WHERE {OPEN["card"] if open_only else 1} ORDER BY "since", "id"'
    )


def card(con: sqlite3.Connection, name: str) -> "Json | None":
    """One card by its id, or None."""
    return next((each for each in cards(con) if each["id"] == name), None)


def fact(con: sqlite3.Connection, name: str) -> "Any":
    """What the daemon last wrote under that name, or None."""
    rows = _rows(con, 'SELECT "value" FROM "fact" WHERE "name" = ?', name)
    return json.loads(rows[0][0]) if rows else None


def inbox(con: sqlite3.Connection) -> str:
    """The name of the folder that task files are dropped into, as the daemon said at its start."""
    return str((fact(con, "names") or {}).get("inbox") or "inbox")


def daemon(con: sqlite3.Connection) -> "Json":
    """The daemon as it is, not as it last said: a dead one is stopped."""
    said = fact(con, "daemon") or {}
    lock = os.path.join(dirname(_home(con)), said.get("lock") or "")
    if said.get("state") in ("running", "draining") and _alive(said.get("pid") or 0, lock):
        return _only(said, "state", "pid", "since", "version")
    return {"state": "stopped", "pid": None, "since": None, "version": said.get("version")}


@contextmanager
def writing(con: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    """One transaction for checks and the request that rests on them; an exception undoes it. Joins an outer one."""
    if con.in_transaction:
        yield
        return
    _rows(con, begin)
    try:
        yield
        _rows(con, "COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # SQLite ends a transaction by itself where the disk is full
            con.execute("ROLLBACK")
        raise


def make_request(con: sqlite3.Connection, kind: str, args: "Json", now: str) -> int:
    """Put a request for the daemon, and its journal entry, inside `writing(con)`; return its id."""
    if not con.in_transaction:
        raise StoreError(
            "A request is made inside writing(): its checks and its row are one transaction."
        )
    row = {"kind": kind, "args": to_json(args), "at": now, "state": "pending", "outcome": ""}
    insert = 'INSERT INTO "request" ("kind", "args", "at", "state", "outcome") VALUES (?, ?, ?, ?, ?) RETURNING "id"'
    made = int(_rows(con, insert, *row.values())[0][0])
    detail = to_json({"request": made, "kind": kind, "args": args})
    changes = to_json([["request", {"id": made, **row}]])
    _rows(con, APPEND, now, "request.made", args.get("unit", ""), 0, "", detail, changes)
    return made


def request_outcome(con: sqlite3.Connection, made: int) -> "Json | None":
    """State (pending, done, refused) and outcome of a request, or None."""
    return next(
        iter(_dicts(con, 'SELECT "state", "outcome" FROM "request" WHERE "id" = ?', made)), None
    )


def pending(con: sqlite3.Connection, kind: str) -> "list[Json]":
    """The arguments of each request of that kind that the daemon has not taken yet."""
    rows = _rows(con, f'SELECT "args" FROM "request" WHERE {OPEN["request"]} AND "kind" = ?', kind)
    return [json.loads(args) for (args,) in rows]


def _rows(con: sqlite3.Connection, query: str, *args: object) -> "list[Any]":
    try:
        return con.execute(query, args).fetchall()
    except sqlite3.Error as error:
        raise StoreError(
            f"The store could not be asked: {error}. Nothing was changed.\n  see: factory doctor"
        ) from error


def _dicts(con: sqlite3.Connection, query: str, *args: object) -> "list[Json]":
    return [_decoded(dict(row)) for row in _rows(con, query, *args)]


def _decoded(row: "Json") -> "Json":
    lists = {name: json.loads(row[name]) for name in _LISTS if name in row}
    return {**row, **lists, **{name: bool(row[name]) for name in _TRUTHS if name in row}}


def _only(row: "Json", *names: str) -> "Json":
    return {name: row.get(name) for name in names}


def _open_units(con: sqlite3.Connection) -> "list[Json]":
    rows = _dicts(con, f'SELECT * FROM "unit" WHERE {OPEN["unit"]}')
    return sorted(
        rows,
        key=lambda row: (NEEDS_YOU_FIRST.index(row["state"]), row["priority"], row["accepted"]),
    )


def _workers(con: sqlite3.Connection, *, up: bool, elsewhere: bool) -> "list[Json]":
    rows = _dicts(
        con,
        """SELECT h."worker" AS "name", h."state", nullif(h."unit", '') AS "unit",
        nullif(h."attempt", 0) AS "attempt", nullif(h."phase", '') AS "phase", h."since",
        a."agent", a."pid", a."number"
        FROM "hook" AS h LEFT JOIN "attempt" AS a ON a."unit" = h."unit" AND a."number" = h."attempt"
        WHERE h."state" <> 'gone' ORDER BY h."index", h."worker" """,
    )
    # Without a daemon an attempt may have ended, and nobody has written that down yet.
    for row in rows:
        pid, number = row.pop("pid"), row.pop("number")
        folder = f"{_home(con)}/attempts/{row['unit']}/{number}"
        is_at_work = up or (_answers(pid or 0) and not _over(folder) and not elsewhere)
        row["alive"] = row["unit"] is not None and is_at_work
    return rows


def _budget(con: sqlite3.Connection, day: str) -> "Json | None":
    """What is spent today and held back for what runs, beside the caps; None without any."""
    config = fact(con, "config") or {}
    caps = {
        key.removeprefix("budget."): each["value"]
        for key, each in config.items()
        if key.startswith("budget.")
    }
    if not any(caps.values()):
        return None
    tokens = '"tokens_input" + "tokens_output"'
    ((usd, held_usd, used, held, minutes, held_minutes, estimated),) = _rows(
        con,
        f"""SELECT total(iif("day" <> '', max("cost_usd", "reserved_usd"), "cost_usd")),
        total(iif("day" <> '', 0, max("reserved_usd" - "cost_usd", 0))),
        total(iif("day" <> '', max({tokens}, "reserved_tokens"), {tokens})),
        total(iif("day" <> '', 0, max("reserved_tokens" - ({tokens}), 0))),
        total(iif("day" <> '', "reserved_minutes", 0)), total(iif("day" <> '', 0, "reserved_minutes")),
        total("estimated" OR ("day" <> '' AND "reserved_usd" > "cost_usd"))
        FROM (SELECT * FROM "attempt" WHERE "day" = ? UNION ALL SELECT * FROM "attempt" WHERE {OPEN["attempt"]})""",
        day,
    )
    spent = {
        "spent_usd": round(usd, 6),
        "reserved_usd": round(held_usd, 6),
        "estimated": bool(estimated),
    }
    spent |= {"spent_tokens": int(used), "reserved_tokens": int(held)}
    spent |= {"spent_minutes": round(minutes, 3), "reserved_minutes": round(held_minutes, 3)}
    return {"day": day, **spent, **caps, "regardless": fact(con, "regardless") == day}


def _queue(con: sqlite3.Connection, units: "list[Json]") -> "list[Json]":
    said = {entry["unit"]: entry for entry in fact(con, "queue") or []}
    # The merge queue says where each stands; what it has not said yet stands behind, in the order of arrival.
    queued = sorted(
        (unit for unit in units if unit["state"] == "queued"),
        key=lambda unit: (said.get(unit["id"], {}).get("position", len(units) + 1), unit["since"]),
    )
    return [
        {
            "unit": unit["id"],
            "position": place,
            "state": said.get(unit["id"], {}).get("state", "waiting"),
        }
        for place, unit in enumerate(queued, start=1)
    ]


def _escalation(row: "Json") -> "Json":
    return {
        **_only(row, *ASKED),
        "options": [_only(option, "key", "label", "effect") for option in row["options"]],
    }


def _of_unit(con: sqlite3.Connection, table: str, order: str, unit: str) -> "list[Json]":
    return _dicts(con, f'SELECT * FROM "{table}" WHERE "unit" = ? ORDER BY "{order}"', unit)


def _attempt(con: sqlite3.Connection, row: "Json") -> "Json":
    """An attempt with its folders as they lie now: the store keeps no path that a move would break."""
    tokens = {"input": row.pop("tokens_input"), "output": row.pop("tokens_output")}
    work = (fact(con, "identity") or {}).get("work", "")
    folders = {
        "workspace": f"{work}/{row['workspace']}" if row["workspace"] else "",
        "run_dir": f"{_home(con)}/attempts/{row['unit']}/{row['number']}",
    }
    return {**row, **folders, "tokens": tokens}


def _home(con: sqlite3.Connection) -> str:
    """The factory's own folder, in which the store lies."""
    return dirname(str(_rows(con, "PRAGMA database_list")[0][2]))


def _verdicts(con: sqlite3.Connection, unit: str) -> "list[Json]":
    """Those that the journal names this unit for; `cached` where a settled one was taken and no gate ran."""
    return [
        {**_decoded(row), "cached": bool(json.loads(entry["detail"]).get("cached"))}
        for entry in _of_unit(con, "journal", "seq", unit)
        if entry["event"] == "verdict.given"
        for table, row in json.loads(entry["changes"])
        if table == "verdict"
    ]


def _over(run_dir: str) -> bool:
    return os.path.exists(f"{run_dir}/exit.json")  # noqa: PTH110 - a shim that nobody reaps still answers


def _answers(pid: int) -> bool:
    try:
        with suppress(PermissionError):  # it is there, and another user's
            os.kill(pid, 0)
    except (OSError, OverflowError):
        return False
    return pid > 0


def _alive(pid: int, lock: str) -> bool:
    # The lock is tried only where the pid answers: a status in the very moment of a start must not hold it.
    try:
        with suppress(PermissionError):  # it is there, and another user's
            os.kill(pid, 0)
        handle = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, OverflowError):
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False
