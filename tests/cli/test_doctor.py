"""`factory doctor` on a factory that worked: what it finds, what it mends, and a store made anew."""

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest

from factory.child import proc, process
from factory.child.process import Command
from factory.cli.main import factory, factoryd
from factory.store.journal import Event
from factory.store.records import Attempt
from factory.store.sqlite import SqliteStore
from factory.store.unit import EndReason, Unit, UnitState
from tests import printed
from tests.acceptance.line import Line
from tests.accepted import accepted
from tests.git_repo import git

NOW = datetime.now(UTC)
TASK = "---\nrun: echo made > made.txt\n---\n"


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> Line:
    """A factory that landed one unit and was stopped; `kept` beside it has its files as they were then."""
    line = Line(tmp_path_factory.mktemp("doctor") / "line")
    line.start()
    line.drop_text("first", TASK)
    line.unit("first")
    line.stop()
    forget(line)
    shutil.copytree(line.folder, kept(line), symlinks=True)
    return line


@pytest.fixture
def line(worked: Line, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """The same factory, at the same place, as if no test had touched it."""
    shutil.rmtree(worked.folder)
    shutil.copytree(kept(worked), worked.folder, symlinks=True)
    for name, value in worked.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(worked.root)
    yield worked
    if worked.daemon is not None:
        worked.stop()
    forget(worked)
    assert worked.left() == {}


def kept(line: Line) -> Path:
    return line.folder.with_name("kept")


def forget(line: Line) -> None:
    """Close the store that the line reads from: another file will be in its place."""
    if line._store is not None:
        line._store.close()
        line._store = None


def said(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, list[str]]:
    """The exit code, and what is bad, noted or mended."""
    code = factory(["doctor", *argv])
    told = capsys.readouterr().out.splitlines()
    return code, [text for text in told if text.startswith(("bad", "ok    mended"))]


def test_of_a_factory_that_worked_there_is_nothing_to_say(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(capsys) == (0, [])


@pytest.mark.parametrize("has_proc", [True, False])
def test_what_is_missing_without_proc_is_said(
    line: Line,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    *,
    has_proc: bool,
) -> None:
    monkeypatch.setattr(proc, "PROC", has_proc)

    factory(["doctor"])

    assert (
        "no /proc: a process that leaves its process group" in capsys.readouterr().out
    ) is not has_proc


def test_strays_are_found_and_mended_and_no_tree_is_lost(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    where = line.places
    git(where.git, "update-ref", "refs/factory/attempts/nobody/1", "refs/heads/main")
    lock = where.git / "refs/heads/main.lock"
    lock.touch()
    stray, bench, scratch = (
        where.work / "workspaces/w9",
        where.work / "benches/b9",
        where.work / "gate-x",
    )
    for folder in (stray / "tree", bench / "tree", scratch):
        folder.mkdir(parents=True)
    (stray / "tree/left.txt").write_text("left\n")

    code, found = said(capsys)
    assert factory(["doctor", "--json"]) == 1
    as_json = json.loads(capsys.readouterr().out)
    fixed, mended = said(capsys, "--fix")

    printed.check("doctor", as_json)
    ((says, fix),) = [(e["says"], e["fix"]) for e in as_json["found"] if e["grade"] == "bad"]
    assert (as_json["ok"], fix, says in found[0]) == (False, "factory doctor --fix", True)
    assert (code, len(found)) == (1, 1)
    assert f"{lock} was left behind by a killed git" in found[0]
    assert (fixed, len(mended)) == (0, 4)
    assert [path.exists() for path in (lock, stray, bench, scratch)] == [
        False,
        False,
        False,
        True,
    ]  # gates may run
    (archive, *_) = git(
        where.git, "for-each-ref", "--format=%(refname)", "refs/factory"
    ).splitlines()
    listed = git(where.git, "log", "--first-parent", "--format=%B", archive)
    assert {text.split()[0] for text in listed.splitlines() if "/" in text} == {
        "nobody/1",
        "rescue/w9",
    }
    assert said(capsys) == (0, [])


async def start(line: Line, run_dir: Path) -> process.Child:
    env = {"PATH": os.environ["PATH"]}
    child = await process.start(
        Command(argv=("sleep", "600"), cwd=line.folder, env=env, run_dir=run_dir)
    )
    while not (run_dir / "start.json").exists():  # noqa: ASYNC110 - another process makes it
        await anyio.sleep(0.01)
    return child


def test_what_runs_of_an_attempt_that_is_over_is_ended(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = line.places.run_dir("first", 1)
    child = anyio.run(start, line, run_dir)

    code, found = said(capsys)
    fixed, mended = said(capsys, "--fix")

    assert (code, [text.partition(".")[0] for text in found]) == (
        1,
        ["bad   Something of first/1, which is over, still runs"],
    )
    assert (fixed, len(mended)) == (0, 1)
    assert anyio.run(process.adopt, run_dir) is not child
    assert not process.living(f"FACTORY_RUN={run_dir}")


def test_what_the_store_and_git_say_otherwise_is_told_with_what_mends_it(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(SqliteStore(line.places.store)) as store:
        first = store.get(Unit, "first")
    assert first is not None
    unit = replace(first, id="second", commit="1" * 40)
    queued = replace(
        unit, id="third", state=UnitState.QUEUED, submission="2" * 40, commit="", landed=None
    )
    attempt = Attempt(
        unit="third",
        number=1,
        worker="w1",
        agent="run",
        start=NOW,
        end=NOW,
        reason=EndReason.SUBMITTED,
        commit="2" * 40,
        base=git(line.root, "rev-parse", "main"),
    )
    again = replace(unit, id="first", state=UnitState.QUEUED, commit="", landed=None)
    with closing(SqliteStore(line.places.store)) as store:
        store.write(
            Event.FACT_CHANGED,
            unit,
            queued,
            again,
            attempt,
            *accepted("third", TASK, source="3-third.md"),
            now=NOW,
        )

    code, found = said(capsys)

    assert code == 1
    assert [text.split(",")[0].split("(")[0].strip() for text in found] == [
        "bad   main holds first",
        "bad   second has landed on record",
        "bad   What was submitted of third is not in git any more. Next: factoryd restart",
    ]


def test_a_missing_factory_repository_is_said_and_made_anew(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    line.places.git.rename(line.folder / "elsewhere")

    code, found = said(capsys)
    said(capsys, "--fix")

    assert (code, "is missing, and with it the work of attempts" in found[0]) == (1, True)
    assert git(line.places.git, "rev-parse", "main") == git(line.root, "rev-parse", "main")


def test_a_damaged_factory_repository_is_said(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = git(line.places.git, "rev-parse", "main^{tree}")
    loose = line.places.git / "objects" / tree[:2] / tree[2:]
    for pack in (line.places.git / "objects/pack").glob("pack-*"):
        pack.unlink()
    loose.unlink(missing_ok=True)

    code, found = said(capsys)

    assert code == 1
    assert "The factory repository is damaged" in found[0]


def test_what_git_cannot_use_is_named_with_the_command_that_mends_it(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    objects = line.root / ".git/objects"
    taken = next(
        path for path in (objects / f"{number:02x}" for number in range(256)) if not path.exists()
    )
    taken.touch()
    assert said(capsys) == (
        1,
        [f"bad   {taken} is in the place of a folder. To fix it: mv {taken} {taken}.aside"],
    )

    taken.unlink()
    theirs = line.places.git / "objects/pack"
    if os.geteuid() == 0:  # who may use everything: asked about is the owner of .factory
        os.chown(line.places.home, 65534, 65534)
        for path in (
            line.root / ".git",
            *(line.root / ".git").rglob("*"),
            *line.places.git.rglob("*"),
        ):
            os.chown(path, 65534, 65534)
        os.chown(theirs, 0, 0)
        trouble = "cannot be written by nobody: it belongs to root"
        mend = f"sudo chown -R nobody {line.places.git}"
    else:
        theirs.chmod(0o500)
        trouble, mend = "cannot be written by", f"chmod -R u+rwX {line.places.git}"
    code, found = said(capsys)

    assert code == 1
    assert (trouble in found[0], mend in found[0]) == (True, True)
    for path in (
        line.places.home,
        *(line.root / ".git").rglob("*"),
        line.root / ".git",
        *line.places.git.rglob("*"),
    ):
        os.chown(path, os.geteuid(), os.getegid())
    theirs.chmod(0o700)
    assert said(capsys) == (0, [])


def test_nothing_is_mended_behind_the_back_of_a_daemon(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    line.start()

    assert [factory(["doctor", option]) for option in ("--fix", "--rebuild")] == [3, 3]
    assert said(capsys) == (0, [])


def test_both_options_at_once_are_refused(line: Line) -> None:
    assert factory(["doctor", "--fix", "--rebuild"]) == 2
    assert factory(["doctor", "--json", "--rebuild"]) == 2


# ── a store made anew ──


def test_a_whole_store_is_not_rebuilt(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    before = line.places.store.read_bytes()

    assert factory(["doctor", "--rebuild"]) == 3
    assert "is not damaged: there is nothing to rebuild" in capsys.readouterr().err
    assert line.places.store.read_bytes() == before


@pytest.mark.parametrize("how", ["damaged", "deleted", "foreign"])
def test_without_its_store_a_start_stops_and_names_the_way_back_by_which_all_goes_on(
    how: str, line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    line.drop_text("second", "---\nrun: echo made > second.txt\n---\n")
    forget(line)
    store = line.places.store
    content = store.read_bytes()
    store.unlink()
    if how == "foreign":
        with closing(sqlite3.connect(store)) as con:
            con.execute("CREATE TABLE theirs (x)")
    elif how == "damaged":
        store.write_bytes(content[:4096] + b"\xff" * 8192)
    ruined = store.read_bytes() if store.exists() else b""

    code = factoryd(["start"])
    assert (code, "factory doctor --rebuild" in capsys.readouterr().err) == (1, True)
    assert (store.read_bytes() if store.exists() else b"") == ruined
    assert said(capsys)[0] == 1

    assert factory(["doctor", "--rebuild"]) == 0
    told = capsys.readouterr().out
    assert "a new store: 1 landed" in told
    assert ("the old one is" in told) == bool(ruined)
    aside = list(line.places.home.glob("store.sqlite.damaged-*"))
    assert [path.read_bytes() for path in aside] == ([ruined] if ruined else [])

    line.start()
    line.until("the second lands", lambda: "second" in git(line.root, "log", "--format=%B"))
    assert git(line.root, "log", "--format=%(trailers:key=Factory-Unit,valueonly)").split() == [
        "second",
        "first",
    ]
    line.stop()
    assert said(capsys)[0] == 0


def test_killed_while_it_puts_the_new_store_in_place_it_is_done_again(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    forget(line)
    store = line.places.store
    store.rename(store.with_name("store.sqlite.damaged-1"))
    store.with_name("store.sqlite.rebuilt").write_bytes(b"half")

    assert factoryd(["start"]) == 1
    assert factory(["doctor", "--rebuild"]) == 0

    with closing(SqliteStore(store)) as again:
        assert [unit.id for unit in again.select(Unit)] == ["first"]


def test_a_first_start_that_was_killed_before_it_had_a_repository_goes_on(
    line: Line, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    fresh = Line(tmp_path / "other")
    (fresh.root / ".factory").mkdir()
    SqliteStore(fresh.root / ".factory/store.sqlite").close()

    fresh.start()
    fresh.stop()

    assert fresh.places.git.is_dir()
