"""Intake: each dropped file becomes one unit, however it was written and whatever was killed."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from factory.ground.errors import Deposed
from factory.inbox import rejections
from factory.inbox.acceptance import Acceptance
from factory.inbox.dropped import shown, written_to
from factory.inbox.intake import QUIET_S, STILL_S, Intake, Scan
from factory.people.cards import already_accepted
from factory.people.escalations import Escalations
from factory.people.line_cards import no_gate, runtime_trouble
from factory.store.journal import Event
from factory.store.records import Card, Task
from factory.store.spec import Spec
from factory.store.sqlite import SqliteStore
from factory.store.unit import NO_PROOF, Unit, UnitState, advance
from tests.journal import entries_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NO_REPAIR = "no repair unit in these tests"


class Floor:
    """An inbox with its intake and a real store; time stands still unless a test moves it."""

    def __init__(self, root: Path, store: SqliteStore) -> None:
        self.root, self.store = root, store
        self.inbox, self.folder = root / "inbox", root / ".factory" / "intake"
        self.inbox.mkdir(exist_ok=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.tracked = frozenset[str]()
        self.asked = 0
        self.now = NOW
        self.escalations = Escalations(
            store=store,
            repair=lambda title, evidence, now: NO_REPAIR,
            next_card=lambda count: count + 1,
        )
        self.restart()

    def restart(self, writers: Callable[[Path], bool | None] | None = None) -> None:
        self.intake = Intake(
            inbox=self.inbox,
            folder=self.folder,
            store=self.store,
            acceptance=Acceptance(
                store=self.store,
                escalations=self.escalations,
                is_taken=lambda name: self.store.get(Unit, name) is not None,
            ),
            tracked=self.ask_git,
            ask_writers=writers or (written_to if sys.platform == "linux" else lambda path: False),
        )

    async def ask_git(self) -> frozenset[str]:
        self.asked += 1
        return self.tracked

    def drop(self, name: str, text: str = "# Do it\n") -> Path:
        path = self.inbox / name
        path.write_text(text, newline="")
        return path

    async def scan(self, *, after: float = 0) -> Scan:
        self.now += timedelta(seconds=after)
        return await self.intake.tick(self.now)

    def unit(self, name: str) -> Unit:
        unit = self.store.get(Unit, name)
        assert unit
        return unit

    def put(self, unit: Unit) -> None:
        self.store.write(Event.UNIT_READY, unit, now=self.now)

    def events(self) -> list[Event]:
        return [entry.event for entry in entries_of(self.store) if entry.event.startswith("task.")]

    def complaint(self, name: str) -> str:
        return (self.inbox / "rejected" / f"{name}.error.txt").read_text()

    def lying(self) -> set[str]:
        """What lies in the inbox and in the intake folder."""
        return {
            path.name
            for folder in (self.inbox, self.folder)
            for path in folder.iterdir()
            if path.is_file()
        }


@pytest.fixture
def floor(tmp_path: Path) -> Iterator[Floor]:
    with closing(SqliteStore(tmp_path / "store.sqlite")) as store:
        yield Floor(tmp_path, store)


async def test_a_file_costs_the_same_however_many_units_are_open(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = list[int]()

    def counted(self: SqliteStore, kind: Any, condition: str, args: Any) -> Any:
        found = reads(self, kind, condition, args)
        read.append(len(found))
        return found

    reads = SqliteStore._read
    monkeypatch.setattr(SqliteStore, "_read", counted)
    costs = []
    for number in range(1, 121):
        read.clear()
        floor.drop(
            f"u{number}.md", f"---\nneeds: u{number - 1}\nscope: src/{number}\n---\n# Do it\n"
        )
        await floor.scan()
        costs.append((len(read), sum(read)))

    assert costs[119] == costs[3]
    assert costs[119] < (15, 10)


async def test_between_two_files_the_other_loops_run(floor: Floor) -> None:
    for number in range(5):
        floor.drop(f"u{number}.md")
    accepted = list[int]()
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async with anyio.create_task_group() as group:
        group.start_soon(others)
        await floor.intake.tick(floor.now, lambda scan: accepted.append(len(scan.accepted)))
        group.cancel_scope.cancel()

    assert accepted == [1, 2, 3, 4, 5]
    assert turns >= 4


async def test_a_circle_through_a_unit_that_others_already_need_is_refused(floor: Floor) -> None:
    floor.drop("a.md", "---\nneeds: b\n---\n# A\n")
    await floor.scan()
    floor.restart()
    floor.drop("b.md", "---\nneeds: c\n---\n# B\n")
    floor.drop("c.md", "---\nneeds: a\n---\n# C\n")

    scan = await floor.scan()

    assert (scan.accepted, scan.rejected) == (["b"], ["c.md"])
    assert "c → a → b → c" in floor.complaint("c.md")


async def test_a_dropped_file_becomes_one_ready_unit_with_its_text(floor: Floor) -> None:
    text = "---\npriority: 1\nscope: src\nagent: codex\n---\r\n# Fix the login\r\n"
    floor.drop("Fix login.md", text)

    scan = await floor.scan()

    assert scan == Scan(accepted=["fix-login"])
    assert floor.unit("fix-login") == Unit(
        id="fix-login",
        title="Fix the login",
        state=UnitState.READY,
        since=NOW,
        accepted=NOW,
        priority=1,
        scope=("src",),
        agent="codex",
        proven=NO_PROOF,
    )
    spec, task = floor.store.get(Spec, "fix-login"), floor.store.get(Task, "fix-login")
    assert spec
    assert task
    assert (spec.name, task.text) == ("Fix login.md", text)
    assert floor.lying() == set()
    assert [path.read_bytes().decode() for path in (floor.folder / "taken").iterdir()] == [text]


async def test_nothing_is_found_twice(floor: Floor) -> None:
    floor.drop("a.md")
    await floor.scan()

    scan = await floor.scan(after=30)

    assert (scan, floor.events()) == (Scan(), [Event.TASK_ACCEPTED])


async def test_a_missing_inbox_is_made_again(floor: Floor) -> None:
    floor.inbox.rmdir()

    assert await floor.scan() == Scan()
    assert floor.inbox.is_dir()


@pytest.mark.parametrize("broken", ["dangling", "file"])
async def test_an_inbox_that_is_no_folder_is_said(floor: Floor, broken: str) -> None:
    floor.inbox.rmdir()
    if broken == "file":
        floor.inbox.write_text("x")
    else:
        floor.inbox.symlink_to("/nowhere")

    scan = await floor.scan()

    assert len(scan.warnings) == 1
    assert "cannot be used as a folder" in scan.warnings[0]


async def test_where_a_newer_daemon_took_over_a_file_is_left_to_it(floor: Floor) -> None:
    path = floor.drop("fix.md")
    floor.store.own("older", now=NOW)
    await floor.scan(after=1)
    again = floor.drop("again.md")
    with closing(SqliteStore(floor.root / "store.sqlite")) as newer:
        newer.own("newer", now=NOW)

        with pytest.raises(Deposed):
            await floor.scan(after=1)

    assert (path.exists(), again.exists()) == (False, True)


async def test_a_run_unit_needs_no_agent(floor: Floor) -> None:
    floor.drop("format.md", "---\nrun: ruff format .\n---\n")

    await floor.scan()

    assert floor.unit("format").agent == "run"


async def test_git_is_asked_only_when_something_was_dropped(floor: Floor) -> None:
    await floor.scan()
    await floor.scan()
    at_start = floor.asked
    floor.drop("a.md")
    await floor.scan()
    await floor.scan()

    assert (at_start, floor.asked) == (1, 2)


# The order and the time of the drop


def drop_after(floor: Floor, earlier: Path, name: str) -> Path:
    """Drop a file as soon as the system's clock gives it a later time than the earlier one."""
    while (path := floor.drop(name)).lstat().st_ctime_ns <= earlier.lstat().st_ctime_ns:
        pass
    return path


async def test_files_are_taken_in_the_order_in_which_they_were_dropped(floor: Floor) -> None:
    first = floor.drop("z.md")
    second = drop_after(floor, first, "a.md")
    drop_after(floor, second, "m.md")

    scan = await floor.scan(after=10**9)

    assert scan.accepted == ["z", "a", "m"]
    ages = [floor.unit(name).accepted for name in ("z", "a", "m")]
    assert ages == sorted(set(ages))


async def test_files_of_one_moment_are_taken_by_name(floor: Floor) -> None:
    floor.drop("b.md")
    floor.drop("a.md")

    scan = await floor.scan()  # at a time before both were dropped, as after a change of the clock

    assert scan.accepted == ["a", "b"]
    assert {floor.unit(name).accepted for name in ("a", "b")} == {NOW}


async def test_an_old_file_that_was_moved_into_the_inbox_is_as_old_as_the_move(
    floor: Floor,
) -> None:
    path = floor.drop("a.md")
    os.utime(path, (0, 0))
    moved = path.lstat().st_ctime_ns // 1000
    floor.now = datetime.now(UTC) + timedelta(days=2)

    await floor.scan()

    assert floor.unit("a").accepted == datetime.fromtimestamp(0, UTC) + timedelta(
        microseconds=moved
    )


async def test_killed_while_accepting_the_unit_keeps_the_time_of_the_drop(floor: Floor) -> None:
    await floor.scan()
    floor.drop("a.md")

    killed(floor.root, "before")  # its clock says NOW
    floor.restart()
    await floor.scan(after=3600)

    assert floor.unit("a").accepted == NOW


# Half-written and slowly written files


async def test_a_file_that_a_process_still_writes_waits(floor: Floor) -> None:
    if written_to(floor.drop("a.md")) is None:
        pytest.skip("this system does not tell who writes")
    with (floor.inbox / "a.md").open("a") as writer:
        writer.write("half")
        writer.flush()
        during = await floor.scan(after=60)

    after = await floor.scan()

    assert during == Scan(again_s=STILL_S)
    assert after == Scan(accepted=["a"])


async def test_a_writer_that_came_during_the_rename_is_waited_for(floor: Floor) -> None:
    answers = iter([False, True, False])
    floor.restart(lambda path: next(answers))
    floor.drop("a.md")

    during = await floor.scan()
    after = await floor.scan()

    assert during == Scan(again_s=STILL_S)
    assert after == Scan(accepted=["a"])


async def test_where_writers_are_unknown_a_file_is_complete_once_it_stood_still(
    floor: Floor,
) -> None:
    floor.restart(lambda path: None)
    path = floor.drop("a.md", "half")
    seen = [await floor.scan(), await floor.scan(after=0.9)]
    path.write_text("half and half")
    seen += [await floor.scan(after=0.9), await floor.scan(after=0.9)]
    taken = await floor.scan(after=0.2)

    assert seen == [Scan(again_s=STILL_S)] * 4
    assert taken == Scan(accepted=["a"])
    assert [task.text for task in floor.store.select(Task)] == ["half and half"]


async def test_a_file_changed_a_moment_ago_is_looked_at_again(floor: Floor) -> None:
    path = floor.drop("a.md")
    os.utime(path, (NOW.timestamp(), NOW.timestamp()))

    assert await floor.scan(after=QUIET_S / 2) == Scan(again_s=QUIET_S)
    assert await floor.scan(after=QUIET_S) == Scan(accepted=["a"])


async def test_a_file_that_changed_after_the_pass_began_is_not_taken_before_older_ones(
    floor: Floor,
) -> None:
    older = floor.drop("a.md")
    newer = floor.drop("z.md")
    os.utime(older, (NOW.timestamp(), NOW.timestamp()))
    os.utime(newer, (NOW.timestamp() + QUIET_S, NOW.timestamp() + QUIET_S))

    assert await floor.scan(after=QUIET_S / 2) == Scan(again_s=QUIET_S)
    assert await floor.scan(after=2 * QUIET_S) == Scan(accepted=["a", "z"])


@pytest.mark.parametrize("text", ["", "\n \n", "\ufeff"])
async def test_an_empty_file_waits_for_its_text(floor: Floor, text: str) -> None:
    floor.drop("a.md", text)

    empty = await floor.scan(after=60)
    floor.drop("a.md")
    written = await floor.scan()

    assert empty == Scan(warnings=["inbox/a.md is empty: factoryd waits for its text"])
    assert written == Scan(accepted=["a"])


@pytest.mark.parametrize("lock", [".a.md.swp", ".#a.md", ".~lock.a.md#"])
async def test_a_file_that_is_open_in_an_editor_waits(floor: Floor, lock: str) -> None:
    floor.drop("a.md")
    (floor.inbox / lock).symlink_to("user@host.1234")

    editing = await floor.scan(after=60)
    (floor.inbox / lock).unlink()
    closed = await floor.scan()

    assert editing == Scan(warnings=[f"inbox/a.md waits: {lock} shows that an editor has it open"])
    assert closed == Scan(accepted=["a"])


async def test_editors_leftovers_and_dot_files_are_passed_over(floor: Floor) -> None:
    for name in (
        ".hidden.md",
        "a.md~",
        "#a.md#",
        ".a.md.swp",
        "4913",
        "a.md.tmp",
        "a.md.part",
        "~$a.md",
        ".DS_Store",
    ):
        floor.drop(name)
    (floor.inbox / ".git").mkdir()

    assert await floor.scan() == Scan()
    assert len(floor.lying()) == 9


async def test_what_is_not_a_task_file_is_left_and_said(floor: Floor) -> None:
    floor.drop("notes.txt")
    (floor.inbox / "batch").mkdir()
    (floor.inbox / "batch" / "01-a.md").write_text("# A")

    scan = await floor.scan()

    assert scan == Scan(
        warnings=[
            "factoryd does not take the folder inbox/batch: batches are not available yet",
            "factoryd does not take inbox/notes.txt: the name of a task file ends in .md",
        ]
    )
    assert (floor.inbox / "batch" / "01-a.md").exists()


async def test_a_file_that_was_taken_back_is_no_trouble(floor: Floor) -> None:
    path = floor.drop("a.md")
    floor.restart(lambda asked: path.unlink() if asked == path else False)

    assert await floor.scan() == Scan()


@pytest.mark.parametrize("name", ["x" * 237 + ".md", "x" * 252 + ".md", "é" * 120 + ".MD"])
@pytest.mark.parametrize("is_tracked", [False, True])
async def test_a_name_that_is_too_long_is_refused_once_and_others_go_on(
    floor: Floor, name: str, is_tracked: bool
) -> None:
    await floor.scan()
    floor.tracked = frozenset({name} if is_tracked else ())
    floor.drop(name)
    floor.drop("a.md")

    scans = [await floor.scan(), await floor.scan()]

    assert scans[0] == Scan(accepted=["a"], rejected=[shown(name)])
    assert scans[1] == Scan()
    (file,) = rejections.rejected(floor.intake.rejected)
    said = floor.complaint(file)
    assert f"the file's name is too long: {len(name.encode())} bytes" in said
    assert "at most 100 bytes" in said


async def test_a_file_that_cannot_be_moved_is_said_and_others_go_on(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    floor.drop("b.md")
    floor.drop("a.md")
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if path.name == "b.md":
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)

    scan = await floor.scan()

    assert scan.accepted == ["a"]
    assert scan.warnings == [
        "inbox/b.md cannot be taken (Invalid cross-device link); factoryd tries again"
    ]


# Exactly once

KILLED = """
import os, signal, sys
from datetime import datetime, UTC
from pathlib import Path
import anyio
from factory.people.escalations import Escalations
from factory.inbox.acceptance import Acceptance
from factory.inbox.intake import Intake
from factory.ground.errors import Deposed
from factory.store.journal import Event
from factory.store.sqlite import SqliteStore

root, when = Path(sys.argv[1]), sys.argv[2]

def die():
    os.kill(os.getpid(), signal.SIGKILL)

class Mortal(SqliteStore):
    def write(self, event, *records, **detail):
        if event is Event.TASK_ACCEPTED and when == "before":
            die()
        return super().write(event, *records, **detail)

async def tracked():
    return frozenset({"b.md"} if when == "tracked" else ())

class Fatal(Intake):
    def _remember(self, blobs, now):
        if blobs and when == "tracked":
            die()
        super()._remember(blobs, now)

store = Mortal(root / "store.sqlite")
intake = Fatal(
    inbox=root / "inbox", folder=root / ".factory" / "intake", store=store, tracked=tracked,
    acceptance=Acceptance(
        store=store, is_taken=lambda name: False,
        escalations=Escalations(store=store, repair=lambda *a: "", next_card=lambda count: count + 1),
    ),
    ask_writers=lambda path: False,
)
original = Path.rename
def rename(self, target):
    if when == "before-taken" and "taken" in str(target):
        die()
    return original(self, target)
Path.rename = rename
anyio.run(intake.tick, datetime(2026, 1, 1, tzinfo=UTC))
"""


def killed(root: Path, when: str) -> int:
    env = {"PATH": os.defpath, "PYTHONPATH": str(Path(__file__).parents[2])}
    argv = [sys.executable, "-c", KILLED, str(root), when]
    return subprocess.run(argv, env=env, check=False).returncode


@pytest.mark.parametrize("when", ["before", "before-taken"])
async def test_killed_while_accepting_the_next_start_has_the_unit_once(
    floor: Floor, when: str
) -> None:
    await floor.scan()
    floor.drop("a.md", "# The text\n")

    code = killed(floor.root, when)
    left = floor.lying()
    floor.restart()
    await floor.scan()

    assert code == -signal.SIGKILL
    assert len(left) == 1
    assert [task.text for task in floor.store.select(Task)] == ["# The text\n"]
    assert [unit.id for unit in floor.store.open(Unit)] == ["a"]
    assert (floor.lying(), floor.events()) == (set(), [Event.TASK_ACCEPTED])


async def test_killed_while_copying_a_tracked_file_the_next_start_has_the_unit_once(
    floor: Floor,
) -> None:
    await floor.scan()
    floor.drop("b.md")
    floor.tracked = frozenset({"b.md"})

    code = killed(floor.root, "tracked")
    floor.restart()
    scans = [await floor.scan(), await floor.scan()]

    assert code == -signal.SIGKILL
    assert [unit.id for unit in floor.store.open(Unit)] == ["b"]
    assert (scans[1], floor.events()) == (Scan(), [Event.TASK_ACCEPTED])


async def test_files_dropped_while_the_daemon_was_down_are_taken_at_start(floor: Floor) -> None:
    floor.drop("a.md")
    (floor.folder / "0123456789abcdef-b.md").write_text("# B")

    scan = await floor.scan()

    assert scan == Scan(accepted=["b", "a"])


# The same name again


async def test_the_same_name_before_its_first_attempt_replaces_the_text(floor: Floor) -> None:
    floor.drop("a.md", "# Old\n")
    await floor.scan()
    floor.drop("a.md", "---\npriority: 0\nneeds: b\n---\n# New\n")

    await floor.scan(after=5)

    unit = floor.unit("a")
    assert [each.id for each in floor.store.open(Unit)] == ["a"]
    assert (unit.title, unit.priority, unit.state, unit.accepted) == (
        "New",
        0,
        UnitState.WAITING,
        NOW,
    )
    assert [task.text for task in floor.store.select(Task)] == [
        "---\npriority: 0\nneeds: b\n---\n# New\n"
    ]
    assert floor.events() == [Event.TASK_ACCEPTED, Event.TASK_REPLACED]


async def test_the_same_name_after_an_attempt_began_is_a_new_unit(floor: Floor) -> None:
    floor.drop("a.md", "# First\n")
    await floor.scan()
    floor.put(replace(advance(floor.unit("a"), UnitState.RUNNING, now=NOW), attempt=1))
    for text in ("# Second\n", "# Third\n"):
        floor.drop("a.md", text)
        await floor.scan(after=1)
    floor.put(replace(floor.unit("a-2"), attempt=1))
    floor.drop("a.md", "# Fourth\n")

    await floor.scan(after=1)

    titles = {unit.id: unit.title for unit in floor.store.open(Unit)}
    assert titles == {"a": "First", "a-2": "Third", "a-3": "Fourth"}


async def test_the_name_of_a_part_is_a_new_unit_for_the_part_may_hold_the_proof_of_the_whole(
    floor: Floor,
) -> None:
    floor.intake.hang("big-b.md", "---\naccept: 'false'\n---\n# The part\n", now=NOW)
    floor.put(
        Unit(
            id="big",
            title="Big",
            state=UnitState.SPLIT,
            since=NOW,
            accepted=NOW,
            needs=("big-a", "big-b"),
        )
    )
    floor.drop("big-b.md", "# Somebody's own\n")

    await floor.scan()

    titles = {unit.id: unit.title for unit in floor.store.open(Unit)}
    assert titles == {"big-b": "The part", "big-b-2": "Somebody's own"}


async def test_another_name_with_the_same_slug_is_a_new_unit(floor: Floor) -> None:
    floor.drop("fix it.md")
    floor.drop("fix-it.md")

    scan = await floor.scan()

    assert scan.accepted == ["fix-it", "fix-it-2"]


async def test_files_with_names_in_other_scripts_are_units_of_their_own_and_nothing_is_lost(
    floor: Floor,
) -> None:
    texts = {
        "日本語.md": "# ログインを直す\n",
        "中文.md": "# 修复登录\n",
        "文書.md": "---\ntitle: Fix the login\n---\nx\n",
        "a b  c.md": "Do it.\n",
    }
    for name, text in texts.items():
        floor.drop(name, text)

    scan = await floor.scan()
    floor.drop("日本語.md", "# ログインを早く直す\n")
    again = await floor.scan()

    found = {}
    for spec in floor.store.select(Spec):
        found[spec.name] = (spec.unit, spec.title, text_of(floor, spec.unit))
    first = found["日本語.md"][0]
    assert sorted(scan.accepted) == ["a-b-c", "fix-the-login", "unit-0001", "unit-0002"]
    assert again.accepted == [first]
    assert found == {
        "日本語.md": (first, "ログインを早く直す", "# ログインを早く直す\n"),
        "中文.md": (
            {"unit-0001": "unit-0002"}.get(first, "unit-0001"),
            "修复登录",
            texts["中文.md"],
        ),
        "文書.md": ("fix-the-login", "Fix the login", texts["文書.md"]),
        "a b  c.md": ("a-b-c", "a b  c", "Do it.\n"),
    }


def text_of(floor: Floor, unit: str) -> str:
    task = floor.store.get(Task, unit)
    assert task
    return task.text


async def test_a_mended_text_takes_the_unit_off_its_card(floor: Floor) -> None:
    floor.drop("a.md", "---\naccept: 'true'\n---\n# A\n")
    await floor.scan()
    held = replace(
        advance(floor.unit("a"), UnitState.HELD, now=NOW), approved=("accept",), proven="c0ffee"
    )
    floor.put(held)
    floor.escalations.raise_card(already_accepted(held, "true"), now=NOW, unit=held)
    floor.drop("a.md", "---\naccept: test -e new\n---\n# A\n")

    await floor.scan(after=5)

    unit = floor.unit("a")
    assert (unit.state, unit.approved, unit.proven) == (UnitState.READY, (), "")
    assert floor.store.open(Card) == []
    assert [card.closed_why for card in floor.store.select(Card)] == [
        "its task file was saved again"
    ]


async def test_a_mended_text_takes_the_unit_off_a_cause_that_others_still_have(
    floor: Floor,
) -> None:
    floor.drop("a.md", "---\nagent: codex\n---\n# A\n")
    floor.drop("b.md", "---\nagent: codex\n---\n# B\n")
    await floor.scan()
    for name in ("a", "b"):
        missing = runtime_trouble("codex", "codex is missing")
        floor.escalations.wait(floor.unit(name), missing, now=NOW)
    floor.drop("a.md", "---\nagent: claude\n---\n# A\n")

    await floor.scan()

    unit = floor.unit("a")
    assert (unit.agent, unit.state, unit.cause, unit.why) == ("claude", UnitState.READY, "", "")
    assert [card.units for card in floor.store.open(Card)] == [("b",)]
    assert floor.unit("b").cause == "runtime:codex"


async def test_a_card_about_the_line_stays_open_when_the_text_of_its_only_unit_is_mended(
    floor: Floor,
) -> None:
    floor.drop("a.md", "# Old\n")
    await floor.scan()
    floor.escalations.raise_card(no_gate(), now=NOW)
    floor.escalations.wait(floor.unit("a"), no_gate(), now=NOW)
    floor.drop("a.md", "# New\n")

    await floor.scan()

    assert (floor.unit("a").title, floor.unit("a").state) == ("New", UnitState.READY)
    assert [(card.id, card.units) for card in floor.store.open(Card)] == [("E1", ())]


# Needs


async def test_an_unknown_need_waits(floor: Floor) -> None:
    floor.drop("add-users.md")
    floor.drop("b.md", "---\nneeds: add-user\n---\n# B\n")

    await floor.scan()

    unit = floor.unit("b")
    assert unit.state is UnitState.WAITING
    assert "add-user," in unit.why


async def test_a_unit_whose_needs_have_landed_is_ready(floor: Floor) -> None:
    floor.drop("a.md")
    await floor.scan()
    floor.put(replace(floor.unit("a"), state=UnitState.LANDED))
    floor.drop("b.md", "---\nneeds: [a]\n---\n# B\n")

    await floor.scan()

    assert floor.unit("b").state is UnitState.READY


async def test_needs_in_a_circle_are_refused_by_name(floor: Floor) -> None:
    floor.drop("a.md", "---\nneeds: [x, c]\n---\n# A\n")
    floor.drop("b.md", "---\nneeds: a\n---\n# B\n")
    await floor.scan()
    floor.drop("c.md", "---\ntitle: C\nneeds: [x, b]\n---\n")

    scan = await floor.scan()

    assert scan.rejected == ["c.md"]
    assert (
        "line 3: needs: they form a circle, so none of these units could start: c → b → a → c"
        in floor.complaint("c.md")
    )


async def test_a_unit_cannot_need_itself(floor: Floor) -> None:
    floor.drop("a.md", "---\nneeds: a\n---\n# A\n")

    assert (await floor.scan()).rejected == ["a.md"]
    assert "a → a" in floor.complaint("a.md")


async def test_a_circle_that_others_are_in_does_not_stop_a_newcomer(floor: Floor) -> None:
    floor.drop("a.md", "---\nneeds: b\n---\n# A\n")
    await floor.scan()
    floor.put(replace(floor.unit("a"), id="b", needs=("a",)))
    floor.drop("c.md", "---\nneeds: a\n---\n# C\n")

    assert (await floor.scan()).accepted == ["c"]


# What is refused


async def test_a_bad_file_is_set_aside_with_line_reason_and_form(floor: Floor) -> None:
    floor.drop("a.md", "---\npriority: high\n---\n# A\n")

    scan = await floor.scan()

    assert scan == Scan(rejected=["a.md"])
    assert (floor.inbox / "rejected" / "a.md").read_text() == "---\npriority: high\n---\n# A\n"
    assert floor.complaint("a.md") == (
        "factoryd did not accept a.md, and moved it to inbox/rejected/.\n"
        "\n"
        "line 2: priority: 'high' is not a whole number from 0 to 4\n"
        "correct form: priority: 2  # 0 now … 4 whenever\n"
        "\n"
        "Correct it and move it back into inbox/.\n"
    )
    rejected = [
        entry.detail for entry in entries_of(floor.store) if entry.event is Event.TASK_REJECTED
    ]
    assert rejected == [
        {"name": "a.md", "why": "line 2: priority: 'high' is not a whole number from 0 to 4"}
    ]
    assert floor.lying() == set()


async def test_a_second_bad_file_of_the_same_name_replaces_nothing(floor: Floor) -> None:
    for text in ("---\nfirst: 1\n---\n", "---\nsecond: 1\n---\n"):
        floor.drop("a.md", text)
        await floor.scan()

    assert "first" in (floor.inbox / "rejected" / "a.md").read_text()
    assert "second" in (floor.inbox / "rejected" / "a-2.md").read_text()
    assert "second" in floor.complaint("a-2.md")


async def test_a_mended_file_is_accepted(floor: Floor) -> None:
    floor.drop("a.md", "---\nprio: 1\n---\n# A\n")
    await floor.scan()
    rejected = floor.inbox / "rejected" / "a.md"
    assert rejections.reason(floor.intake.rejected, "a.md").startswith("line 2: unknown key 'prio'")
    rejected.write_text("---\npriority: 1\n---\n# A\n")
    assert rejections.rejected(floor.intake.rejected) == ["a.md"]
    rejected.rename(floor.inbox / "a.md")

    assert (await floor.scan()).accepted == ["a"]
    assert rejections.rejected(floor.intake.rejected) == []


async def test_symlinks_and_special_files_are_refused_and_not_followed(floor: Floor) -> None:
    secret = floor.root / "secret.md"
    secret.write_text("# Secret\n")
    (floor.inbox / "link.md").symlink_to(secret)
    (floor.inbox / "dangling.md").symlink_to("/nowhere")
    (floor.inbox / "folder.md").symlink_to(floor.root)
    os.mkfifo(floor.inbox / "pipe.md")

    scan = await floor.scan()

    assert scan == Scan(rejected=["dangling.md", "folder.md", "link.md", "pipe.md"])
    assert "a symlink or a special file" in floor.complaint("link.md")
    assert secret.read_text() == "# Secret\n"
    assert floor.store.select(Task) == []


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"x" * 1_048_577, "larger than 1024 KiB"),
        (b"# A\n\xff", "not UTF-8"),
        (b"---\ntitle: x\n", "never closed"),
    ],
)
async def test_files_that_are_no_task_are_set_aside(floor: Floor, raw: bytes, reason: str) -> None:
    (floor.inbox / "a.md").write_bytes(raw)

    assert (await floor.scan()).rejected == ["a.md"]
    assert reason in floor.complaint("a.md")


@pytest.mark.parametrize("name", [b"a\xff.md", b"a\nb.md", b"a\x1b[31m.md"])
async def test_a_name_that_cannot_be_shown_is_refused(floor: Floor, name: bytes) -> None:
    (floor.inbox / os.fsdecode(name)).write_text("# A")

    scan = await floor.scan()

    assert len(scan.rejected) == 1
    details = [
        entry.detail["name"]
        for entry in entries_of(floor.store)
        if entry.event is Event.TASK_REJECTED
    ]
    assert all(detail.isprintable() for detail in details)
    assert (floor.inbox / "rejected" / os.fsdecode(name)).exists()


# Files that git tracks


async def test_tracked_files_of_the_first_start_are_left_and_said(floor: Floor) -> None:
    floor.tracked = frozenset({"a.md"})
    path = floor.drop("a.md")
    said = [
        "inbox/a.md is tracked by git and existed at the first start, so factoryd does not take it"
    ]

    scans = [await floor.scan(), await floor.scan(after=30)]
    floor.restart()
    scans.append(await floor.scan())

    assert scans == [Scan(warnings=said)] * 3
    assert floor.asked == 2  # once a start, not once a scan
    assert (path.exists(), floor.store.select(Task)) == (True, [])


async def test_a_tracked_file_is_copied_and_taken_once_for_each_content(floor: Floor) -> None:
    await floor.scan()
    floor.tracked = frozenset({"a.md"})
    path = floor.drop("a.md", "# One\n")
    scans = [await floor.scan(), await floor.scan(after=30)]
    floor.restart()
    scans.append(await floor.scan())
    floor.put(replace(floor.unit("a"), attempt=1))
    floor.drop("a.md", "# Two\n")
    scans.append(await floor.scan())
    floor.drop("a.md", "# One\n")
    scans.append(await floor.scan())

    assert [scan.accepted for scan in scans] == [["a"], [], [], ["a-2"], []]
    assert path.read_text() == "# One\n"
    assert floor.lying() == {"a.md"}


async def test_a_bad_tracked_file_is_refused_as_a_copy(floor: Floor) -> None:
    await floor.scan()
    floor.tracked = frozenset({"a.md"})
    path = floor.drop("a.md", "---\nprio: 1\n---\n")

    scans = [await floor.scan(), await floor.scan()]

    assert scans == [Scan(rejected=["a.md"]), Scan()]
    assert path.exists()
    assert "did you mean priority?" in floor.complaint("a.md")


@pytest.mark.parametrize("first", [True, False])
async def test_a_tracked_symlink_is_left_and_said(floor: Floor, first: bool) -> None:
    if not first:
        await floor.scan()
    floor.tracked = frozenset({"a.md"})
    (floor.inbox / "a.md").symlink_to("/nowhere")

    scan = await floor.scan()

    assert scan.warnings == [
        "inbox/a.md cannot be taken (a symlink or a special file, not a plain file); factoryd tries again"
    ]


# Tasks of the factory's own


async def test_the_factory_hangs_a_task_of_its_own(floor: Floor) -> None:
    ids = [floor.intake.hang("repair-trunk.md", "---\npriority: 0\n---\n# Repair trunk\n", now=NOW)]
    floor.put(replace(floor.unit("repair-trunk"), attempt=1))
    ids.append(floor.intake.hang("repair-trunk.md", "# Repair trunk\n", now=NOW))

    assert ids == ["repair-trunk", "repair-trunk-2"]
    assert floor.unit("repair-trunk").priority == 0


async def test_ids_stay_short_when_they_are_taken(floor: Floor) -> None:
    floor.drop("x" * 70 + ".md")
    floor.drop("x" * 80 + ".md")

    scan = await floor.scan()

    assert scan.accepted == ["x" * 60, "x" * 58 + "-2"]


async def test_a_task_of_the_factorys_own_has_its_file_among_those_of_unfinished_units(
    floor: Floor,
) -> None:
    name = floor.intake.hang("repair.md", "# Mend it\n", now=NOW)

    (task,) = floor.store.select(Task, unit=name)
    (spec,) = floor.store.select(Spec, unit=name)
    assert (floor.folder / "taken" / spec.source).read_text() == task.text == "# Mend it\n"
    assert (await floor.scan()).accepted == []


async def test_what_a_file_asks_for_is_on_record_as_values_with_the_keys_that_are_not_in_force(
    floor: Floor,
) -> None:
    text = "---\naccept: make check\nminutes: 2.5\nattempts: 2\nmodel:\n---\ndo it"

    name = floor.intake.hang("fix.md", text, NOW, ("allow",))

    spec = floor.store.get(Spec, name)
    assert spec is not None
    assert spec.source.endswith("-fix.md")
    assert spec == Spec(
        unit="fix",
        name="fix.md",
        source=spec.source,
        title="fix",
        accept=("make check",),
        minutes=2.5,
        attempts=2,
        ignored=("model", "allow"),
    )
    assert floor.store.get(Task, name) == Task(unit="fix", text=text)


@pytest.mark.parametrize("side", ["before", "after"])
def test_killed_while_such_a_task_is_hung_nothing_is_on_record_and_the_card_can_be_answered_again(
    tmp_path: Path, side: str
) -> None:
    program = (
        "import sys; from pathlib import Path; from contextlib import closing; from tests.inbox.test_intake import *\n"
        "with closing(SqliteStore(Path(sys.argv[1]) / 'store.sqlite')) as store:\n"
        "    Floor(Path(sys.argv[1]), store).intake.hang('repair.md', '# Mend it', now=NOW)"
    )
    env = {
        "PATH": os.environ["PATH"],
        "FACTORY_FAULT": f"inbox.hang:{side}",
        "PYTHONPATH": str(Path.cwd()),
    }

    died = subprocess.run([sys.executable, "-c", program, tmp_path], env=env, check=False)

    with closing(SqliteStore(tmp_path / "store.sqlite")) as store:
        assert (died.returncode, store.select(Unit)) == (-signal.SIGKILL, [])
        floor = Floor(tmp_path, store)
        assert floor.unit(floor.intake.hang("repair.md", "# Mend it", now=NOW)).id == "repair"


async def test_whoever_needs_a_unit_that_was_split_already_needs_what_stands_for_it(
    floor: Floor,
) -> None:
    for name, parts in (("big", ("big-a", "x")), ("x", ("x-1", "big-a"))):
        unit = Unit(
            id=name, title=name, state=UnitState.SPLIT, since=NOW, accepted=NOW, needs=parts
        )
        floor.store.write(Event.ATTEMPT_ENDED, unit, now=NOW, unit=name)
    floor.drop("later.md", "---\nneeds: [other, big]\n---\nLater\n")

    await floor.scan()

    assert floor.unit("later").needs == ("other", "big-a", "x-1")
