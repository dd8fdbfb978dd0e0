import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import Mock

import pytest

from factory.child import process
from factory.cli import life, place
from factory.cli.main import factory, factoryd
from factory.ground.errors import FactoryError, RefusedByState
from factory.store.unit import UnitState
from tests.cli_line import Line
from tests.git_repo import git, make_repo

# A daemon for the commands' sake: it holds the lock, says so, and leaves at the n-th signal; their numbers it says.
DAEMON = """
import fcntl, signal, sys
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))
print("up", flush=True)
for _ in range(int(sys.argv[2])):
    print(int(signal.sigwait({signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP})), flush=True)
"""


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Line:
    monkeypatch.chdir(tmp_path)
    return Line(tmp_path)


def daemon_of(line: Line, *, patient: bool = False) -> subprocess.Popen[str]:
    lock = line.root / ".git" / "factoryd-lock"
    argv = [sys.executable, "-c", DAEMON, str(lock), "2" if patient else "1"]
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert child.stdout
    assert child.stdout.readline() == "up\n"
    line.fact("daemon", {"state": "running", "pid": child.pid, "lock": ".git/factoryd-lock"})
    return child


@pytest.mark.parametrize(
    ("argv", "number"),
    [([], signal.SIGTERM), (["--drain"], signal.SIGUSR1), (["--now"], signal.SIGINT)],
)
def test_stop_tells_the_daemon_how_and_returns_when_it_is_gone(
    argv: list[str], number: signal.Signals, line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    with daemon_of(line) as child:
        reaper = threading.Thread(
            target=child.wait
        )  # or it would stay a zombie, which still answers
        reaper.start()
        code = factoryd(["stop", *argv])
        reaper.join()
        assert child.stdout
        got = child.stdout.read()

    assert (code, capsys.readouterr().out) == (0, "stopped\n")
    assert got == f"{int(number)}\n"


def test_a_daemon_that_does_not_go_is_said(line: Line) -> None:
    with line.daemon(), pytest.raises(FactoryError, match="has not ended after 0 s"):
        life.leave(os.getpid(), 0, seconds=0)


def test_a_daemon_that_does_not_even_go_at_once_can_be_killed(line: Line) -> None:
    with (
        line.daemon(),
        pytest.raises(
            FactoryError, match=rf"end it: kill -9 {os.getpid()}\. The next start continues"
        ),
    ):
        life.leave(os.getpid(), 0, seconds=0, otherwise=life.BY_FORCE)


def test_drain_and_now_exclude_each_other(line: Line) -> None:
    assert factoryd(["stop", "--drain", "--now"]) == 2


def test_a_stop_says_for_whom_it_waits_and_ctrl_c_hands_back_at_once(line: Line) -> None:
    line.unit("fix-login", UnitState.RUNNING, attempt=1)
    line.hook("w1", "fix-login", 1)
    line.fact(
        "slow", ["git add (pid 7) has run for 12 s; the factory ends it after 60 s: git add -A"]
    )
    stop = "import sys; from factory.cli.main import factoryd; sys.exit(factoryd(['stop']))"
    env = {"PYTHONPATH": str(Path(__file__).parents[2])}
    with ExitStack() as ends:
        child = ends.enter_context(daemon_of(line, patient=True))
        ends.callback(child.kill)
        stopping = ends.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", stop],
                cwd=line.root,
                env=env,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        ends.callback(stopping.kill)
        assert stopping.stdout
        assert child.stdout
        said = stopping.stdout.readline()
        stopping.send_signal(signal.SIGINT)
        child.wait(timeout=30)
        rest = stopping.stdout.read()
        got = child.stdout.read().split()
        stopping.wait(timeout=30)

    slow = "git add (pid 7) has run for 12 s; the factory ends it after 60 s: git add -A"
    assert said == f"waiting for fix-login; waiting: {slow}\n"
    assert rest == "\nstopping at once; unfinished units go back to the queue\nstopped\n"
    assert (stopping.returncode, got) == (0, [str(int(signal.SIGTERM)), str(int(signal.SIGINT))])


def test_stop_with_no_daemon_and_nothing_on_record_is_fine(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    line.hook("w1")

    assert factoryd(["stop"]) == 0
    assert capsys.readouterr().out == "the daemon is not running\n"


async def test_stop_with_no_daemon_ends_the_attempts_on_record(line: Line) -> None:
    line.unit("fix", UnitState.RUNNING, attempt=1)
    line.hook("w1", "fix", 1)
    command = process.Command(
        argv=(sys.executable, "-c", "import time; time.sleep(600)"),
        cwd=line.root,
        env={"PATH": os.defpath},
        run_dir=Path(place.run_dir(str(line.root), "fix", 1)),
    )
    child = await process.start(command)
    program = "import sys; from factory.cli.main import factoryd; sys.exit(factoryd(['stop']))"

    done = await process.run(
        [sys.executable, "-c", program],
        cwd=line.root,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    ended = await child.wait()

    assert (done.code, done.out) == (
        0,
        b"the daemon is not running; ended attempts that it left: 1\n",
    )
    assert ended.cause != "exited"


def test_a_second_start_says_so_and_leaves_the_first_alone(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    with line.daemon():
        code = factoryd(["start"])

    assert (code, capsys.readouterr().out) == (0, f"already running (pid {os.getpid()})\n")


@pytest.mark.parametrize("wrong", ["settings", "trunk"])
def test_a_restart_that_would_be_refused_leaves_the_daemon_running(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_repo(tmp_path / "repo", {"a.txt": "a\n"})
    monkeypatch.chdir(root)
    (root / "factory.toml").write_text(
        "wokers = 3\n" if wrong == "settings" else "trunk = 'gone'\n"
    )
    with daemon_of(Line(root)) as child:
        code = factoryd(["restart"])
        runs = child.poll() is None
        child.send_signal(signal.SIGTERM)

    assert (code != 0, runs) == (True, True)
    assert ("wokers" if wrong == "settings" else "gone") in capsys.readouterr().err


@pytest.mark.parametrize("command", ["start", "restart"])
def test_what_runs_in_another_work_folder_is_not_lost_sight_of(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(root := make_repo(tmp_path / "repo", {"a.txt": "a\n"}))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "new"))
    (was := tmp_path / "old state/factoryd/repo-1").mkdir(parents=True)
    line = Line(root)
    line.unit("fix", UnitState.RUNNING)
    line.hook("w1", "fix", 1)
    line.fact("daemon", {"state": "running", "pid": 0, "lock": ""})
    line.fact(
        "identity", {"id": "aa", "root": str(root), "git_dir": str(root / ".git"), "work": str(was)}
    )

    assert factoryd([command]) == 3

    said = capsys.readouterr().err
    assert said.startswith(f"factoryd: fix ran in {was}, and with this HOME")
    assert f"XDG_STATE_HOME='{tmp_path}/old state', the same" in said


@pytest.mark.parametrize("number", ["many", "0", "65"])
def test_workers_takes_a_number(
    number: str, line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    assert factoryd(["start", "--workers", number]) == 2
    assert capsys.readouterr().err.startswith(
        f"factoryd: --workers {number}: it takes a whole number from 1 to 64"
    )


def test_workers_of_a_second_start_are_said_not_to_be_applied(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    with line.daemon():
        code = factoryd(["start", "--workers", "5"])

    assert code == 0
    assert (
        "--workers 5 was not applied. Write this into factory.toml: workers = 5"
        in capsys.readouterr().out
    )


def test_a_start_that_loses_the_race_says_that_one_is_running(
    line: Line, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(life, "_examine", lambda *_: None)
    monkeypatch.setattr(
        life, "command", lambda _: [sys.executable, "-c", "import sys; sys.exit(3)"]
    )
    pids = iter([0, 0, 77])
    monkeypatch.setattr(life, "_running", lambda _: next(pids))

    code = factoryd(["start"])

    assert (code, capsys.readouterr().out) == (0, "already running (pid 77)\n")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="told by /proc")
def test_a_daemon_that_nobody_has_reaped_counts_as_gone() -> None:
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.read()

        life.leave(child.pid, 0, seconds=10)


def test_a_repository_that_cannot_be_worked_with_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    monkeypatch.chdir(tmp_path)

    code = factoryd(["start"])

    assert code == 1
    assert "commit" in capsys.readouterr().err
    assert not (tmp_path / ".factory").exists()


def test_the_original_of_a_copy_is_no_factory_of_the_copys_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Line(make_repo(tmp_path / "original", {"a.txt": "a"}))
    with original.daemon():
        (original.root / ".git" / "factoryd-lock").write_text(f"{original.root}\n")
        shutil.copytree(original.root, tmp_path / "copy")
        monkeypatch.chdir(tmp_path / "copy")
        launched = Mock(return_value=0)
        monkeypatch.setattr(life, "launch", launched)

        code = factoryd(["start"])

    assert (code, launched.call_count) == (0, 1)


def test_a_linked_working_tree_is_told_where_the_factory_of_its_repository_runs(
    tmp_path: Path,
) -> None:
    original = Line(make_repo(tmp_path / "original", {"a.txt": "a"}))
    git(original.root, "worktree", "add", "-q", str(tmp_path / "linked"), "-b", "linked")
    (tmp_path / "linked" / ".factory").mkdir()
    with original.daemon():
        (original.root / ".git" / "factoryd-lock").write_text(f"{original.root}\n")

        said = refused_examination(tmp_path / "linked")

    assert f"already runs, in {original.root} (pid {os.getpid()})" in said


@pytest.fixture
def linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Line, Path]:
    """The factory of a repository, and a linked working tree of it, which is entered."""
    original = Line(make_repo(tmp_path / "original", {"a.txt": "a"}))
    tree = tmp_path / "linked"
    git(original.root, "worktree", "add", "-q", str(tree), "-b", "linked")
    monkeypatch.chdir(tree)
    return original, tree


def test_in_a_linked_working_tree_start_submit_and_status_say_which_inbox_counts(
    linked: tuple[Line, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    original, _ = linked
    note = f"this is a linked working tree: factoryd reads {original.root}/inbox/, not its inbox"
    said = {}
    with original.daemon():
        for argv in (["start"], ["submit", "HEAD"], ["status"]):
            program = factoryd if argv == ["start"] else factory
            assert program(argv) == 0
            said[argv[0]] = capsys.readouterr().out.splitlines()

    assert said["start"][1:] == [note]
    assert said["submit"][1:] == [note]
    assert note in " ".join(said["status"])


def test_task_files_in_the_inbox_of_a_linked_working_tree_are_counted(
    linked: tuple[Line, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    original, tree = linked
    for name in ("inbox/one.md", "inbox/two.md", "inbox/.three.md", "inbox/notes.txt"):
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_text("Do it.")

    factory(["status"])

    unread = "! task files in this working tree that factoryd does not read: 2"
    said = " ".join(capsys.readouterr().out.splitlines())
    assert f"{unread} (move them to {original.root}/inbox/)" in said


def test_what_is_added_in_a_linked_working_tree_goes_to_the_inbox_that_counts_and_says_so(
    linked: tuple[Line, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    original, tree = linked
    (tree / "fix.md").write_text("Do it.")

    factory(["add", "fix.md"])

    dropped = original.root / "inbox" / "fix.md"
    assert dropped.read_text() == "Do it."
    assert f"dropped as {dropped}; the next start" in capsys.readouterr().out


def test_where_another_working_tree_has_the_factory_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main = make_repo(tmp_path / "main", {"a.txt": "a"})
    git(main, "worktree", "add", "-q", str(tmp_path / "linked"), "-b", "linked")
    (tmp_path / "linked" / ".factory").mkdir()
    (main / ".git" / "factoryd-lock").write_text(f"{tmp_path}/linked\n")
    monkeypatch.chdir(main)

    code = factory(["status"])

    assert code == 1
    assert capsys.readouterr().err.splitlines() == [
        f"factory: no factory has been started in {main}; this repository has one in "
        f"{tmp_path}/linked",
        f"  to see its state: cd {tmp_path}/linked && factory status",
    ]


def refused_examination(top: Path) -> str:
    with pytest.raises(RefusedByState) as refused:
        life._examine(str(top), os.environ)
    return str(refused.value)


@pytest.mark.parametrize(
    "command", ["factoryd start", "factoryd restart", "factory status", "factory doctor"]
)
@pytest.mark.parametrize("inside", [".", "refs/heads"])
def test_a_bare_repository_is_called_bare_and_told_what_to_do(
    command: str,
    inside: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "r"], check=True)
    monkeypatch.chdir(tmp_path / "r" / inside)
    program, name = command.split()

    code = {"factoryd": factoryd, "factory": factory}[program]([name])

    said = capsys.readouterr().err
    assert code == 1
    assert f"{tmp_path}/r is a bare repository" in said
    assert "git worktree add" in said


def test_within_the_git_dir_of_a_checkout_its_checkout_is_meant(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    git_dir = line.root / ".git"
    (git_dir / "HEAD").touch()
    for folder in ("objects", "refs"):
        (git_dir / folder).mkdir(exist_ok=True)
    monkeypatch.chdir(git_dir / "refs")

    assert place.repository() == str(line.root)


def test_start_returns_when_the_daemon_is_up_and_says_what_was_inferred(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    line.fact("trunk", {"branch": "main", "commit": "c0ffee" * 6})
    line.fact(
        "inferred",
        {"gates": [{"name": "test", "command": "pytest -q", "reason": "pyproject.toml"}]},
    )
    line.fact("warnings", ["gates run unsandboxed"])
    program = f"import os; open({place.within(str(line.root), 'daemon.pid')!r}, 'w').write(str(os.getpid()))"

    code = life.launch(str(line.root), os.environ, [sys.executable, "-c", program])

    out = capsys.readouterr().out.splitlines()
    assert code == 0
    assert out[0].endswith("on main c0ffeec0ff")
    assert out[1].split() == ["gate", "test", "pyproject.toml", "pytest", "-q"]
    assert out[-2] == "  ! gates run unsandboxed"
    assert f"{line.root}/inbox/" in out[-1]


def test_a_daemon_that_gives_up_is_quoted_and_its_exit_code_kept(line: Line) -> None:
    program = "import sys; print('the branch \\x1b[31mis gone'); sys.exit(3)"

    with pytest.raises(FactoryError, match="did not start:\n  the branch is gone") as refusal:
        life.launch(str(line.root), os.environ, [sys.executable, "-c", program])

    assert refusal.value.exit_code == 3


def test_stop_waits_for_the_process_and_not_for_what_it_says(line: Line) -> None:
    with daemon_of(line) as child:
        line.fact("daemon", {"state": "stopped", "pid": child.pid})

        with pytest.raises(FactoryError, match="has not ended"):
            life.leave(child.pid, 0, seconds=0)
        child.send_signal(signal.SIGTERM)
