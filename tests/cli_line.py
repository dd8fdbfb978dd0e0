"""A repository whose factory has a store, written by hand: what the commands are tried on."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from factory.store import views
from factory.store.journal import Event
from factory.store.records import Attempt, Card, CardKind, Fact, Hook, Option, Request
from factory.store.sqlite import SqliteStore
from factory.store.unit import Unit, UnitState
from tests.accepted import accepted

NOW = datetime.now(UTC)
OPEN: list[SqliteStore] = []  # stores of lines, closed after each test (conftest.py)


class Line:
    """One factory at `root`; each call writes what a daemon would have written."""

    def __init__(self, root: Path) -> None:
        (root / ".git").mkdir(parents=True, exist_ok=True)
        (root / ".factory").mkdir()
        self.root = root
        self.store = SqliteStore(root / ".factory" / "store.sqlite")
        OPEN.append(self.store)

    def fact(self, name: str, value: Any) -> None:
        self.store.write(
            Event.FACT_CHANGED, Fact(name=name, value=json.dumps(value)), now=NOW, fact=name
        )

    def unit(
        self,
        name: str,
        state: UnitState,
        *,
        minutes: int = 5,
        title: str = "",
        text: str = "do it",
        **fields: Any,
    ) -> Unit:
        since = datetime.now(UTC) - timedelta(
            minutes=minutes
        )  # a slow run lies between NOW and this
        unit = Unit(
            id=name,
            title=title or f"Title of {name}",
            state=state,
            since=since,
            accepted=since,
            **fields,
        )
        spec, task = accepted(name, text)
        self.store.write(
            Event.TASK_ACCEPTED, unit, spec, task, now=since, unit=name, name=spec.name
        )
        return unit

    def attempt(self, unit: str, number: int, **fields: Any) -> Attempt:
        attempt = Attempt(
            unit=unit, number=number, worker="w1", agent="claude", start=NOW, **fields
        )
        event = Event.ATTEMPT_ENDED if attempt.end else Event.ATTEMPT_STARTED
        self.store.write(
            event, attempt, now=NOW, unit=unit, attempt=number, worker="w1", why=attempt.detail
        )
        return attempt

    def hook(self, worker: str, unit: str = "", attempt: int = 0) -> None:
        hook = Hook(worker=worker, index=int(worker[1:]), unit=unit, attempt=attempt)
        since = datetime.now(UTC) - timedelta(minutes=4)
        hook = replace(hook, state="running", phase="working", since=since) if unit else hook
        self.store.write(
            Event.HOOK_FILLED, hook, now=NOW, unit=unit, attempt=attempt, worker=worker
        )

    def card(self, name: str, unit: str = "", **fields: Any) -> Card:
        options = (
            Option(key="1", label="Redis", effect="the next attempt is told", action="answer"),
            Option(key="2", label="In-process", effect="the next attempt is told", action="answer"),
        )
        since = datetime.now(UTC) - timedelta(minutes=12)
        plain = Card(
            id=name, kind=CardKind.QUESTION, fingerprint=name, since=since, question="Which store?"
        )
        units = (unit,) if unit else ()
        card = replace(plain, unit=unit, units=units, options=options, recommended="1", **fields)
        self.store.write(
            Event.CARD_RAISED, card, now=since, unit=unit, card=name, kind=str(card.kind)
        )
        return card

    def requests(self) -> list[tuple[str, Any]]:
        return [(request.kind, json.loads(request.args)) for request in self.store.select(Request)]

    @contextmanager
    def daemon(self) -> Iterator[None]:
        """As if a daemon ran: this process, holding the lock."""
        lock = self.root / ".git" / "factoryd-lock"
        said = {
            "state": "running",
            "pid": os.getpid(),
            "since": views.now_text(),
            "version": "0",
            "lock": ".git/factoryd-lock",
        }
        self.fact("daemon", said)
        with lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield

    def settle(self, state: str, outcome: str) -> None:
        """Do the first request that is made, as a daemon with its own connection would."""
        store = SqliteStore(self.root / ".factory" / "store.sqlite")
        while not (pending := store.open(Request)):
            pass
        done = replace(pending[0], state=state, outcome=outcome)
        store.write(Event.REQUEST_DONE, done, now=NOW)
        store.close()
