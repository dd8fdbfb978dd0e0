import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from factory.ground.errors import DamagedStore, Deposed, Fenced, StoreError
from factory.store import opening as stores
from factory.store.accepted import NoSpec, spec_from, spec_of
from factory.store.journal import Event
from factory.store.migrations import MIGRATIONS
from factory.store.opening import OPEN, SCHEMA, connect
from factory.store.ports import Store
from factory.store.records import (
    KEYS,
    KINDS,
    Attempt,
    Card,
    Fact,
    Hook,
    Request,
    Step,
    Task,
    Verdict,
)
from factory.store.spec import Spec
from factory.store.sqlite import SqliteStore, migrate
from factory.store.task_file import parse
from factory.store.unit import FINAL, EndReason, Unit, UnitState
from tests.journal import entries_of, fold
from tests.memory_store import MemoryStore
from tests.store_contract import ATTEMPT, CARD, NOW, READY, StoreContract, Undone, of_kind, tables

ROOT = Path(__file__).parents[2]

STORES = Path(__file__).parents[1] / "stores"


class TestSqliteStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        with closing(SqliteStore(tmp_path / "store.sqlite")) as store:
            yield store


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore()


NAMES = st.sampled_from(["a", "b", "c"])
RECORDS = st.one_of(
    of_kind(Unit, id=NAMES, attempt=st.integers(0, 2)),
    of_kind(Attempt, unit=NAMES, number=st.integers(1, 2)),
    of_kind(Card, id=NAMES, state=st.sampled_from(["open", "closed"])),
    of_kind(Hook, worker=NAMES),
    of_kind(Step, id=NAMES),
    of_kind(Request, id=st.integers(1, 3), state=st.sampled_from(["pending", "done"])),
    of_kind(Fact, name=NAMES),
)
WRITES = st.lists(RECORDS, max_size=3)


class StoreModel(RuleBasedStateMachine):
    """The file and the model, done the same things to, never differ."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.model = MemoryStore()
        self.real = SqliteStore(self.folder / "store.sqlite")

    def teardown(self) -> None:
        self.real.close()
        shutil.rmtree(self.folder)

    @rule(records=WRITES, unit=NAMES)
    def write(self, records: list[Any], unit: str) -> None:
        for store in (self.model, self.real):
            store.write(Event.UNIT_READY, *records, now=NOW, unit=unit)

    @rule(record=RECORDS, unit=NAMES, attempt=st.integers(0, 2))
    def write_behind_the_fence(self, record: Any, unit: str, attempt: int) -> None:
        passed = []
        for store in (self.model, self.real):
            with suppress(Fenced):
                passed.append(
                    store.write(
                        Event.ATTEMPT_NOTED, record, now=NOW, unit=unit, attempt=attempt, fence=True
                    )
                )

        assert len(passed) in (0, 2)

    @rule(outer=WRITES, inner=WRITES, undo_inner=st.booleans(), undo_outer=st.booleans())
    def write_in_transactions(
        self, outer: list[Any], inner: list[Any], undo_inner: bool, undo_outer: bool
    ) -> None:
        for store in (self.model, self.real):
            with suppress(Undone), store.transaction():
                store.write(Event.UNIT_READY, *outer, now=NOW)
                with suppress(Undone), store.transaction():
                    store.write(Event.UNIT_HELD, *inner, now=NOW)
                    if undo_inner:
                        raise Undone
                store.write(Event.UNIT_QUEUED, *outer, now=NOW)
                if undo_outer:
                    raise Undone

    @rule(younger=st.booleans())
    def compact(self, younger: bool) -> None:
        before = NOW + timedelta(days=1) if younger else NOW
        done = [store.compact(before=before, now=NOW) for store in (self.model, self.real)]

        assert done[0] == done[1]

    @rule()
    def reopen(self) -> None:
        self.real.close()
        self.real = SqliteStore(self.folder / "store.sqlite")

    @invariant()
    def both_say_the_same(self) -> None:
        kinds: Any = KEYS
        assert tables(self.real) == tables(self.model)
        assert [self.real.open(kind) for kind in kinds] == [self.model.open(kind) for kind in kinds]
        assert list(entries_of(self.real)) == list(entries_of(self.model))

    @invariant()
    def the_journal_gives_the_tables(self) -> None:
        assert fold(entries_of(self.real)) == tables(self.real)


TestStoreModel = StoreModel.TestCase
TestStoreModel.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)


def test_whoever_owned_the_store_before_writes_nothing_more_and_who_never_did_may(
    tmp_path: Path,
) -> None:
    path = tmp_path / "store.sqlite"
    with (
        closing(SqliteStore(path)) as older,
        closing(SqliteStore(path)) as newer,
        closing(SqliteStore(path)) as command,
    ):
        older.own("older", now=NOW)
        older.write(Event.TASK_ACCEPTED, READY, now=NOW)
        newer.own("newer", now=NOW)

        for write in (
            lambda: older.write(Event.UNIT_READY, CARD, now=NOW),
            older.transaction().__enter__,
        ):
            with pytest.raises(Deposed):
                write()

        newer.write(Event.UNIT_READY, READY, now=NOW)
        command.write(Event.REQUEST_MADE, now=NOW)
        assert older.select(Card) == []
        assert [entry.event for entry in entries_of(newer)] == [
            *(
                Event.FACT_CHANGED,
                Event.TASK_ACCEPTED,
                Event.FACT_CHANGED,
                Event.UNIT_READY,
                Event.REQUEST_MADE,
            )
        ]


def test_the_conditions_of_open_say_what_unit_py_says() -> None:
    assert (
        OPEN["unit"] == f'"state" NOT IN ({", ".join(sorted(repr(str(state)) for state in FINAL))})'
    )
    assert OPEN.keys() < KINDS.keys()


@pytest.mark.parametrize("table", OPEN)
def test_what_is_open_is_found_by_its_partial_index(tmp_path: Path, table: str) -> None:
    SqliteStore(tmp_path / "store.sqlite").close()

    with closing(sqlite3.connect(tmp_path / "store.sqlite")) as con:
        plan = con.execute(
            f'EXPLAIN QUERY PLAN SELECT * FROM "{table}" WHERE {OPEN[table]}'
        ).fetchall()

    assert f"USING INDEX {table}_open" in str(plan)


@pytest.mark.parametrize("is_older", [False, True])
def test_a_name_is_found_by_its_index_also_in_a_store_of_an_older_release(
    tmp_path: Path, is_older: bool
) -> None:
    path = packed_store(tmp_path) if is_older else tmp_path / "store.sqlite"

    SqliteStore(path).close()

    with closing(sqlite3.connect(path)) as con:
        plan = con.execute('EXPLAIN QUERY PLAN SELECT * FROM "spec" WHERE "name" = ?', ("a",))
        assert "USING INDEX spec_name" in str(plan.fetchall())


def test_a_store_is_kept_in_wal_mode_and_synced_at_every_commit(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path / "store.sqlite")) as store:
        pragmas = [
            store._con.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous")
        ]

    assert pragmas == ["wal", 2]


def test_a_closed_store_is_one_file_and_opens_again_as_it_was(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "a ?#%41.sqlite")
    store.write(Event.TASK_ACCEPTED, READY, now=NOW)

    store.close()
    store.close()

    assert [path.name for path in tmp_path.iterdir()] == ["a ?#%41.sqlite"]
    with closing(SqliteStore(tmp_path / "a ?#%41.sqlite")) as again:
        assert again.select(Unit) == [READY]


def test_a_half_made_store_of_a_killed_start_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite.new").write_bytes(b"half")

    with closing(SqliteStore(tmp_path / "store.sqlite")) as store:
        assert store.open(Unit) == []


def test_a_store_written_by_a_newer_factoryd_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as con:
        con.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    before = path.read_bytes()

    with pytest.raises(
        StoreError,
        match=rf"written by a newer factoryd \(format {SCHEMA + 1}, this one knows {SCHEMA}\)",
    ):
        SqliteStore(path)

    assert path.read_bytes() == before


def test_an_older_store_is_brought_up_to_date_in_one_step_with_a_copy_of_it_as_it_was(
    tmp_path: Path,
) -> None:
    path = tmp_path / "store.sqlite"
    with closing(SqliteStore(path)) as store:
        store.write(Event.TASK_ACCEPTED, READY, now=NOW)
    steps = {
        SCHEMA: ('ALTER TABLE "unit" ADD COLUMN "colour" DEFAULT \'none\'',),
        SCHEMA + 1: (
            'UPDATE "unit" SET "colour" = \'red\'',
            'CREATE INDEX "by_colour" ON "unit" ("colour")',
        ),
    }

    with closing(sqlite3.connect(path, isolation_level=None)) as con:
        migrate(con, path, to=SCHEMA + 2, steps=steps)

    kept = path.with_name(f"store.sqlite.format-{SCHEMA}")
    with closing(sqlite3.connect(path)) as con, closing(SqliteStore(kept)) as before:
        assert con.execute('SELECT "id", "colour" FROM "unit"').fetchall() == [("fix-login", "red")]
        assert con.execute("PRAGMA user_version").fetchone() == (SCHEMA + 2,)
        assert before.select(Unit) == [READY]


def test_a_migration_that_fails_leaves_the_store_as_it_was_and_can_be_tried_again(
    tmp_path: Path,
) -> None:
    path = tmp_path / "store.sqlite"
    SqliteStore(path).close()
    path.with_name(f"store.sqlite.format-{SCHEMA}.new").write_bytes(
        b"half a copy of a killed start"
    )
    broken = {SCHEMA: ('ALTER TABLE "unit" ADD COLUMN "colour"', "not SQL")}

    with (
        closing(sqlite3.connect(path, isolation_level=None)) as con,
        pytest.raises(sqlite3.OperationalError),
    ):
        migrate(con, path, to=SCHEMA + 1, steps=broken)

    with closing(SqliteStore(path)) as store:
        assert "colour" not in str(
            store._con.execute('SELECT sql FROM sqlite_master WHERE name = "unit"').fetchall()
        )


def test_a_store_of_the_first_format_gets_the_accounts_of_its_attempts(tmp_path: Path) -> None:
    path, over = (
        tmp_path / "store.sqlite",
        replace(ATTEMPT, end=NOW, reason=EndReason.EMPTY, cost_usd=0.5),
    )
    with closing(SqliteStore(path)) as store:
        store.write(Event.ATTEMPT_ENDED, over, replace(ATTEMPT, number=2), now=NOW)
    with closing(sqlite3.connect(path)) as con:
        con.execute('DROP INDEX "attempt_day"')
        con.execute('ALTER TABLE "attempt" ADD COLUMN "run_dir" DEFAULT \'\'')
        younger = (
            "estimated",
            "reserved_usd",
            "reserved_tokens",
            "reserved_minutes",
            "day",
            "nonce",
            "heard",
            "left_out",
            "clashes",
        )
        for column in younger:
            con.execute(f'ALTER TABLE "attempt" DROP COLUMN "{column}"')
        con.execute('ALTER TABLE "verdict" DROP COLUMN "rewrote"')
        con.execute('ALTER TABLE "verdict" DROP COLUMN "evidence"')
        for column in ("conflicts", "contested", "behind"):
            con.execute(f'ALTER TABLE "unit" DROP COLUMN "{column}"')
        con.execute('DROP TABLE "spec"')
        con.execute('ALTER TABLE "task" ADD COLUMN "name"')
        con.execute('ALTER TABLE "task" ADD COLUMN "source"')
        con.execute("PRAGMA user_version = 1")

    with closing(SqliteStore(path)) as store:
        assert store.select(Attempt) == [
            replace(over, day=f"{NOW:%Y-%m-%d}"),
            replace(ATTEMPT, number=2),
        ]
        assert store.select(Attempt, day=f"{NOW:%Y-%m-%d}") == [
            replace(over, day=f"{NOW:%Y-%m-%d}")
        ]


def test_there_is_a_way_from_each_older_format_to_this_one() -> None:
    assert set(MIGRATIONS) == set(range(1, SCHEMA))


def test_a_command_does_not_read_an_older_format_and_says_what_mends_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SqliteStore(tmp_path / "store.sqlite").close()
    monkeypatch.setattr(stores, "SCHEMA", SCHEMA + 1)

    with pytest.raises(
        StoreError, match=r"older format\. The daemon converts it at its next start"
    ):
        stores.connect(str(tmp_path / "store.sqlite"), "ro")


def test_another_programs_database_with_our_number_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "store.sqlite")) as con:
        con.execute("CREATE TABLE theirs (x)")
        con.execute(f"PRAGMA user_version = {SCHEMA}")

    with pytest.raises(DamagedStore, match="no such table: journal"):
        SqliteStore(tmp_path / "store.sqlite")


@pytest.mark.parametrize(
    "content", [b"", b"not a database at all" * 400, b"SQLite format 3\x00" + bytes(4080)]
)
def test_a_file_that_is_no_store_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "store.sqlite"
    path.write_bytes(content)

    with pytest.raises(
        StoreError,
        match=r"cannot be read .* Nothing was changed\. .* factory doctor --rebuild: .* restore an earlier copy",
    ):
        SqliteStore(path)

    assert path.read_bytes() == content


def test_where_the_disk_is_full_that_is_said_and_nobody_is_told_to_put_the_store_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("factory.ground.disk.LEAST", 1 << 60)
    (tmp_path / "store.sqlite").write_bytes(b"")

    with pytest.raises(StoreError, match=r"is full: .* Nothing was changed: make room first\.$"):
        SqliteStore(tmp_path / "store.sqlite")


def test_on_a_full_disk_a_store_at_rest_is_read_without_making_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("factory.ground.disk.LEAST", 1 << 60)
    with closing(SqliteStore(tmp_path / "store.sqlite")) as store:
        store.write(Event.TASK_ACCEPTED, READY, now=NOW)

    with closing(connect(str(tmp_path / "store.sqlite"), "ro")) as con:
        found = con.execute('SELECT "id" FROM "unit"').fetchall()

        assert (found, [path.name for path in tmp_path.iterdir()]) == (
            [(READY.id,)],
            ["store.sqlite"],
        )


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "store.sqlite")) as con:
        con.execute("CREATE TABLE theirs (x)")

    with pytest.raises(StoreError, match="it is not a store of factoryd"):
        SqliteStore(tmp_path / "store.sqlite")


def test_a_damaged_page_is_found_at_open(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with closing(SqliteStore(path)) as store:
        store.write(Event.TASK_ACCEPTED, *(replace(READY, id=f"u{n}") for n in range(200)), now=NOW)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xff" * (size // 4))

    with pytest.raises(StoreError, match=r"cannot be read \([^*]+\)"):
        SqliteStore(path)


def test_a_damaged_schema_is_found_at_open(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    SqliteStore(path).close()
    schema = path.read_bytes().index(b"CREATE ")
    with path.open("r+b") as file:
        file.seek(schema)
        file.write(b"\xff" * 1500)

    with pytest.raises(StoreError, match="cannot be read"):
        SqliteStore(path)


def test_a_store_cut_short_is_found_at_open(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    SqliteStore(path).close()
    os.truncate(path, path.stat().st_size // 2)

    with pytest.raises(StoreError, match="cannot be read"):
        SqliteStore(path)


def test_a_lost_file_whose_log_is_still_there_is_not_replaced_by_an_empty_one(
    tmp_path: Path,
) -> None:
    (tmp_path / "store.sqlite-wal").write_bytes(b"what was committed last")

    with pytest.raises(StoreError, match=r"it is missing, although store\.sqlite-wal exists"):
        SqliteStore(tmp_path / "store.sqlite")

    assert [path.name for path in tmp_path.iterdir()] == ["store.sqlite-wal"]


def test_a_place_where_no_file_can_be_made_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be made"):
        SqliteStore(tmp_path / "no such folder" / "store.sqlite")


def test_a_folder_in_its_place_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        SqliteStore(tmp_path)


def test_a_full_disk_undoes_the_step_and_the_store_goes_on(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path / "store.sqlite")) as store:
        store.write(Event.TASK_ACCEPTED, READY, now=NOW)
        pages = store._con.execute("PRAGMA page_count").fetchone()[0]
        store._con.execute(f"PRAGMA max_page_count = {pages}")

        with pytest.raises(StoreError, match=r"database or disk is full\. This step was undone"):
            store.write(Event.CARD_RAISED, CARD, Fact(name="big", value="x" * 100_000), now=NOW)

        assert store.select(Card) == []
        store._con.execute("PRAGMA max_page_count = 100000")
        store.write(Event.CARD_RAISED, CARD, now=NOW)
        assert fold(entries_of(store)) == tables(store)


def test_a_transaction_that_sqlite_gave_up_takes_no_more_writes(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path / "store.sqlite")) as store:
        with suppress(StoreError), store.transaction():
            store.write(Event.TASK_ACCEPTED, READY, now=NOW)
            store._con.execute("ROLLBACK")  # what SQLite does by itself after some I/O errors
            with pytest.raises(StoreError, match="has already undone this transaction"):
                store.write(Event.CARD_RAISED, CARD, now=NOW)

        assert tables(store) == {}
        store.write(Event.CARD_RAISED, CARD, now=NOW)
        assert store.open(Card) == [CARD]


def test_a_store_that_someone_else_keeps_locked_is_said(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with (
        closing(SqliteStore(path)) as store,
        closing(sqlite3.connect(path, isolation_level=None)) as other,
    ):
        store._con.execute("PRAGMA busy_timeout = 0")
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(StoreError, match="locked"):
            store.write(Event.TASK_ACCEPTED, READY, now=NOW)

        other.execute("ROLLBACK")
        store.write(Event.TASK_ACCEPTED, READY, now=NOW)


CHILD = """
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from factory.store.journal import Event
from factory.store.sqlite import SqliteStore
from tests.store_contract import NOW, READY

store = SqliteStore(Path(sys.argv[1]))
for n in range(int(sys.argv[2])):
    print(store.write(Event.TASK_ACCEPTED, replace(READY, id=f"u{n}"), now=NOW), flush=True)
with store.transaction():
    store.write(Event.TASK_ACCEPTED, replace(READY, id="half"), now=NOW)
    print("half", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("whole", [0, 20])
def test_kill_9_loses_nothing_that_was_committed_and_keeps_nothing_that_was_not(
    tmp_path: Path, whole: int
) -> None:
    path = tmp_path / "store.sqlite"
    argv = [sys.executable, "-c", CHILD, str(path), str(whole)]
    env = {"PYTHONPATH": str(ROOT), "PATH": os.defpath}
    with subprocess.Popen(
        argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout
        told = [next(child.stdout).strip() for _ in range(whole + 1)]

        child.send_signal(signal.SIGKILL)

    assert told[-1] == "half"
    with closing(SqliteStore(path)) as store:
        assert {unit.id for unit in store.open(Unit)} == {f"u{n}" for n in range(whole)}
        assert [str(entry.seq) for entry in entries_of(store)] == told[:-1]
        assert fold(entries_of(store)) == tables(store)


def test_a_row_is_plain_json_in_the_journal(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path / "store.sqlite")) as store:
        store.write(Event.UNIT_LANDED, replace(READY, state=UnitState.LANDED, title="é"), now=NOW)

        ((changes,),) = store._con.execute('SELECT "changes" FROM "journal"').fetchall()

    assert [(table, row["state"], row["title"]) for table, row in json.loads(changes)] == [
        ("unit", "landed", "é")
    ]


def test_who_owns_a_store_whose_file_was_taken_away_or_replaced_writes_nothing_more(
    tmp_path: Path,
) -> None:
    path = tmp_path / "store.sqlite"
    with closing(SqliteStore(path)) as store:
        store.own("it", now=NOW)
        before = store.is_there()
        for name in ("store.sqlite", "store.sqlite-wal", "store.sqlite-shm"):
            (tmp_path / name).rename(tmp_path / f"{name}.away")

        with pytest.raises(Deposed):
            store.write(Event.TASK_ACCEPTED, READY, now=NOW)

        assert (before, store.is_there(), path.exists()) == (True, False, False)


@pytest.mark.parametrize("side", ["before", "after"])
def test_killed_while_the_format_changes_the_next_start_opens_a_store_of_today(
    tmp_path: Path, side: str
) -> None:
    with tarfile.open(STORES / "format-3.tar.gz") as packed:
        packed.extractall(tmp_path, filter="data")
    path = tmp_path / "repo/.factory/store.sqlite"
    imports = "from pathlib import Path; from factory.store.sqlite import SqliteStore"
    program = f"{imports}; SqliteStore(Path({str(path)!r}))"
    env = {"FACTORY_FAULT": f"store.migrate:{side}", "PATH": os.environ["PATH"]}

    died = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=env, check=False)

    assert died.returncode == -signal.SIGKILL
    with closing(SqliteStore(path)) as store:
        assert fold(entries_of(store)) == tables(store)


def test_a_store_that_an_older_daemon_left_in_every_state_becomes_one_of_today(
    tmp_path: Path,
) -> None:
    with tarfile.open(STORES / "format-3.tar.gz") as packed:
        packed.extractall(tmp_path, filter="data")
    path = tmp_path / "repo/.factory/store.sqlite"
    with closing(sqlite3.connect(path)) as con:
        before = dict(con.execute('SELECT "id", "state" FROM "unit"').fetchall())

    with closing(SqliteStore(path)) as store:
        attempts = store.select(Attempt)
        assert {unit.id: unit.state for unit in store.select(Unit)} == before
        assert {attempt.workspace for attempt in attempts} == {
            f"workspaces/w{n}/tree" for n in (1, 2)
        }
        assert {(attempt.nonce, attempt.heard) for attempt in attempts} == {("", 0)}
        logs = [verdict.log for verdict in store.select(Verdict)]
        assert logs
        assert all((tmp_path / "repo" / log).is_file() for log in logs), logs
        assert not [card.where for card in store.select(Card) if card.where.startswith("/")]
        assert fold(entries_of(store)) == tables(store)


def packed_store(folder: Path) -> Path:
    """The store of an older release, unpacked."""
    with tarfile.open(STORES / "format-3.tar.gz") as packed:
        packed.extractall(folder, filter="data")
    return folder / "repo/.factory/store.sqlite"


def test_a_migration_reads_the_task_of_every_open_unit_once_and_knows_where_the_others_came_from(
    tmp_path: Path,
) -> None:
    path = packed_store(tmp_path)
    with closing(sqlite3.connect(path)) as con:
        told = 'SELECT "unit", "name", "source", "text" FROM "task"'
        before = {unit: (name, source, text) for unit, name, source, text in con.execute(told)}

    with closing(SqliteStore(path)) as store:
        units = {unit.id: unit for unit in store.select(Unit)}
        specs = {spec.unit: spec for spec in store.select(Spec)}
        assert {spec.unit: (spec.name, spec.source) for spec in specs.values()} == {
            unit: (name, source) for unit, (name, source, _) in before.items()
        }
        assert {task.unit: task.text for task in store.select(Task)} == {
            unit: text for unit, (_, _, text) in before.items()
        }
        unfinished = [unit for unit in before if units[unit].state not in FINAL]
        assert len(unfinished) > 5
        for unit in unfinished:
            name, source, text = before[unit]
            assert specs[unit] == spec_from(parse(text, name), unit=unit, name=name, source=source)
        assert {verdict.evidence for verdict in store.select(Verdict)} == {""}


def test_a_task_that_no_release_reads_any_more_keeps_its_unit_its_text_and_a_sentence(
    tmp_path: Path,
) -> None:
    path = packed_store(tmp_path)
    spoilt = "---\ncolour: red\n---\ndo it"
    with closing(sqlite3.connect(path)) as con, con:
        before = dict(con.execute('SELECT "id", "state" FROM "unit"').fetchall())
        con.execute('UPDATE "task" SET "text" = ? WHERE "unit" = \'queues\'', (spoilt,))

    with closing(SqliteStore(path)) as store:
        assert {unit.id: unit.state for unit in store.select(Unit)} == before
        assert store.get(Task, "queues") == Task(unit="queues", text=spoilt)
        spec = store.get(Spec, "queues")
        assert spec is not None
        assert "unknown key 'colour'" in spec.trouble
        with pytest.raises(NoSpec, match="unknown key 'colour'"):
            spec_of(store, "queues")


def test_a_migrated_store_has_the_tables_of_a_new_one(tmp_path: Path) -> None:
    path, new = packed_store(tmp_path), tmp_path / "new.sqlite"
    SqliteStore(path).close()
    SqliteStore(new).close()

    assert columns_of(path) == columns_of(new)


def columns_of(path: Path) -> dict[str, set[str]]:
    """Each table's and each index's columns."""
    with closing(sqlite3.connect(path)) as con:
        names = con.execute(
            "SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"
        ).fetchall()
        pragmas = {"table": "table_info", "index": "index_info"}
        return {
            name: {
                row[1 if kind == "table" else 2]
                for row in con.execute(f'PRAGMA {pragmas[kind]}("{name}")')
            }
            for kind, name in names
        }


@pytest.mark.parametrize(
    ("kind", "equal"),
    [(Card, {}), (Verdict, {"gate": "g", "ok": 1}), (Attempt, {"day": "d", "agent": "a"})],
)
def test_the_newest_rows_are_found_by_an_index_and_without_sorting(
    tmp_path: Path, kind: Any, equal: dict[str, str | int]
) -> None:
    with closing(SqliteStore(tmp_path / "store.sqlite")) as store:
        asked = list[str]()
        store._con.set_trace_callback(asked.append)
        store.newest(kind, 3, **equal)
        store._con.set_trace_callback(None)
        plan = store._con.execute(f"EXPLAIN QUERY PLAN {asked[0]}").fetchall()

    steps = " ".join(str(row[3]) for row in plan)
    assert "TEMP B-TREE" not in steps
    assert not equal or "USING INDEX" in steps
