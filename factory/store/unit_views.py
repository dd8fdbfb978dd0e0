"""Queries of commands about one unit and the journal; views.py has the other queries.

Invariant: no function here changes a record, and each one reads a single, consistent state of the
store.
"""

import json
import sqlite3
from collections.abc import Iterator

from factory.store import list_rows, rows, story, unit_rows, views, whys
from factory.store.opening import PAGE
from factory.store.states import UnitState
from factory.store.views import Json

TASK = (
    'SELECT s."name", coalesce(t."text", \'\') AS "text" '
    'FROM "spec" AS s LEFT JOIN "task" AS t ON t."unit" = s."unit" WHERE s."unit" = ?'
)

GREEN = """
    SELECT "seconds" FROM "verdict" WHERE "gate" = ? AND "ok" = 1 ORDER BY "rowid" DESC LIMIT 200
"""

LISTED = (*views.IN_SHORT, "accepted", "landed", "commit", "on_trunk")


def show(con: sqlite3.Connection, name: str) -> unit_rows.Unit | None:
    """Return the whole record of a unit."""
    with views.one_state(con):
        found = views.units(con, '"id" = ?', name)
        if not found:
            return None
        (unit,) = found
        now = views.now_text()
        is_told = unit["state"] in (UnitState.READY, UnitState.QUEUED)
        told = views.told(con, now) if is_told else {}
        unit["why"] = whys.why(unit, views.needed(con, [unit]), told, now)
        has_landed = unit["state"] == UnitState.LANDED
        return unit_rows.Unit(
            schema=rows.VERSION,
            **unit,
            on_trunk=has_landed and name not in views.trunk(con).missing,
            task=_task(con, name),
            attempts=_attempts(con, name),
            verdicts=_verdicts(con, name),
            escalations=_cards(con, name),
            remarks=_remarks(con, name),
        )


def listing(con: sqlite3.Connection, now: str, *, state: str = "", most: int) -> list_rows.Listing:
    """Return the newest units, at most `most`. With `state`, only the units in that state."""
    condition = '"state" = ?' if state else "1"
    of = (state,) if state else ()
    newest = f'{condition} ORDER BY "accepted" DESC, "id" DESC LIMIT ?'
    with views.one_state(con):
        ((count,),) = views.fetch(con, f'SELECT count(*) FROM "unit" WHERE {condition}', *of)
        some = views.units(con, newest, *of, most)
        known, told, missing = views.needed(con, some), views.told(con, now), _missing(con)
    found = []
    for unit in some:
        unit["why"] = whys.why(unit, known, told, now)
        unit["on_trunk"] = unit["state"] == UnitState.LANDED and unit["id"] not in missing
        found.append(list_rows.ListedUnit(**{name: unit[name] for name in LISTED}))
    return list_rows.Listing(schema=rows.VERSION, at=now, units=found, more=count - len(found))


def _missing(con: sqlite3.Connection) -> frozenset[str]:
    return frozenset(views.trunk(con).missing)


def accept_commands(con: sqlite3.Connection, name: str) -> dict[str, list[float]]:
    """Return the accept commands of a unit, each with the seconds of its newest green runs."""
    found = {}
    for row in views.fetch(con, 'SELECT "accept" FROM "spec" WHERE "unit" = ?', name):
        for command in json.loads(row[0]):
            runs = views.fetch(con, GREEN, f"accept: {command}")
            found[command] = [seconds for (seconds,) in runs]
    return found


def progress(con: sqlite3.Connection, name: str) -> tuple[UnitState, int]:
    """Return the state of a unit and the number of its newest attempt, 0 if it has none."""
    newest = '(SELECT coalesce(max("number"), 0) FROM "attempt" WHERE "unit" = "id")'
    ((state, number),) = views.fetch(
        con, f'SELECT "state", {newest} FROM "unit" WHERE "id" = ?', name
    )
    return UnitState(state), int(number)


def has_unit(con: sqlite3.Connection, name: str) -> bool:
    """Return whether a unit with this id is on record."""
    return bool(views.fetch(con, 'SELECT 1 FROM "unit" WHERE "id" = ?', name))


def known_units(con: sqlite3.Connection) -> list[str]:
    """Return the ids of open and recently landed units, as suggestions for a wrong name."""
    with views.one_state(con):
        open_units = [unit["id"] for unit in views.open_units(con)]
        return open_units + [row["unit"] for row in views.dicts(con, views.LANDED)]


def log(con: sqlite3.Connection, *, after: int = 0, unit: str = "") -> Iterator[unit_rows.Entry]:
    """Yield the journal entries with seq > after, oldest first. With `unit`, only its entries."""
    condition = ' AND "unit" = ?' if unit else ""
    of = (unit,) if unit else ()
    query = f'SELECT * FROM "journal" WHERE "seq" > ?{condition} ORDER BY "seq" LIMIT {PAGE}'
    while page := views.fetch(con, query, after, *of):
        for row in page:
            yield _entry(row)
        after = page[-1]["seq"]


def newest_first(con: sqlite3.Connection, *, unit: str = "") -> Iterator[unit_rows.Entry]:
    """Yield the journal entries, newest first. With `unit`, only its entries."""
    condition = ' AND "unit" = ?' if unit else ""
    of = (unit,) if unit else ()
    query = f'SELECT * FROM "journal" WHERE "seq" < ?{condition} ORDER BY "seq" DESC LIMIT {PAGE}'
    before = last_seq(con) + 1
    while page := views.fetch(con, query, before, *of):
        for row in page:
            yield _entry(row)
        before = page[-1]["seq"]


def seq_before(con: sqlite3.Connection, moment: str) -> int:
    """Return the seq of the newest entry that is older than this time; 0 if there is none."""
    query = 'SELECT "seq" FROM "journal" WHERE "at" < ? ORDER BY "seq" DESC LIMIT 1'
    found = views.fetch(con, query, moment)
    return int(found[0][0]) if found else 0


def last_seq(con: sqlite3.Connection) -> int:
    """Return the seq of the newest journal entry; 0 if the journal is empty."""
    return int(views.fetch(con, 'SELECT coalesce(max("seq"), 0) FROM "journal"')[0][0])


def _of_unit(con: sqlite3.Connection, table: str, order: str, unit: str) -> "list[Json]":
    return views.dicts(con, f'SELECT * FROM "{table}" WHERE "unit" = ? ORDER BY "{order}"', unit)


def _task(con: sqlite3.Connection, unit: str) -> unit_rows.Task | None:
    found = views.dicts(con, TASK, unit)
    return unit_rows.Task(**found[0]) if found else None


def _attempts(con: sqlite3.Connection, unit: str) -> list[unit_rows.Attempt]:
    """Return the attempts. The store has relative folders; the result has absolute ones."""
    known = views.identity(con)
    work = known.work if known else ""
    home = views.home(con)
    found = []
    for row in _of_unit(con, "attempt", "number", unit):
        tokens = unit_rows.Tokens(input=row.pop("tokens_input"), output=row.pop("tokens_output"))
        if row["workspace"]:
            row["workspace"] = f"{work}/{row['workspace']}"
        run_dir = f"{home}/attempts/{unit}/{row['number']}"
        clashes = [unit_rows.Clash(**clash) for clash in row.pop("clashes")]
        found.append(unit_rows.Attempt(**row, clashes=clashes, run_dir=run_dir, tokens=tokens))
    return found


def _cards(con: sqlite3.Connection, unit: str) -> list[rows.Card]:
    """Return the cards that concern the unit, oldest first."""
    found = []
    for card in views.cards(con, '"unit" = ? OR instr("units", ?)', unit, f'"{unit}"'):
        if unit == card.unit or unit in card.units:
            found.append(card)
    return found


def _remarks(con: sqlite3.Connection, unit: str) -> list[unit_rows.Remark]:
    return [unit_rows.Remark(**row) for row in _of_unit(con, "remark", "seq", unit)]


def _verdicts(con: sqlite3.Connection, unit: str) -> list[unit_rows.Verdict]:
    """Return the verdicts on the unit, oldest first."""
    found = []
    for entry in _of_unit(con, "journal", "seq", unit):
        if entry["event"] != "verdict.given":
            continue
        cached = bool(json.loads(entry["detail"]).get("cached"))
        for table, row in json.loads(entry["changes"]):
            if table == "verdict":
                found.append(unit_rows.Verdict(**views.decoded(row), cached=cached))
    return found


def _entry(row: "Json") -> unit_rows.Entry:
    """Return one flat journal entry: facts from the changed records, then its own details."""
    found = {"schema": rows.VERSION, **_said(row), **json.loads(row["detail"])}
    for name in ("seq", "at", "event", "unit", "attempt", "worker"):
        found[name] = row[name]
    if "args" in found:
        found["args"] = unit_rows.RequestArgs(**found["args"])
    return unit_rows.Entry(**found)


def _said(row: "Json") -> "Json":
    """Return facts from the changed records: why a unit moved, a card's question, an agent."""
    said = {}
    for table, changed in json.loads(row["changes"]):
        for column in story.shown(row["event"], table):
            said[column] = changed[column]
    return {name: value for name, value in said.items() if value}
