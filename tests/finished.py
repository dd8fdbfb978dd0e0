"""Fills a store with finished units, each as the line leaves it: every record and every event of a unit that landed.

Of twenty units, two needed a second attempt and one was cancelled after its card was answered. Names, trees and commits
are as scattered as real ones, because they decide which pages of the store a write touches. A test compares the events
with those of a real daemon.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import (
    HINTS,
    KINDS,
    Attempt,
    Card,
    CardKind,
    Fact,
    Hook,
    Option,
    Record,
    Step,
    Verdict,
)
from factory.store.sqlite import SqliteStore
from factory.store.unit import NO_PROOF, EndReason, Unit, UnitState, advance, as_landed
from tests.accepted import accepted

GATES = ("10-lint", "20-test")
SPACING = timedelta(minutes=10)
AT_ONCE = 100  # units in one transaction
TEXT = "Change what the page says, and keep the tests green. {name} has its own reason for it.\n"
FAILED = "FAILED tests/test_page.py::test_{name} - AssertionError: assert 'a' == 'b'\n"
TRUNK = {"branch": "main", "commit": "0" * 40, "state": "green", "gates_red": []}
OPTIONS = (
    Option(key="1", label="Another attempt", effect="tries once more", action="retry"),
    Option(key="2", label="Cancel it", effect="gives the unit up", action="cancel"),
)


def fill(
    store: Store,
    count: int,
    *,
    first: int = 0,
    until: datetime | None = None,
    spacing: timedelta = SPACING,
) -> list[str]:
    """Write so many finished units, the last one finished before `until`; return their ids."""
    until = until or datetime.now(UTC)
    names = []
    # A daemon would take another commit for a rewritten trunk.
    trunk = store.get(Fact, "trunk") or Fact(name="trunk", value=json.dumps(TRUNK))
    for begin in range(0, count, AT_ONCE):
        with store.transaction():
            for number in range(begin, min(count, begin + AT_ONCE)):
                at = until - (count - number) * spacing
                finished = _Finished(store, first + number, at, trunk)
                finished.write()
                names.append(finished.unit.id)
    return names


def multiply(store: SqliteStore, times: int) -> None:
    """Copy all units so many times by SQL, because `fill` takes minutes for a hundred thousand.

    A copy is as large as its original, and has its own ids in every table. Its journal entries do not give the tables,
    so this serves only measurements.
    """
    con = store._con
    last = {}
    for table in (*_OWN, "journal"):
        ((last[table],),) = con.execute(f'SELECT max(rowid) FROM "{table}"')
    for number in range(times):
        with store.transaction():
            for table, own in _OWN.items():
                columns = [f'"{name}"' for name in HINTS[KINDS[table]]]
                copied = [f"{name} || :suffix" if name in own else name for name in columns]
                con.execute(
                    f'INSERT INTO "{table}" ({", ".join(columns)}) '
                    f'SELECT {", ".join(copied)} FROM "{table}" WHERE rowid <= :last',
                    {"suffix": f"-{number}", "last": last[table]},
                )
            con.execute(_COPY, {"suffix": f"-{number}", "last": last["journal"]})


# The columns of each table that get the ids of a copy.
_OWN = {
    "unit": ('"id"',),
    "spec": ('"unit"', '"source"'),
    "task": ('"unit"',),
    "attempt": ('"unit"', '"nonce"'),
    "verdict": ('"key"', '"tree"'),
    "card": ('"id"', '"unit"', '"fingerprint"'),
    "step": ('"id"',),
}
_COPY = """
    INSERT INTO "journal" ("at", "event", "unit", "attempt", "worker", "detail", "changes")
    SELECT "at", "event", iif("unit" = '', '', "unit" || :suffix), "attempt", "worker", "detail",
        replace("changes", "unit", "unit" || :suffix)
    FROM "journal" WHERE "seq" <= :last
"""


def name_of(number: int) -> str:
    """The id of the unit with this number."""
    return f"{_hex('name', number)[:8]}-done-{number}"


@dataclass
class _Finished:
    """One unit, and the time that passes while its story is written."""

    store: Store
    number: int
    at: datetime
    trunk: Fact

    def __post_init__(self) -> None:
        name = name_of(self.number)
        self.unit = Unit(
            id=name,
            title=f"Change page {self.number}",
            state=UnitState.READY,
            since=self.at,
            accepted=self.at,
            proven=NO_PROOF,
        )
        self.base = _hex("trunk", self.number - 1)

    def write(self) -> None:
        self._accept()
        kind = self.number % 20
        if kind in (3, 13):
            self._attempt(ok=False)
        if kind == 7:
            self._attempt(ok=False)
            self._ask_and_cancel()
        else:
            self._attempt(ok=True)
            self._land()

    def _accept(self) -> None:
        name = self.unit.id
        source = f"{_hex('source', self.number)[:16]}-{name}.md"
        text = f"---\ntitle: {self.unit.title}\n---\n" + 8 * TEXT.format(name=name)
        told = accepted(name, text, source=source)
        self._tell(Event.TASK_ACCEPTED, self.unit, *told, name=f"{name}.md", why="")

    def _attempt(self, *, ok: bool) -> None:
        """One attempt, from the hook to its verdicts."""
        number = self.unit.attempt + 1
        why = f"attempt {number} on w1"
        running = advance(self.unit, UnitState.RUNNING, now=self.at, why=why)
        self.unit = replace(running, attempt=number)
        attempt = Attempt(
            unit=self.unit.id,
            number=number,
            worker="w1",
            agent="claude",
            start=self.at,
            nonce=f"f7a49080-{_hex('nonce', self.number, number)[:8]}",
        )
        hook = Hook(
            worker="w1",
            index=1,
            unit=self.unit.id,
            attempt=number,
            state="running",
            phase="preparing",
            since=self.at,
            workspace="w1",
        )
        self._tell(Event.HOOK_FILLED, self.unit, attempt, hook)
        attempt = replace(attempt, workspace="workspaces/w1/tree", base=self.base, reserved_usd=0.5)
        self._tell(Event.ATTEMPT_NOTED, attempt)
        attempt = replace(attempt, pid=4000 + self.number % 9000)
        self._tell(Event.ATTEMPT_STARTED, attempt, replace(hook, phase="working"))
        self._end(attempt, replace(hook, unit="", attempt=0, state="idle", phase=""))
        self._judge(attempt.number, ok=ok)

    def _end(self, attempt: Attempt, hook: Hook) -> None:
        commit = _hex("commit", self.number, attempt.number)
        ended = replace(
            attempt,
            end=self.at,
            reason=EndReason.SUBMITTED,
            ref=f"refs/factory/attempts/{self.unit.id}/{attempt.number}",
            commit=commit,
            tree=_hex("tree", self.number, attempt.number),
            summary="Changed the page.\n",
            said="The page says it now, and the tests are green.",
            tokens_input=48_000,
            tokens_output=3_000,
            cost_usd=0.25,
            day=f"{self.at:%Y-%m-%d}",
        )
        queued = advance(self.unit, UnitState.QUEUED, now=self.at, why="waits to be judged")
        self.unit = replace(queued, submission=commit, base=self.base)
        self._tell(Event.ATTEMPT_ENDED, ended, self.unit, hook, reason="submitted", why="")
        self._note("queue", [{"unit": self.unit.id, "position": 1, "state": "judging"}])

    def _judge(self, number: int, *, ok: bool) -> None:
        for gate in GATES:
            is_green = ok or gate != GATES[-1]
            verdict = Verdict(
                key=_hex("verdict", self.number, number, gate, size=64),
                gate=gate,
                tree=_hex("tree", self.number, number),
                ok=is_green,
                settled=True,
                at=self.at,
                seconds=3.25,
                command=f"sh conventions/gates/{gate}.sh",
                tail="" if is_green else 40 * FAILED.format(name=self.number),
                log=f".factory/judged/b1-{_hex('log', self.number, gate)[:8]}/output.log",
            )
            self._tell(Event.VERDICT_GIVEN, verdict, gate=gate, ok=is_green, cached=False)
        if not ok:
            self._send_back(number)

    def _send_back(self, number: int) -> None:
        attempt = self.store.get(Attempt, self.unit.id, number)
        assert attempt is not None
        red = replace(
            attempt,
            reason=EndReason.GATE_RED,
            detail=f"{GATES[-1]} is red",
            digest=40 * FAILED.format(name=self.number),
        )
        ready = advance(self.unit, UnitState.READY, now=self.at, why=f"{GATES[-1]} is red")
        self.unit = replace(ready, spent=number, submission="", base="")
        self._tell(Event.ATTEMPT_ENDED, red, self.unit, reason="gate_red", why=red.detail)
        self._note("queue", [])

    def _ask_and_cancel(self) -> None:
        """A card asks, and the answer gives the unit up."""
        card = Card(
            id=f"E{self.number}",
            kind=CardKind.ATTEMPTS_EXHAUSTED,
            fingerprint=f"attempts_exhausted:{self.unit.id}",
            since=self.at,
            question=f"{self.unit.id} has used up its attempts. What now?",
            unit=self.unit.id,
            units=(self.unit.id,),
            evidence=40 * FAILED.format(name=self.number),
            where=f"attempts/{self.unit.id}/1",
            options=OPTIONS,
            recommended="1",
        )
        self._tell(Event.CARD_RAISED, card, card=card.id, kind=str(card.kind))
        self.unit = advance(self.unit, UnitState.HELD, now=self.at, why=f"waits for {card.id}")
        self._tell(Event.UNIT_HELD, self.unit)
        closed = replace(
            card, state="closed", answer="Cancel it", closed=self.at, closed_why="answered"
        )
        self._tell(Event.CARD_ANSWERED, closed, card=card.id, answer="Cancel it")
        self.unit = advance(self.unit, UnitState.CANCELLED, now=self.at, why="cancelled by a card")
        self._tell(Event.UNIT_CANCELLED, self.unit)

    def _land(self) -> None:
        commit = _hex("trunk", self.number)
        self._note("queue", [{"unit": self.unit.id, "position": 1, "state": "landing"}])
        plan = {"base": self.base, "to": commit, "paths": ["page.txt"], "checkout": "/home/me/repo"}
        step = Step(
            id=f"landing:{commit}",
            kind="landing",
            data=json.dumps({"plan": json.dumps(plan), "units": [[self.unit.id, commit]]}),
            at=self.at,
        )
        self._write(Event.LANDING_OPENED, step, to=commit, units=[self.unit.id])
        self._write(Event.LANDING_OPENED, step, to=commit, pid=4000)
        self._note("queue", [{"unit": self.unit.id, "position": 1, "state": "landing"}])
        self.unit = as_landed(self.unit, commit, now=self.at, landed=self.at)
        self._tell(Event.UNIT_LANDED, self.unit, commit=commit)
        self._write(Event.LANDING_CLOSED, replace(step, done=True), outcome="Landed")
        self._write(Event.TRUNK_JUDGED, self.trunk, state="green", commit=commit)
        self._note("queue", [])

    def _note(self, name: str, value: object) -> None:
        self._write(Event.FACT_CHANGED, Fact(name=name, value=json.dumps(value)))

    def _tell(self, event: Event, *records: Record, **detail: Any) -> None:
        """An event of the unit."""
        self._write(event, *records, unit=self.unit.id, attempt=self.unit.attempt, **detail)

    def _write(self, event: Event, *records: Record, **detail: Any) -> None:
        self.at += timedelta(seconds=2)
        self.store.write(event, *records, now=self.at, **detail)


def _hex(*parts: object, size: int = 40) -> str:
    """A hash of these, of the length of a commit's."""
    return hashlib.sha256(":".join(map(str, parts)).encode()).hexdigest()[:size]
