"""Queries of commands about the line, as rows of rows.py. asking.py has the commands' only write.

Invariant: no function here changes a record, and each one reads a single, consistent state of the
store.
"""
# ruff: noqa: PTH118, PTH120 - pathlib costs more than a query

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os.path import dirname

from factory.ground.disk import complaint
from factory.ground.errors import StoreError
from factory.ground.times import from_stamp
from factory.store import found_rows, rows, starts, whys
from factory.store.alive import answers, has_ended, is_held
from factory.store.opening import OPEN, connect
from factory.store.running import running
from factory.store.spending import charge, minutes_used
from factory.store.states import UnitState

TYPE_CHECKING = False  # importing typing would cost more time than the query
if TYPE_CHECKING:
    from typing import Any

    Json = dict[str, Any]  # a row from SQLite or JSON, before its conversion to a typed row
else:
    Json = dict

NEEDS_YOU_FIRST = (
    UnitState.HELD,
    UnitState.RUNNING,
    UnitState.QUEUED,
    UnitState.READY,
    UnitState.WAITING,
)
IN_SHORT = ("id", "title", "state", "attempt", "why", "since", "priority")
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
WORKERS = """
    SELECT h."worker" AS "name", h."state", nullif(h."unit", '') AS "unit",
        nullif(h."attempt", 0) AS "attempt", nullif(h."phase", '') AS "phase", h."since",
        a."agent", a."pid"
    FROM "hook" AS h
    LEFT JOIN "attempt" AS a ON a."unit" = h."unit" AND a."number" = h."attempt"
    WHERE h."state" <> 'gone' ORDER BY h."index", h."worker"
"""
FREE = 'SELECT 1 FROM "hook" WHERE "unit" = \'\' AND "state" = \'idle\' LIMIT 1'
DEMANDING = f"""
    SELECT s."unit", s."model" <> '' AS "model", s."accept" <> '[]' AS "accept"
    FROM "unit" AS u JOIN "spec" AS s ON s."unit" = u."id"
    WHERE {OPEN["unit"]} AND (s."model" <> '' OR s."accept" <> '[]')
"""
_ACCOUNT = (
    '"day", "cost_usd", "tokens_input", "tokens_output", "estimated", '
    '"reserved_usd", "reserved_tokens", "reserved_minutes"'
)
ACCOUNTS = f"""
    SELECT {_ACCOUNT} FROM "attempt" WHERE "day" = ?
    UNION ALL SELECT {_ACCOUNT} FROM "attempt" WHERE {OPEN["attempt"]}
"""
_HOLD_JSON = (
    "needs",
    "scope",
    "approved",
    "contested",
    "behind",
    "units",
    "options",
    "left_out",
    "rewrote",
    "clashes",
)
_HOLD_TRUTH = ("resume", "fresh", "resumed", "estimated", "ok", "settled", "flaky")


# ── opening ──


def open_store(path: str, *, write: bool = False) -> sqlite3.Connection:
    """Open the store, read-only without `write`; raise StoreError if it cannot be opened."""
    if not os.path.exists(path):  # noqa: PTH110
        raise StoreError(
            f"There is no store at {path}. Start the factory here first: factoryd start\n"
            "  or, if it was lost, make a new one: factory doctor --rebuild"
        )
    con = connect(path, "rw" if write else "ro")
    con.row_factory = sqlite3.Row
    return con


@contextmanager
def one_state(con: sqlite3.Connection, begin: str = "BEGIN") -> Iterator[None]:
    """Run several queries in one transaction; an exception undoes it. Join an outer transaction."""
    if con.in_transaction:
        yield
        return
    fetch(con, begin)
    try:
        yield
        fetch(con, "COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # on a full disk, SQLite itself ends the transaction
            con.execute("ROLLBACK")
        raise


def fetch(con: sqlite3.Connection, query: str, *args: object) -> "list[Any]":
    """Run the query and return its rows; raise StoreError if it fails."""
    try:
        return con.execute(query, args).fetchall()
    except sqlite3.Error as error:
        raise StoreError(
            f"The store could not be read: {error}. Nothing was changed.\n  see: factory doctor"
        ) from error


def now_text() -> str:
    """Return the present time in the store's format."""
    seconds, rest = divmod(time.time_ns(), 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest // 1000:06d}Z"


# ── the line ──


def status(con: sqlite3.Connection, now: str) -> rows.Status:
    """Return the state of the whole line at one moment."""
    with one_state(con):
        up = daemon(con)
        elsewhere = used_in(con)
        still_open = open_units(con)
        stopped = up.state == "stopped"
        queue = _queue(con, still_open, stopped=stopped)
        told = {row.unit: row.why for row in queue}
        told.update(_ready(con, still_open, now, stopped=stopped))
        return rows.Status(
            schema=rows.VERSION,
            at=now,
            daemon=up,
            trunk=trunk(con),
            workers=_workers(con, is_up=not stopped, is_here=not elsewhere),
            running=[] if stopped else commands_running(con),
            units=_counts(con),
            units_open=_in_short(con, still_open, told, now),
            queue=queue,
            escalations=_escalations(con),
            budget=_budget(con, now[:10]),
            sandbox=_sandbox(con),
            paused=_paused(con),
            warnings=[*_of_room(con), *_of_place(elsewhere), *warnings(con)],
            last_landed=_last_landed(con),
            inbox=inbox(con),
            **_rejected(con),
        )


def daemon(con: sqlite3.Connection) -> rows.Daemon:
    """Return the daemon's real state. A dead daemon is stopped, whatever state it wrote last."""
    said = fact(con, "daemon") or {}
    lock = os.path.join(dirname(home(con)), said.get("lock") or "")
    if said.get("state") in ("running", "draining") and is_held(lock, said.get("pid") or 0):
        return rows.Daemon(**_only(said, ("state", "pid", "since", "version")))
    return rows.Daemon(state="stopped", pid=None, since=None, version=said.get("version"))


def trunk(con: sqlite3.Connection) -> rows.Trunk:
    """Return the known state of trunk."""
    known: Json = {"branch": None, "commit": None, "state": "unknown", "gates_red": []}
    known.update(fact(con, "trunk") or {})
    if known["state"] == "judging" and daemon(con).state == "stopped":
        known["state"] = "unknown"
    return rows.Trunk(**known)


def workers(con: sqlite3.Connection) -> list[rows.Worker]:
    """Return the current workers."""
    is_up = daemon(con).state != "stopped"
    return _workers(con, is_up=is_up, is_here=not used_in(con))


def commands_running(con: sqlite3.Connection) -> list[rows.Command]:
    """Return the setups and gates that run now."""
    known = identity(con)
    return running(known.work, f"{home(con)}/judged") if known else []


def warnings(con: sqlite3.Connection) -> list[str]:
    """Return the daemon's last warnings."""
    return fact(con, "warnings") or []


def slow_commands(con: sqlite3.Connection) -> list[str]:
    """Return a sentence for each slow git command."""
    return fact(con, "slow") or []


def is_paused(con: sqlite3.Connection) -> bool:
    """Return whether the line is paused."""
    return bool(fact(con, "paused"))


def inbox(con: sqlite3.Connection) -> str:
    """Return the name of the folder for task files, as the daemon chose it at its start."""
    return str((fact(con, "names") or {}).get("inbox") or "inbox")


def names_why(con: sqlite3.Connection) -> str:
    """Return why the folders have their names; empty if the names are the usual ones."""
    return str((fact(con, "names") or {}).get("why") or "")


def settings(con: sqlite3.Connection) -> dict[str, found_rows.Setting] | None:
    """Return the settings that the daemon used last, by dotted name."""
    known = fact(con, "config")
    if known is None:
        return None
    return {key: found_rows.Setting(**setting) for key, setting in known.items()}


def inferred(con: sqlite3.Connection) -> found_rows.Inferred | None:
    """Return what the daemon inferred last."""
    found = fact(con, "inferred")
    if not found:
        return None
    for key in ("gates", "advisory"):
        if key in found:
            found[key] = [found_rows.FoundGate(**gate) for gate in found[key]]
    if "skipped" in found:
        found["skipped"] = [found_rows.FoundStep(**step) for step in found["skipped"]]
    if "setup" in found:
        found["setup"] = found_rows.FoundSetup(**found["setup"])
    return found_rows.Inferred(**found)


def identity(con: sqlite3.Connection) -> rows.Identity | None:
    """Return the store's identity; None for a store of an older release."""
    known = fact(con, "identity")
    return rows.Identity(**known) if known else None


def used_in(con: sqlite3.Connection) -> str:
    """Return the checkout where the store was last used; "" if it is the present checkout."""
    known = identity(con)
    here = os.path.realpath(dirname(home(con)))
    return known.root if known and known.root != here else ""


# ── cards ──


def cards(con: sqlite3.Connection, condition: str, *args: object) -> list[rows.Card]:
    """Return the cards that meet the condition, oldest first."""
    query = f'SELECT * FROM "card" WHERE {condition} ORDER BY "since", "id"'
    return [_card(row) for row in dicts(con, query, *args)]


def card(con: sqlite3.Connection, name: str) -> rows.Card | None:
    """Return one card by its id."""
    found = dicts(con, 'SELECT * FROM "card" WHERE "id" = ?', name)
    return _card(found[0]) if found else None


# ── rows ──


def dicts(con: sqlite3.Connection, query: str, *args: object) -> "list[Json]":
    """Run the query; return its rows with lists and booleans converted; raise StoreError."""
    return [decoded(dict(row)) for row in fetch(con, query, *args)]


def decoded(row: "Json") -> "Json":
    """Return the row with lists and booleans instead of the store's scalars."""
    for name in _HOLD_JSON:
        if name in row:
            row[name] = json.loads(row[name])
    for name in _HOLD_TRUTH:
        if name in row:
            row[name] = bool(row[name])
    return row


def _only(row: "Json", names: tuple[str, ...]) -> "Json":
    return {name: row.get(name) for name in names}


def fact(con: sqlite3.Connection, name: str) -> "Any":
    """Return the value of the fact with this name; None if the daemon never wrote it."""
    found = fetch(con, 'SELECT "value" FROM "fact" WHERE "name" = ?', name)
    return json.loads(found[0][0]) if found else None


def home(con: sqlite3.Connection) -> str:
    """Return factoryd's folder, which holds the store."""
    return dirname(str(fetch(con, "PRAGMA database_list")[0][2]))


def _sandbox(con: sqlite3.Connection) -> rows.Sandbox | None:
    known = fact(con, "sandbox")
    return rows.Sandbox(**known) if known else None


def _paused(con: sqlite3.Connection) -> rows.Paused | None:
    known = fact(con, "paused")
    return rows.Paused(**known) if known else None


def _of_room(con: sqlite3.Connection) -> list[str]:
    # Room is checked here too, because on a full disk the daemon cannot write its warning.
    full = complaint(home(con))
    return [full] if full else []


def _of_place(elsewhere: str) -> list[str]:
    if not elsewhere:
        return []
    return [
        f"This store was last used in {elsewhere}. "
        "It describes that place until you run: factoryd start"
    ]


def _workers(con: sqlite3.Connection, *, is_up: bool, is_here: bool) -> list[rows.Worker]:
    found = []
    for row in dicts(con, WORKERS):
        pid = row.pop("pid") or 0
        folder = f"{home(con)}/attempts/{row['unit']}/{row['attempt']}"
        # Without a daemon, an attempt may have ended without a record of its end.
        runs_on = is_here and answers(pid) and not has_ended(folder)
        alive = row["unit"] is not None and (is_up or runs_on)
        found.append(rows.Worker(**row, alive=alive))
    return found


def _counts(con: sqlite3.Connection) -> dict[UnitState, int]:
    counts = dict.fromkeys(UnitState, 0)
    for state, count in fetch(con, 'SELECT "state", count(*) FROM "unit" GROUP BY "state"'):
        counts[UnitState(state)] = count
    return counts


def units(con: sqlite3.Connection, condition: str, *args: object) -> "list[Json]":
    """Return the rows of the units that meet the condition."""
    found = dicts(con, f'SELECT * FROM "unit" WHERE {condition}', *args)
    for unit in found:
        unit["state"] = UnitState(unit["state"])
    return found


def open_units(con: sqlite3.Connection) -> "list[Json]":
    """Return the units that have not ended: first units that need you, then by priority and age."""

    def rank(unit: "Json") -> "tuple[Any, ...]":
        return NEEDS_YOU_FIRST.index(unit["state"]), unit["priority"], unit["accepted"]

    return sorted(units(con, OPEN["unit"]), key=rank)


def told(con: sqlite3.Connection, now: str) -> dict[str, str]:
    """Return what each ready and each queued unit waits for, by its id."""
    stopped = daemon(con).state == "stopped"
    still_open = open_units(con)
    queue = _queue(con, still_open, stopped=stopped)
    found = {row.unit: row.why for row in queue}
    found.update(_ready(con, still_open, now, stopped=stopped))
    return found


def needed(con: sqlite3.Connection, some: "list[Json]") -> dict[str, UnitState]:
    """Return the states of what these units need; if one is unknown, of all open units too."""
    names = set[str]()
    for unit in some:
        names.update(unit["needs"])
    every = 'SELECT "id", "state" FROM "unit" WHERE'
    among = f'{every} "id" IN (SELECT value FROM json_each(?))'
    found = fetch(con, among, json.dumps(sorted(names)))
    if len(found) < len(names):  # for `did you mean`
        found += fetch(con, f"{every} {OPEN['unit']}")
    return {name: UnitState(state) for name, state in found}


def _in_short(
    con: sqlite3.Connection, still_open: "list[Json]", told: dict[str, str], now: str
) -> list[rows.OpenUnit]:
    found = []
    known = needed(con, still_open)
    for unit in still_open:
        unit["why"] = whys.why(unit, known, told, now)
        found.append(rows.OpenUnit(**_only(unit, IN_SHORT)))
    return found


def _ready(
    con: sqlite3.Connection, still_open: "list[Json]", now: str, *, stopped: bool
) -> dict[str, str]:
    """Return what each ready unit waits for; `still_open`: all open units."""
    conditions = starts.Conditions(**(fact(con, starts.FACT) or {}))
    asked = {row["unit"]: row for row in fetch(con, DEMANDING)}
    known = starts.contenders(still_open, conditions, asked)
    is_free = stopped or bool(fetch(con, FREE))
    proofs = None if stopped else fact(con, starts.PROOFS) or {}
    later = starts.reasons(known, conditions, is_free=is_free, proofs=proofs, now=from_stamp(now))
    return whys.ready(still_open, later, paused=is_paused(con), stopped=stopped)


def _queue(
    con: sqlite3.Connection, still_open: "list[Json]", *, stopped: bool
) -> list[rows.Queued]:
    said = fact(con, "queue") or []
    return whys.queue(still_open, said, branch=trunk(con).branch or "", stopped=stopped)


def _card(row: "Json") -> rows.Card:
    row["options"] = [rows.Action(**option) for option in row["options"]]
    return rows.Card(**row)


def _escalations(con: sqlite3.Connection) -> list[rows.Escalation]:
    """Return the open cards, without the fields that only `show` prints."""
    found = []
    for card in cards(con, OPEN["card"]):
        choices = []
        for option in card.options:
            choices.append(rows.Choice(key=option.key, label=option.label, effect=option.effect))
        found.append(rows.Escalation(**_only(vars(card), ASKED), options=choices))
    return found


def _last_landed(con: sqlite3.Connection) -> list[rows.Landed]:
    missing = trunk(con).missing
    landed = dicts(con, LANDED)
    return [rows.Landed(**row, on_trunk=row["unit"] not in missing) for row in landed]


def _rejected(con: sqlite3.Connection) -> "Json":
    known = fact(con, "rejected") or {"files": [], "count": 0}
    files = [rows.Rejected(**file) for file in known["files"]]
    return {"rejected": files, "rejected_count": known["count"]}


def _budget(con: sqlite3.Connection, day: str) -> rows.Budget | None:
    """Return the day's spending, the amounts held back and the limits; None if no limit is set."""
    caps = {}
    for key, setting in (settings(con) or {}).items():
        table, _, name = key.partition(".")
        if table == "budget":
            caps[name] = setting.value
    if not any(caps.values()):
        return None
    spent = {"usd": 0.0, "tokens": 0.0, "minutes": 0.0}
    reserved = dict(spent)
    estimated = False
    for row in fetch(con, ACCOUNTS, day):
        ended = row["day"] != ""
        used = {
            "usd": row["cost_usd"],
            "tokens": row["tokens_input"] + row["tokens_output"],
            "minutes": minutes_used(row["reserved_minutes"], ended=ended),
        }
        for kind, so_far in used.items():
            charged = charge(so_far, row[f"reserved_{kind}"])
            spent[kind] += charged if ended else so_far
            reserved[kind] += 0 if ended else charged - so_far
        if row["estimated"] or (ended and row["reserved_usd"] > row["cost_usd"]):
            estimated = True
    return rows.Budget(
        day=day,
        spent_usd=round(spent["usd"], 6),
        reserved_usd=round(reserved["usd"], 6),
        estimated=estimated,
        spent_tokens=int(spent["tokens"]),
        reserved_tokens=int(reserved["tokens"]),
        spent_minutes=round(spent["minutes"], 3),
        reserved_minutes=round(reserved["minutes"], 3),
        **caps,
        regardless=fact(con, "regardless") == day,
    )
