import fcntl
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from factory.ground.errors import StoreError
from factory.ground.times import from_stamp, stamp
from factory.store import asking, unit_views, views
from factory.store.journal import Event
from factory.store.opening import OPEN
from factory.store.records import Attempt, Card, Fact, Hook, Option, Remark, Request, Verdict
from factory.store.sqlite import SqliteStore
from factory.store.unit import FINAL, EndReason, Unit, UnitState
from tests.accepted import accepted
from tests.journal import entries_of, fold
from tests.store_contract import ATTEMPT, CARD, NOW, READY, Undone, tables

ROOT = Path(__file__).parents[2]
AT = stamp(NOW)
NO_PID = 2**22 + 1  # above the kernel's highest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(path)) as store:
        yield store


@pytest.fixture
def con(store: SqliteStore, path: Path) -> Iterator[sqlite3.Connection]:
    with closing(views.open_store(str(path))) as con:
        yield con


@pytest.fixture
def writer(store: SqliteStore, path: Path) -> Iterator[sqlite3.Connection]:
    with closing(views.open_store(str(path), write=True)) as con:
        yield con


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[Path]:
    """A lock file that somebody holds."""
    path = tmp_path / "factoryd.lock"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield path


def plain(value: object) -> Any:
    """The rows as a program gets them."""
    return json.loads(json.dumps(value, default=vars))


def put(store: SqliteStore, **facts: Any) -> None:
    store.write(
        Event.FACT_CHANGED,
        *(Fact(name=name, value=json.dumps(facts[name])) for name in facts),
        now=NOW,
    )


def unit(name: str, state: UnitState, **more: Any) -> Unit:
    return replace(READY, id=name, title=name.title(), state=state, **more)


def test_the_status_of_an_empty_store_is_complete(con: sqlite3.Connection) -> None:
    assert plain(views.status(con, AT)) == {
        "schema": 1,
        "at": AT,
        "daemon": {"state": "stopped", "pid": None, "since": None, "version": None},
        "trunk": {"branch": None, "commit": None, "state": "unknown", "gates_red": []},
        "workers": [],
        "units": dict.fromkeys((str(state) for state in UnitState), 0),
        "units_open": [],
        "queue": [],
        "escalations": [],
        "budget": None,
        "sandbox": None,
        "paused": None,
        "warnings": [],
        "last_landed": [],
        "rejected": [],
        "rejected_count": 0,
        "running": [],
        "inbox": "inbox",
    }


def test_the_status_of_a_busy_line_is_that_of_the_contract(
    store: SqliteStore, con: sqlite3.Connection, lock: Path
) -> None:
    trunk = {"branch": "main", "commit": "c0", "state": "green", "gates_red": []}
    option = Option(key="1", label="left", effect="goes left", action="answer")
    put(
        store,
        daemon={
            "state": "running",
            "pid": os.getpid(),
            "since": AT,
            "version": "0.1.0",
            "lock": str(lock),
        },
        trunk=trunk,
        warnings=["gates run unsandboxed"],
        paused={"by": "you", "since": AT},
    )
    store.write(
        Event.HOOK_FILLED,
        unit("moving", UnitState.RUNNING, attempt=2),
        unit("asks", UnitState.HELD, why="asks E1", attempt=1),
        unit("done", UnitState.LANDED, commit="c0", landed=NOW),
        replace(ATTEMPT, unit="moving", number=2),
        Hook(
            worker="w1",
            index=0,
            unit="moving",
            attempt=2,
            state="running",
            phase="working",
            since=NOW,
        ),
        Hook(worker="w2", index=1),
        replace(
            CARD, unit="asks", units=("asks",), options=(option,), recommended="1", deadline=NOW
        ),
        replace(CARD, id="E2", state="closed"),
        now=NOW,
    )

    assert plain(views.status(con, AT)) == {
        "schema": 1,
        "at": AT,
        "daemon": {"state": "running", "pid": os.getpid(), "since": AT, "version": "0.1.0"},
        "trunk": trunk,
        "workers": [
            {
                "name": "w1",
                "state": "running",
                "unit": "moving",
                "attempt": 2,
                "phase": "working",
                "since": AT,
                "agent": "claude",
                "alive": True,
            },
            {
                "name": "w2",
                "state": "idle",
                "unit": None,
                "attempt": None,
                "phase": None,
                "since": None,
                "agent": None,
                "alive": False,
            },
        ],
        "units": {**dict.fromkeys(map(str, UnitState), 0), "running": 1, "held": 1, "landed": 1},
        "units_open": [
            {
                "id": "asks",
                "title": "Asks",
                "state": "held",
                "attempt": 1,
                "why": "asks E1",
                "since": AT,
                "priority": 2,
            },
            {
                "id": "moving",
                "title": "Moving",
                "state": "running",
                "attempt": 2,
                "why": "",
                "since": AT,
                "priority": 2,
            },
        ],
        "queue": [],
        "escalations": [
            {
                "id": "E1",
                "kind": "question",
                "unit": "asks",
                "units": ["asks"],
                "question": "Which one?",
                "options": [{"key": "1", "label": "left", "effect": "goes left"}],
                "recommended": "1",
                "default": "",
                "deadline": AT,
                "count": 1,
                "since": AT,
                "answer": "",
            }
        ],
        "budget": None,
        "sandbox": None,
        "paused": {"by": "you", "since": AT},
        "warnings": ["gates run unsandboxed"],
        "last_landed": [{"unit": "done", "commit": "c0", "at": AT, "on_trunk": True}],
        "rejected": [],
        "rejected_count": 0,
        "running": [],
        "inbox": "inbox",
    }


def test_open_units_stand_with_what_needs_you_first_then_by_priority_and_age(
    store: SqliteStore, con: sqlite3.Connection
) -> None:
    older = NOW - timedelta(hours=1)
    store.write(
        Event.TASK_ACCEPTED,
        unit("young", UnitState.READY),
        unit("old", UnitState.READY, accepted=older),
        unit("urgent", UnitState.READY, priority=0),
        unit("waits", UnitState.WAITING),
        unit("moves", UnitState.RUNNING),
        unit("stuck", UnitState.HELD, priority=4),
        now=NOW,
    )

    assert [row["id"] for row in plain(views.status(con, AT))["units_open"]] == [
        "stuck",
        "moves",
        "urgent",
        "old",
        "young",
        "waits",
    ]


def test_why_a_unit_waits_for_others_is_what_they_are_now_and_not_what_was_said(
    store: SqliteStore, con: sqlite3.Connection
) -> None:
    said = {"why": "needs first, which is running"}
    store.write(
        Event.TASK_ACCEPTED,
        unit("first", UnitState.HELD),
        unit("second", UnitState.WAITING, needs=("first", "frist"), **said),
        unit("asks", UnitState.WAITING, needs=("first",), cause="setup", why="waits for E1"),
        unit("over", UnitState.WAITING, needs=("asks",), not_before=NOW + timedelta(days=1)),
        now=NOW,
    )

    whys = {row["id"]: row["why"] for row in plain(views.status(con, AT))["units_open"]}

    assert whys == {
        "first": "",
        "second": "needs first, which is held; "
        "needs frist, which does not exist yet: did you mean first?",
        "asks": "waits for E1",
        "over": "needs asks, which is waiting; waits until 2026-03-05 05:06:07 UTC",
    }
    assert plain(unit_views.show(con, "second"))["why"] == whys["second"]
    assert [entry.event for entry in entries_of(store)] == [Event.TASK_ACCEPTED]


def put_queue(store: SqliteStore, **facts: Any) -> None:
    put(
        store,
        trunk={"branch": "main", "commit": "c", "state": "green", "gates_red": []},
        queue=[
            {"unit": "gone", "position": 1, "state": "landing", "place": "landing"},
            {"unit": "b", "position": 2, "state": "judging", "place": "gates"},
            {"unit": "d", "position": 3, "state": "green", "place": "lands"},
            {"unit": "e", "position": 4, "state": "waiting", "place": ""},
        ],
        **facts,
    )
    store.write(
        Event.UNIT_QUEUED,
        unit("c", UnitState.QUEUED, since=NOW + timedelta(seconds=1), why="waits to be judged"),
        unit("a", UnitState.QUEUED, since=NOW),
        unit("b", UnitState.QUEUED, since=NOW + timedelta(seconds=2), why="waits to be judged"),
        unit("d", UnitState.QUEUED, since=NOW, why="waits to be judged"),
        unit("e", UnitState.QUEUED, since=NOW, why="landing is blocked"),
        unit("gone", UnitState.LANDED),
        now=NOW,
    )


def test_why_a_ready_unit_does_not_start_is_derived_and_no_unit_is_rewritten(
    store: SqliteStore, con: sqlite3.Connection
) -> None:
    ready = UnitState.READY
    store.write(
        Event.TASK_ACCEPTED,
        *accepted("model", "---\nmodel: opus\n---\nDo it.\n"),
        *accepted("proof", "---\naccept: make\n---\nDo it.\n"),
        *accepted("turn", "---\naccept: make\n---\nDo it.\n"),
        unit("moves", UnitState.RUNNING, scope=("src/**",)),
        unit("wide", ready, scope=("src/a.py",), why="said once"),
        unit("free", ready),
        unit("codex", ready, agent="codex"),
        unit("model", ready),
        unit("proof", ready, why="its proof runs"),
        unit("turn", ready, why="said once"),
        Hook(worker="w1", index=1, unit="moves", attempt=1, state="running"),
        now=NOW,
    )
    paused = {"claude": "is paused"}
    put(store, starts={"agent": "claude", "deputy": "codex", "paused": paused, "told": ["proof"]})

    whys = {row["id"]: row["why"] for row in plain(views.status(con, AT))["units_open"]}

    assert whys == {
        "moves": "",
        "wide": "its scope overlaps the scope of moves, which goes first",
        "free": "waits for factoryd start",
        "codex": "waits for factoryd start",
        "model": "its agent claude is paused",
        "proof": "its proof runs",
        "turn": "waits for factoryd start",
    }
    assert plain(unit_views.show(con, "wide"))["why"] == whys["wide"]
    put(store, starts={"trunk_red": True})
    assert "trunk is red" in plain(unit_views.show(con, "free"))["why"]


def test_without_a_daemon_nothing_is_said_to_run(
    store: SqliteStore, con: sqlite3.Connection, lock: Path
) -> None:
    """A daemon that was killed has left its last sentences."""
    proof = accepted("proof", "---\naccept: make\n---\nDo it.\n")
    store.write(Event.TASK_ACCEPTED, *proof, unit("proof", UnitState.READY), now=NOW)
    store.write(Event.HOOK_FILLED, Hook(worker="w1", index=1), now=NOW)
    trunk = {"branch": "main", "commit": "c", "state": "judging", "gates_red": []}
    runs = "accept runs on trunk since 04:05:06 UTC, for at most 10 min"
    up = {"state": "running", "pid": os.getpid(), "since": AT, "version": "0.1.0"}
    put(store, trunk=trunk, proofs={"proof": runs}, starts={"agent": "claude"})

    dead = plain(views.status(con, AT))
    put(store, daemon=up | {"lock": str(lock)})
    alive = plain(views.status(con, AT))

    said = [(seen["units_open"][0]["why"], seen["trunk"]["state"]) for seen in (dead, alive)]
    assert said == [("waits for factoryd start", "unknown"), (runs, "judging")]


def test_the_queue_is_as_the_merge_queue_said_and_then_by_arrival(
    store: SqliteStore, con: sqlite3.Connection, lock: Path
) -> None:
    up = {"state": "running", "pid": os.getpid(), "since": AT, "version": "0.1.0"}
    put_queue(store, daemon=up | {"lock": str(lock)})

    seen = plain(views.status(con, AT))

    assert seen["queue"] == [
        {"unit": "b", "position": 1, "state": "judging", "why": "its gates run"},
        {"unit": "d", "position": 2, "state": "green", "why": "green; lands after b"},
        {"unit": "e", "position": 3, "state": "waiting", "why": "landing is blocked"},
        {"unit": "a", "position": 4, "state": "waiting", "why": ""},
        {"unit": "c", "position": 5, "state": "waiting", "why": "waits to be judged"},
    ]
    whys = {row["id"]: row["why"] for row in seen["units_open"]}
    assert whys == {row["unit"]: row["why"] for row in seen["queue"]}
    assert plain(unit_views.show(con, "d"))["why"] == "green; lands after b"


def test_nothing_is_judged_and_nothing_lands_without_a_daemon(
    store: SqliteStore, con: sqlite3.Connection
) -> None:
    put_queue(store)

    assert {row["state"] for row in plain(views.status(con, AT))["queue"]} == {"waiting"}
    assert plain(unit_views.show(con, "b"))["why"] == "waits to be judged"


@pytest.mark.parametrize(
    ("stored", "paused", "said"),
    [
        ("", None, "waits for factoryd start"),
        ("waits for a free worker", None, "waits for a free worker"),
        (
            "waits for a free worker",
            {"by": "you", "since": AT},
            "the line is paused: factory resume",
        ),
    ],
)
def test_a_ready_unit_always_says_what_it_waits_for(
    store: SqliteStore, con: sqlite3.Connection, stored: str, paused: object, said: str
) -> None:
    put(store, paused=paused)
    store.write(Event.UNIT_READY, unit("a", UnitState.READY, why=stored), now=NOW)

    assert [row["why"] for row in plain(views.status(con, AT))["units_open"]] == [said]
    assert plain(unit_views.show(con, "a"))["why"] == said


def test_the_last_five_landed_are_shown_newest_first(
    store: SqliteStore, con: sqlite3.Connection
) -> None:
    landed = [
        unit(f"u{n}", UnitState.LANDED, commit=f"c{n}", landed=NOW + timedelta(seconds=n))
        for n in range(7)
    ]
    store.write(Event.UNIT_LANDED, *landed, now=NOW)

    assert [row["unit"] for row in plain(views.status(con, AT))["last_landed"]] == [
        "u6",
        "u5",
        "u4",
        "u3",
        "u2",
    ]


@pytest.mark.parametrize("state", ["running", "draining"])
def test_a_daemon_that_holds_its_lock_is_up(
    store: SqliteStore, con: sqlite3.Connection, lock: Path, state: str
) -> None:
    put(
        store,
        daemon={
            "state": state,
            "pid": os.getpid(),
            "since": AT,
            "version": "0.1.0",
            "lock": str(lock),
        },
    )

    assert plain(views.daemon(con)) == {
        "state": state,
        "pid": os.getpid(),
        "since": AT,
        "version": "0.1.0",
    }


@pytest.mark.parametrize(
    "said",
    [
        {"state": "stopped", "pid": os.getpid(), "lock": "held"},
        {"state": "running", "pid": NO_PID, "lock": "held"},
        {"state": "running", "pid": 2**80, "lock": "held"},
        {"state": "running", "pid": os.getpid(), "lock": "free"},
        {"state": "running", "pid": os.getpid(), "lock": "missing"},
        {"state": "running"},
    ],
    ids=[
        "said so",
        "dead",
        "no pid at all",
        "its pid is another program's",
        "repository gone",
        "nothing known",
    ],
)
def test_a_daemon_that_is_not_there_is_stopped_whatever_it_last_said(
    store: SqliteStore, con: sqlite3.Connection, lock: Path, tmp_path: Path, said: dict[str, Any]
) -> None:
    (tmp_path / "free").touch()
    locks = {
        "held": str(lock),
        "free": str(tmp_path / "free"),
        "missing": str(tmp_path / "missing"),
    }
    put(store, daemon={**said, "lock": locks.get(said.get("lock", "")), "version": "0.1.0"})

    assert plain(views.daemon(con)) == {
        "state": "stopped",
        "pid": None,
        "since": None,
        "version": "0.1.0",
    }


def test_asking_whether_the_daemon_lives_leaves_its_lock_free(
    store: SqliteStore, con: sqlite3.Connection, tmp_path: Path
) -> None:
    (tmp_path / "free").touch()
    put(store, daemon={"state": "running", "pid": os.getpid(), "lock": str(tmp_path / "free")})

    views.daemon(con)

    with (tmp_path / "free").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_show_gives_all_that_is_on_record_about_a_unit(
    store: SqliteStore, con: sqlite3.Connection
) -> None:
    verdict = Verdict(
        key="k",
        gate="20-test",
        tree="t1",
        ok=False,
        settled=True,
        at=NOW,
        seconds=1.5,
        tail="E  no",
    )
    ended = replace(
        ATTEMPT, end=NOW, reason=EndReason.GATE_RED, ref="refs/x", tokens_input=7, tokens_output=9
    )
    store.write(
        Event.TASK_ACCEPTED,
        replace(READY, needs=("first",)),
        *accepted("fix-login", "# Fix", source="k-fix-login.md"),
        ended,
        replace(ATTEMPT, unit="other"),
        replace(CARD, unit="other", units=("other", "fix-login")),
        replace(CARD, id="E2", unit="other", units=("other",)),
        Remark(unit="fix-login", seq=1, who="person", kind="tell", text="hurry", at=NOW),
        now=NOW,
        unit="fix-login",
    )
    store.write(Event.VERDICT_GIVEN, verdict, now=NOW, unit="fix-login")
    store.write(Event.VERDICT_GIVEN, verdict, now=NOW, unit="fix-login", cached=True)
    store.write(Event.VERDICT_GIVEN, replace(verdict, key="other"), now=NOW, unit="other")

    shown = plain(unit_views.show(con, "fix-login"))

    assert shown
    assert {
        name: shown[name]
        for name in ("id", "title", "state", "commit", "on_trunk", "needs", "resume")
    } == {
        "id": "fix-login",
        "title": "Fix the login",
        "state": "ready",
        "commit": "",
        "on_trunk": False,
        "needs": ["first"],
        "resume": False,
    }
    assert shown["task"] == {"name": "fix-login.md", "text": "# Fix"}
    wanted = ("number", "agent", "start", "end", "reason", "tokens", "cost_usd", "ref", "resumed")
    assert [{name: row[name] for name in wanted} for row in shown["attempts"]] == [
        {
            "number": 1,
            "agent": "claude",
            "start": AT,
            "end": AT,
            "reason": "gate_red",
            "tokens": {"input": 7, "output": 9},
            "cost_usd": 0.0,
            "ref": "refs/x",
            "resumed": False,
        }
    ]
    assert [
        (row["gate"], row["tree"], row["ok"], row["seconds"], row["cached"])
        for row in shown["verdicts"]
    ] == [("20-test", "t1", False, 1.5, False), ("20-test", "t1", False, 1.5, True)]
    assert [card["id"] for card in shown["escalations"]] == ["E1"]
    assert [remark["text"] for remark in shown["remarks"]] == ["hurry"]


def test_show_of_an_unknown_unit_is_none(con: sqlite3.Connection) -> None:
    assert unit_views.show(con, "nobody") is None


@pytest.mark.parametrize(
    ("missing", "on_trunk"), [([], True), (["fix-login"], False), (["other"], True)]
)
def test_a_landed_unit_is_on_trunk_until_a_person_rewrote_it_away(
    store: SqliteStore, con: sqlite3.Connection, missing: list[str], on_trunk: bool
) -> None:
    put(store, trunk={"branch": "main", "missing": missing})
    store.write(Event.UNIT_LANDED, unit("fix-login", UnitState.LANDED, landed=NOW), now=NOW)

    shown = plain(unit_views.show(con, "fix-login"))

    assert shown
    assert (shown["state"], shown["on_trunk"]) == ("landed", on_trunk)


def test_the_log_has_one_flat_event_a_line(store: SqliteStore, con: sqlite3.Connection) -> None:
    store.write(Event.TASK_ACCEPTED, READY, now=NOW, unit="a", file="a.md", seq="not this")
    store.write(Event.HOOK_FILLED, now=NOW, unit="b", attempt=1, worker="w1")

    lines = plain(list(unit_views.log(con)))

    first = {
        "schema": 1,
        "seq": 1,
        "at": AT,
        "event": "task.accepted",
        "unit": "a",
        "attempt": 0,
        "worker": "",
        "file": "a.md",
    }
    second = {
        "schema": 1,
        "seq": 2,
        "at": AT,
        "event": "hook.filled",
        "unit": "b",
        "attempt": 1,
        "worker": "w1",
    }
    assert lines == [first, second]
    assert plain(list(unit_views.log(con, after=1))) == [second]
    assert plain(list(unit_views.log(con, unit="a"))) == [first]
    assert list(unit_views.log(con, after=2)) == []
    assert unit_views.last_seq(con) == 2


def test_a_long_log_is_read_whole(store: SqliteStore, con: sqlite3.Connection) -> None:
    with store.transaction():
        for _ in range(1101):
            store.write(Event.UNIT_READY, now=NOW)

    assert [line.seq for line in unit_views.log(con)] == list(range(1, 1102))


def test_following_the_log_sees_what_came_meanwhile(
    store: SqliteStore, con: sqlite3.Connection
) -> None:
    store.write(Event.UNIT_READY, now=NOW)
    seen = unit_views.last_seq(con)

    store.write(Event.UNIT_HELD, now=NOW)

    assert [line.event for line in unit_views.log(con, after=seen)] == ["unit.held"]


def test_cards_come_oldest_first_with_their_options(
    store: SqliteStore, con: sqlite3.Connection
) -> None:
    option = Option(key="1", label="left", effect="goes left", action="answer")
    closed = replace(CARD, id="E9", since=NOW - timedelta(days=1), state="closed", units=("a",))
    store.write(Event.CARD_RAISED, replace(CARD, options=(option,)), closed, now=NOW)

    assert [(card.id, card.units) for card in views.cards(con, "1")] == [("E9", ["a"]), ("E1", [])]
    assert [card.id for card in views.cards(con, OPEN["card"])] == ["E1"]
    card = views.card(con, "E1")
    assert card
    assert plain(card.options) == [
        {"key": "1", "label": "left", "effect": "goes left", "action": "answer"}
    ]
    assert views.card(con, "E7") is None


def test_a_fact_is_what_the_daemon_last_wrote_or_none(
    store: SqliteStore, con: sqlite3.Connection
) -> None:
    put(store, config={"workers": {"value": 3, "source": "factory.toml"}})

    assert plain(views.settings(con)) == {"workers": {"value": 3, "source": "factory.toml"}}
    assert views.inferred(con) is None


def test_a_request_is_a_record_for_the_daemon_and_an_entry_in_the_journal(
    store: SqliteStore, writer: sqlite3.Connection
) -> None:
    with asking.writing(writer):
        first = asking.make_request(
            writer, "tell", {"unit": "fix-login", "text": "schnell „jetzt“"}, AT
        )
        second = asking.make_request(writer, "pause", {}, AT)

    assert (first, second) == (1, 2)
    assert store.open(Request) == [
        Request(id=1, kind="tell", args='{"unit": "fix-login", "text": "schnell „jetzt“"}', at=NOW),
        Request(id=2, kind="pause", args="{}", at=NOW),
    ]
    assert [(entry.event, entry.unit, entry.detail["request"]) for entry in entries_of(store)] == [
        (Event.REQUEST_MADE, "fix-login", 1),
        (Event.REQUEST_MADE, "", 2),
    ]
    assert fold(entries_of(store)) == tables(store)


def test_what_a_terminal_sent_that_is_not_utf8_is_still_a_request(
    store: SqliteStore, writer: sqlite3.Connection
) -> None:
    with asking.writing(writer):
        asking.make_request(writer, "tell", {"unit": "a", "text": "caf\udce9"}, AT)

    assert [json.loads(request.args)["text"] for request in store.open(Request)] == ["caf?"]


def test_the_outcome_of_a_request_is_seen_once_the_daemon_wrote_it(
    store: SqliteStore, writer: sqlite3.Connection
) -> None:
    with asking.writing(writer):
        made = asking.make_request(writer, "pause", {}, AT)
    before = asking.request_outcome(writer, made)

    store.write(
        Event.REQUEST_DONE,
        replace(store.open(Request)[0], state="done", outcome="The line rests."),
        now=NOW,
    )

    assert plain(before) == {"state": "pending", "outcome": ""}
    assert plain(asking.request_outcome(writer, made)) == {
        "state": "done",
        "outcome": "The line rests.",
    }
    assert asking.request_outcome(writer, 99) is None


def test_what_is_asked_for_and_not_done_yet_is_given_by_its_kind(
    store: SqliteStore, writer: sqlite3.Connection
) -> None:
    with asking.writing(writer):
        for kind, card in (("answer", "E1"), ("answer", "E2"), ("pause", "")):
            asking.make_request(writer, kind, {"card": card}, AT)

    store.write(Event.REQUEST_DONE, replace(store.open(Request)[0], state="done"), now=NOW)

    assert plain(asking.pending(writer, "answer")) == [{"card": "E2"}]


def test_a_check_that_fails_leaves_no_request(
    store: SqliteStore, writer: sqlite3.Connection
) -> None:
    with suppress(Undone), asking.writing(writer):
        asking.make_request(writer, "pause", {}, AT)
        raise Undone

    assert store.select(Request) == []
    assert list(entries_of(store)) == []


def test_checks_and_request_are_one_transaction_that_holds_the_daemon_off(
    store: SqliteStore, writer: sqlite3.Connection
) -> None:
    store.write(Event.CARD_RAISED, CARD, replace(READY, id="fix-login"), now=NOW)
    store._con.execute("PRAGMA busy_timeout = 0")

    with asking.writing(writer):
        assert unit_views.show(writer, "fix-login")
        with pytest.raises(StoreError, match="locked"):
            store.write(Event.CARD_CLOSED, replace(CARD, state="closed"), now=NOW)
        asking.make_request(writer, "answer", {"card": "E1"}, AT)

    assert store.open(Card) == [CARD]
    assert len(store.open(Request)) == 1


def test_a_request_outside_a_transaction_is_refused(
    store: SqliteStore, writer: sqlite3.Connection
) -> None:
    with pytest.raises(StoreError, match="inside writing"):
        asking.make_request(writer, "pause", {}, AT)

    assert store.select(Request) == []


def test_a_reader_cannot_write(store: SqliteStore, con: sqlite3.Connection) -> None:
    with (
        pytest.raises(StoreError, match=r"readonly database\. Nothing was changed"),
        asking.writing(con),
    ):
        asking.make_request(con, "pause", {}, AT)


def test_a_status_leaves_no_transaction_open(store: SqliteStore, con: sqlite3.Connection) -> None:
    views.status(con, AT)
    unit_views.show(con, "nobody")

    assert not con.in_transaction


def test_a_store_whose_daemon_is_gone_is_read_as_well(path: Path) -> None:
    with closing(SqliteStore(path)) as store:
        store.write(Event.TASK_ACCEPTED, READY, now=NOW)

    with closing(views.open_store(str(path))) as con:
        assert plain(views.status(con, AT))["units"]["ready"] == 1


def test_of_a_trunk_of_which_little_is_known_every_key_is_there(
    store: SqliteStore, path: Path
) -> None:
    store.write(Event.FACT_CHANGED, Fact(name="trunk", value='{"branch": "main"}'), now=NOW)

    with closing(views.open_store(str(path))) as con:
        trunk = plain(views.status(con, AT))["trunk"]

    assert trunk == {"branch": "main", "commit": None, "state": "unknown", "gates_red": []}


def test_no_store_is_said_and_none_is_made(path: Path) -> None:
    with pytest.raises(
        StoreError, match=r"There is no store at .*\. Start the factory here first: factoryd start"
    ):
        views.open_store(str(path))

    assert not path.exists()


def test_a_file_that_is_no_store_is_said(path: Path) -> None:
    path.write_text("hello")

    with pytest.raises(StoreError, match="cannot be read"):
        views.open_store(str(path))


def test_a_store_of_a_newer_factoryd_is_said(path: Path) -> None:
    SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as con:
        con.execute("PRAGMA user_version = 99")

    with pytest.raises(StoreError, match="newer factoryd"):
        views.open_store(str(path))


def test_now_is_a_stamp_like_the_stores() -> None:
    text = views.now_text()

    assert stamp(from_stamp(text)) == text


def test_the_states_that_are_shown_are_all_there_are(con: sqlite3.Connection) -> None:
    assert tuple(UnitState) == tuple(plain(views.status(con, AT))["units"])
    assert set(views.NEEDS_YOU_FIRST) == set(UnitState) - FINAL


def test_reading_the_store_imports_nothing_heavy() -> None:
    argv = [sys.executable, "-X", "importtime", "-c", "import factory.store.views"]

    done = subprocess.run(
        argv, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )

    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    heavy = {
        "dataclasses",
        "pathlib",
        "typing",
        "asyncio",
        "anyio",
        "pydantic",
        "inspect",
        "subprocess",
        "tempfile",
    }
    assert "factory.store.views" in imported
    assert imported & heavy == set()
    assert {name for name in imported if name.startswith("factory")} == {
        "factory",
        "factory.ground",
        "factory.ground.claims",
        "factory.ground.disk",
        "factory.ground.errors",
        "factory.ground.reserved",
        "factory.ground.times",
        "factory.store",
        "factory.store.alive",
        "factory.store.found_rows",
        "factory.store.opening",
        "factory.store.rows",
        "factory.store.running",
        "factory.store.spending",
        "factory.store.starts",
        "factory.store.states",
        "factory.store.views",
        "factory.store.waits",
        "factory.store.whys",
    }


def test_every_attempt_field_reaches_show(store: SqliteStore, con: sqlite3.Connection) -> None:
    store.write(Event.ATTEMPT_STARTED, READY, ATTEMPT, now=NOW)

    shown = plain(unit_views.show(con, "fix-login"))

    assert shown
    fields = set(Attempt.__slots__) - {"tokens_input", "tokens_output"}
    assert fields | {"tokens", "run_dir"} == set(shown["attempts"][0])
