"""Queries of commands about the newest judging of trunk.

Invariant: as in views.py.
"""

import json
import sqlite3
from datetime import datetime

from factory.store import rows, views

_EVENTS = """
    SELECT "seq", "at", json_extract("detail", '$.state') FROM "journal"
    WHERE "event" = 'trunk.judged' ORDER BY "seq" DESC LIMIT 2
"""
_GIVEN = """
    SELECT "at", "detail" FROM "journal"
    WHERE "seq" BETWEEN ? AND ? AND "event" = 'verdict.given' AND "unit" = '' ORDER BY "seq"
"""
_VERDICT = 'SELECT "ok", "seconds", "log" FROM "verdict" WHERE "gate" = ? AND "at" = ?'


class Given(rows.Row):
    """A verdict about trunk."""

    gate: str
    ok: bool
    seconds: float
    log: str  # the file with its output
    is_advisory: bool


class Judged(rows.Row):
    """The newest judging of trunk: its verdicts, and the seconds that it took."""

    verdicts: list[Given]
    seconds: float
    setup_s: float  # the part of it before the first gate


def judged(con: sqlite3.Connection) -> Judged | None:
    """Return the newest judging of trunk; None if it ran no gate, or has not ended."""
    with views.one_state(con):
        events = views.fetch(con, _EVENTS)
        if len(events) < 2 or events[1][2] != "judging" or events[0][2] == "judging":
            return None
        (last, ended, _), (first, began, _) = events
        advisory = set((views.fact(con, "checks") or {}).get("advisory", {}).values())
        given = []
        starts = []
        for at, detail in views.fetch(con, _GIVEN, first, last):
            gate = json.loads(detail)["gate"]
            for ok, seconds, log in views.fetch(con, _VERDICT, gate, at):
                is_advisory = not ok and gate in advisory
                given.append(
                    Given(gate=gate, ok=bool(ok), seconds=seconds, log=log, is_advisory=is_advisory)
                )
                starts.append(_seconds(began, at) - seconds)
    if not given:
        return None
    return Judged(verdicts=given, seconds=_seconds(began, ended), setup_s=max(0.0, min(starts)))


def _seconds(begin: str, end: str) -> float:
    passed = datetime.fromisoformat(end) - datetime.fromisoformat(begin)
    return passed.total_seconds()
