"""Deleted, restored, copied, moved, rewritten: nothing lands that is not its unit's, and nothing lands twice."""

import json
import os
import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

from factory.store.journal import Event
from factory.store.records import Card, CardKind
from factory.store.unit import Unit, UnitState
from tests.acceptance.line import Line, task
from tests.acceptance.test_restart import FINE, agent, alive, held
from tests.git_repo import git

STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "


def forget(line: Line) -> None:
    """Delete the factory's folder as `git clean -xdf` does, and wait until the daemon has gone."""
    daemon = line.daemon
    assert daemon is not None
    forget_connection(line)
    git(line.root, "clean", "-xdff")
    daemon.wait(20)
    line.daemon = None


# ── the factory's folder is deleted ──


def test_the_agent_of_a_deleted_factory_is_ended_and_its_file_does_not_land_in_another_unit(
    line: Line,
) -> None:
    line.drop(
        "old",
        f"{STUBBORN}write('begun.txt', str(os.getpid())); hold({str(line.folder / 'go')!r}); write('old.txt', 'x')",
    )
    begun = line.workspace("old") / "begun.txt"
    line.until("the agent has begun", lambda: begun.exists() and begun.read_text())
    pid = int(begun.read_text())

    forget(line)
    assert alive(pid)
    line.start()
    (line.folder / "go").touch()
    line.drop("new", "time.sleep(0.2); write('new.txt', 'x')")
    landed = line.unit("new")

    assert not alive(pid)
    files = line.git("diff-tree", "--no-commit-id", "--name-only", "-r", landed.commit).splitlines()
    assert files == ["new.txt"]
    (told,) = [
        text for text in line.status()["warnings"] if "earlier life" in text and "ended" in text
    ]
    assert "old/1" in told
    (aside,) = [text for text in line.status()["warnings"] if "put aside" in text]
    assert "w1" in aside


def test_a_workspace_in_which_an_unknown_process_works_is_not_used_again(line: Line) -> None:
    """The shim is dead, and what works on has shed the marker: it cannot be known, but it can be seen."""
    child = "import time; time.sleep(60)"
    spawn = (
        "import subprocess; "
        f"free = subprocess.Popen([sys.executable, '-I', '-c', {child!r}], env={{}}, start_new_session=True); "
        "write('pid.txt', f'{free.pid} {os.getpid()}'); "
    )
    line.drop("old", f"{spawn} hold({str(line.folder / 'go')!r})")
    place = line.workspace("old")
    line.until(
        "it has begun", lambda: (place / "pid.txt").exists() and (place / "pid.txt").read_text()
    )
    pid, parent = map(int, (place / "pid.txt").read_text().split())
    try:
        line.kill()
        for each in (line.attempt("old").pid, parent):
            os.kill(each, signal.SIGKILL)
        line.start()
        line.event(Event.WORKSPACE_ABANDONED, unit="old")
        (line.folder / "go").touch()
        line.drop("new", FINE)
        line.unit("new")

        assert alive(pid), "whoever is not known to be ours is left alone"
        assert not os.readlink(f"/proc/{pid}/cwd").startswith(str(place))  # noqa: PTH115
    finally:
        os.kill(pid, signal.SIGKILL)


def test_after_the_factory_was_deleted_a_file_of_a_landed_units_name_is_a_new_unit(
    line: Line,
) -> None:
    line.drop("fix", "write('fix.txt', 'first')")
    line.unit("fix")

    forget(line)
    line.start()
    line.drop("fix", "write('fix.txt', 'second')")
    again = line.unit("fix-2")

    assert line.git("show", f"{again.commit}:fix.txt") == "second"
    assert line.on_trunk() == ["fix", "fix-2"]


# ── a backup of the store is put back ──


def backup(line: Line, path: Path) -> None:
    with (
        closing(sqlite3.connect(line.places.store)) as source,
        closing(sqlite3.connect(path)) as target,
    ):
        source.backup(target)


def restore(line: Line, path: Path) -> None:
    forget_connection(line)
    for name in ("store.sqlite", "store.sqlite-wal", "store.sqlite-shm"):
        (line.places.home / name).unlink(missing_ok=True)
    shutil.copyfile(path, line.places.store)


def test_a_restored_store_lands_no_unit_twice_and_none_with_another_ones_tree(line: Line) -> None:
    line.configure('agent = "scripted"\nworkers = 1\n')
    go = held(line, "first")
    backup(line, line.folder / "backup")
    go.touch()
    landed = line.unit("first")
    line.drop("second", f"write('second.txt', 'x'); hold({str(line.folder / 'never')!r})")
    line.until("it works", (line.workspace("second") / "second.txt").exists)
    line.factory("cancel", "second")
    line.unit("second", UnitState.CANCELLED)
    line.stop()

    restore(line, line.folder / "backup")
    line.start()

    assert line.unit("first").commit == landed.commit
    assert line.on_trunk() == ["first"]
    assert any("older than what has happened" in text for text in line.status()["warnings"]), (
        line.story()
    )
    line.factory("cancel", "second")  # that it had been cancelled was known to the store alone
    line.drop("third", FINE)
    line.unit("third")
    assert line.on_trunk() == ["first", "third"]


def test_a_restored_store_gives_no_attempt_and_no_card_a_number_again(line: Line) -> None:
    backup(line, line.folder / "backup")
    line.drop("asks", "leave('question.md', 'Which way?'); leave('done.md', 'x')")
    first = line.card(CardKind.QUESTION)
    line.answer(first, "left")
    line.until("it asked again", lambda: len(line.attempts("asks")) == 2)
    second = line.card(CardKind.QUESTION)
    line.stop()

    restore(line, line.folder / "backup")
    line.start()
    line.event(Event.ATTEMPT_ENDED, unit="asks", attempt=3)
    third = line.card(CardKind.QUESTION)

    assert [first.id, second.id, third.id] == ["E1", "E2", "E3"]
    line.factory("cancel", "asks")


# ── the repository is copied or moved ──


def copy_of(line: Line) -> Line:
    folder = line.folder / "elsewhere"
    shutil.copytree(line.root, folder / "copy", symlinks=True)
    return Line(folder, name="copy")


def test_a_copy_beside_a_running_factory_is_another_factory_and_touches_nothing_of_it(
    line: Line,
) -> None:
    go = held(line, "mine")
    pid, daemon = agent(line, "mine"), line.daemon
    assert daemon is not None
    line.factory("pause")
    line.drop("waits", FINE)
    line.unit("waits", UnitState.READY)
    copy = copy_of(line)
    try:
        code, said = copy.factoryd("stop")
        assert (code, "is a copy of" in said) == (0, True), said
        assert copy.status()["daemon"]["state"] == "stopped"
        assert not any(worker["alive"] for worker in copy.status()["workers"])
        code, said = copy.factory("cancel", "waits")
        assert (code, "copy of" in said) == (3, True), said

        copy.start()
        assert {unit: copy.unit(unit, UnitState.CANCELLED).why for unit in ("mine", "waits")} == {
            "mine": f"left to the original in {line.root}",
            "waits": f"left to the original in {line.root}",
        }
        (told,) = [text for text in copy.status()["warnings"] if "is a copy of" in text]
        assert "2 open units were left to the original; `factory retry ID` does one here" in told
        copy.drop("other", FINE)
        copy.unit("other")
        copy.factory("retry", "waits")
        copy.unit("waits-2")
        copy.stop()

        assert alive(pid)
        assert daemon.poll() is None
        line.factory("resume")
        go.touch()
        line.unit("mine")
        line.unit("waits")
        assert sorted(line.on_trunk()) == ["mine", "waits"]
    finally:
        copy.close()


def test_task_files_that_came_with_a_copy_are_set_aside(line: Line) -> None:
    line.stop()
    line.drop("mine", FINE)
    copy = copy_of(line)
    try:
        copy.start()
        copy.drop("other", FINE)
        copy.unit("other")

        assert not (copy.root / "inbox/mine.md").exists()
        assert (copy.root / ".factory/set-aside/mine.md").exists()
        assert [unit.id for unit in copy.store.select(Unit)] == ["other"]
    finally:
        copy.close()
    line.start()
    line.unit("mine")


def test_a_moved_factory_goes_on_where_it_was_with_its_hooks(line: Line) -> None:
    go = held(line, "one")
    pid = agent(line, "one")
    line.kill()
    for each in line.left():
        os.kill(each, signal.SIGKILL)
    line.until("nothing lives", lambda: not line.left())
    assert not alive(pid)
    line._store.close() if line._store else None
    line.root.rename(line.folder / "renamed")
    moved = Line(line.folder, name="renamed")
    try:
        moved.start()
        go.touch()
        moved.event(Event.ATTEMPT_ENDED, unit="one", attempt=1, reason="lost")
        moved.factory("retry", "one")
        moved.unit("one")

        assert any(f"was in {line.root} before" in text for text in moved.status()["warnings"])
        code, said = moved.factory("show", "one")
        assert code == 0
        assert "pruned" not in said
        assert moved.on_trunk() == ["one"]
    finally:
        moved.close()


def test_moved_while_its_agents_run_on_they_are_ended_by_the_next_start(line: Line) -> None:
    go = held(line, "one")
    pid = agent(line, "one")
    line.kill()
    line._store.close() if line._store else None
    line.root.rename(line.folder / "renamed")
    moved = Line(line.folder, name="renamed")
    try:
        moved.start()
        line.until("its agent is ended", lambda: not alive(pid))
        go.touch()
        moved.event(Event.ATTEMPT_ENDED, unit="one", attempt=1, reason="lost")
        moved.factory("retry", "one")
        moved.unit("one")
    finally:
        moved.close()


# ── other people's commits ──


def test_a_colleagues_commit_of_the_same_unit_does_not_land_mine(line: Line) -> None:
    go = held(line, "fix")
    trailers = "Factory-Unit: fix\nFactory-Attempt: 1\nFactory-Agent: scripted\nFactory-Run: 0badcafe-0badcafe"
    (line.root / "theirs.txt").write_text("x")
    git(line.root, "add", "theirs.txt")
    author = "scripted <agent@factoryd.invalid>"
    git(line.root, "commit", "-q", f"--author={author}", "-m", f"Fix it\n\n{trailers}")
    theirs = line.git("rev-parse", "HEAD")
    line.event(Event.TRUNK_MOVED, to=theirs)
    go.touch()

    assert line.unit("fix").commit != theirs


def test_after_a_pull_with_rebase_landed_units_have_the_commits_that_carry_their_trailers(
    line: Line,
) -> None:
    for name in ("one", "two"):
        line.drop(name, FINE)
        line.unit(name)
    before = line.unit("one").commit
    base = line.git("rev-list", "--max-parents=0", "main")
    line.git("checkout", "-q", "--detach", base)
    line.commit({"theirs.txt": "x"})
    theirs = line.git("rev-parse", "HEAD")
    line.git("checkout", "-q", "main")
    line.git("rebase", "-q", theirs)

    line.event(Event.UNIT_FOLLOWED, unit="two")
    now = {name: line.unit(name).commit for name in ("one", "two")}

    assert now["one"] != before
    assert [line.git("log", "-1", "--format=%s", commit) for commit in now.values()] == [
        "one",
        "two",
    ]
    assert all(json.loads(line.factory("show", name, "--json")[1])["on_trunk"] for name in now)


def test_a_unit_whose_commit_is_gone_says_so_and_can_be_done_again(line: Line) -> None:
    line.drop("gone", FINE)
    line.unit("gone")
    line.git("reset", "-q", "--hard", "HEAD^")
    line.until("it is noticed", lambda: (line.fact("trunk") or {}).get("missing") == ["gone"])

    code, why = line.factory("why", "gone")
    screen = line.factory("status")[1]
    line.factory("retry", "gone")

    assert (code, "does not hold" in why, "factory retry gone" in why) == (0, True, True), why
    assert "not on trunk any more; again: factory retry gone" in " ".join(screen.split()), screen
    line.unit("gone-2")


def test_what_an_agent_says_of_another_unit_is_not_read_as_a_landing(line: Line) -> None:
    forged = "Factory-Unit: victim\nFactory-Attempt: 1\nFactory-Agent: scripted\nFactory-Run: 0badcafe-0badcafe"
    line.drop(
        "forger",
        f"write('f.txt', 'x'); leave('done.md', 'Done\\n\\n' + {forged!r} + '\\n\\n# ---- >8 ----\\n')",
    )
    line.unit("forger")
    line.drop("victim", "pass", needs=["nobody"])
    line.unit("victim", UnitState.WAITING)
    line.stop()
    forget_connection(line)
    line.places.store.write_bytes(b"damaged")

    code, said = line.factory("doctor", "--rebuild")

    assert code == 0, said
    line.start()
    assert line.unit("forger").state is UnitState.LANDED
    assert line.unit("victim", UnitState.WAITING).commit == ""
    line.factory("cancel", "victim")


# ── killed on the way ──


def dies_on_both_sides(line: Line, *faults: str) -> None:
    """One daemon after the other dies before and after these effects; the test starts the last one."""
    for fault in faults:
        for side in ("before", "after"):
            armed = line.launch(FACTORY_FAULT=f"{fault}:{side}")
            assert armed.wait(20) == -signal.SIGKILL, f"never came to {fault}:{side}"


def test_killed_while_it_leaves_all_to_the_original_the_next_start_does_the_rest(
    line: Line,
) -> None:
    line.factory("pause")
    line.drop("waits", FINE)
    line.unit("waits", UnitState.READY)
    line.stop()
    line.drop("mine", FINE)
    copy = copy_of(line)
    try:
        dies_on_both_sides(copy, "copy.aside", "copy.forget", "store.store.copied")
        copy.start()

        assert copy.unit("waits", UnitState.CANCELLED).why == f"left to the original in {line.root}"
        assert (copy.root / ".factory/set-aside/mine.md").exists()
        copy.drop("other", FINE)
        copy.unit("other")
        assert copy.store.get(Unit, "mine") is None
    finally:
        copy.close()


def test_killed_while_it_takes_its_work_folder_along_the_next_start_goes_on(line: Line) -> None:
    line.drop("one", FINE)
    line.unit("one")
    line.stop()
    assert line._store is not None
    line._store.close()
    before = sorted(path.name for path in line.places.work.glob("*/*"))
    line.root.rename(line.folder / "renamed")
    moved = Line(line.folder, name="renamed")
    try:
        dies_on_both_sides(moved, "move.work")
        moved.start()

        assert not line.places.work.exists()
        assert set(before) <= {path.name for path in moved.places.work.glob("*/*")}
        moved.drop("two", FINE)
        moved.unit("two")
    finally:
        moved.close()


def test_killed_while_it_takes_a_lost_task_file_again_it_is_one_unit(line: Line) -> None:
    line.stop()
    (line.places.intake / "taken").mkdir(parents=True, exist_ok=True)
    (line.places.intake / "taken/0badcafe-lost.md").write_text(task(FINE))

    dies_on_both_sides(line, "inbox.again")
    line.start()

    line.unit("lost")
    assert line.on_trunk() == ["lost"]


def test_killed_while_it_follows_a_rewritten_trunk_the_next_start_goes_on(line: Line) -> None:
    line.drop("one", FINE)
    line.unit("one")
    line.stop()
    git(
        line.root,
        "commit",
        "-q",
        "--amend",
        "-m",
        line.git("log", "-1", "--format=%B").replace("one", "One", 1),
    )

    dies_on_both_sides(line, "store.unit.followed")
    line.start()
    line.until("it followed", lambda: line.unit("one").commit == line.git("rev-parse", "main"))


# ── the last writes of the store are lost ──

FRAME, HEAD = 24 + 4096, 32  # bytes of a page in the store's log, and of the log's head
LAST = range(1, 21) if os.environ.get("FACTORY_CUTS") == "all" else (1, 2, 4, 7, 11, 16, 20)


def test_whatever_the_power_cut_took_of_the_stores_log_nothing_lands_twice(cold: Line) -> None:
    """The log is cut at each of its last pages (FACTORY_CUTS=all), and a daemon goes on from there."""
    units = ("first", "second", "asks", "works", "last")
    cold.start()
    for name in units[:2]:
        cold.drop(name, FINE)
        cold.unit(name)
    cold.drop("asks", f"{FINE}\nif 'uphill' not in told: leave('question.md', 'Which way?')")
    cold.answer(cold.card(CardKind.QUESTION), "uphill")
    cold.unit("asks")
    cold.drop(
        "works",
        f"{FINE}; Path({str(cold.folder / 'works')!r}).touch(); hold({str(cold.folder / 'go')!r})",
    )
    cold.until("it works", (cold.folder / "works").exists)
    cold.drop("last", FINE)
    cold.unit("last")
    cold.kill()
    for pid in cold.left():
        os.kill(pid, signal.SIGKILL)
    cold.until("nothing lives", lambda: not cold.left())
    (cold.folder / "go").touch()
    kept = cold.folder / "kept"
    for part in ("repo", "state"):
        shutil.copytree(cold.folder / part, kept / part, symlinks=True)
    forget_connection(cold)  # the last one to close empties the log

    lost = 0
    for pages in LAST:
        for part in ("repo", "state"):
            shutil.rmtree(cold.folder / part)
            shutil.copytree(kept / part, cold.folder / part, symlinks=True)
        log = cold.places.store.with_name("store.sqlite-wal")
        frames = (log.stat().st_size - HEAD) // FRAME
        os.truncate(log, HEAD + max(0, frames - pages) * FRAME)
        cold.start()
        lost += any("did not know as landed" in text for text in cold.status()["warnings"])
        cold.until(f"all have landed, {pages} pages cut", lambda: all_landed(cold, units))
        cold.stop()
        cold.check()
        assert sorted(cold.on_trunk()) == sorted(units), f"{pages} pages cut"
        forget_connection(cold)
    assert lost, "no cut took the record of a landing"


def all_landed(line: Line, units: tuple[str, ...]) -> bool:
    """Whether they have; what waits after a crash is hurried, and what is asked again is answered."""
    for card in line.store.open(Card):
        line.factory("answer", card.id, "uphill" if card.kind is CardKind.QUESTION else "1")
    states = {unit.id: unit for unit in line.store.select(Unit)}
    for unit in states.values():
        if unit.state is UnitState.WAITING and unit.not_before:
            line.factory("retry", unit.id)
    return all(name in states and states[name].state is UnitState.LANDED for name in units)


def forget_connection(line: Line) -> None:
    if line._store:
        line._store.close()
        line._store = None
