"""Children for real: what they print, how they end, what they leave behind, and who may be signalled."""

import fcntl
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from factory.child import identity, proc, process
from factory.child.process import Child, Command, Exit, Watch, adopt, end, run, start

ROOT = str(Path(process.__file__).parents[2])
ENV = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}


class Shell:
    """Commands in a scratch folder, and a pipe by which they tell how far they are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run_dir = folder / "run"
        self.signs = folder / "signs"
        self.go = folder / "go"
        os.mkfifo(self.signs)
        os.mkfifo(self.go)

    def python(self, code: str) -> Command:
        return self.argv(sys.executable, "-I", "-S", "-c", code)

    def script(self, script: str) -> Command:
        return self.argv("sh", "-c", script)

    def argv(self, *argv: str) -> Command:
        return Command(argv=argv, cwd=self.folder, env=ENV, run_dir=self.run_dir, grace_s=0.1)

    async def sign(self) -> str:
        """The next line that a command writes into `signs`."""
        return (await to_thread.run_sync(self.signs.read_text)).strip()

    async def let_go(self) -> None:
        """Let a command that reads `go` go on."""
        await to_thread.run_sync(self.go.write_text, "on\n")

    def output(self) -> bytes:
        return (self.run_dir / "output.log").read_bytes()


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    anyio.run(end, shell.run_dir)


@pytest.fixture(params=[True, False], ids=["pidfd", "fallback"])
def waiter(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "PIDFD", request.param)
    monkeypatch.setattr(identity, "POLL_SECONDS", 0.01)


async def ran(command: Command) -> Exit:
    with anyio.fail_after(30):
        return await (await start(command)).wait()


def dead(pid: int) -> bool:
    return proc.stat(pid)[:1] in ([], ["Z"])


def gone(pid: int) -> bool:
    """Whether a process that was killed ends: a signal has been sent before it has had its effect."""
    deadline = time.monotonic() + 5
    while not dead(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return dead(pid)


# ── short commands


def watch(pids: list[int], seconds: float) -> Watch:
    until = time.monotonic() + seconds
    return Watch(pids.append, lambda: until - time.monotonic())


async def test_a_short_command_gives_its_output_and_code() -> None:
    pids: list[int] = []

    done = await run(
        ["sh", "-c", "cat; echo oops >&2; exit 3"],
        env=ENV,
        stdin=b"\xff\0",
        seconds=watch(pids, 60),
    )

    assert done == process.Output(3, b"\xff\0", b"oops\n")
    assert pids
    assert gone(pids[0])


async def test_a_short_command_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        await run(["no-such-command"], env=ENV)


async def test_a_short_command_that_takes_too_long_is_ended_with_all_of_its_group(
    shell: Shell,
) -> None:
    script = f"echo half; sleep 60 & echo $! > {shell.folder}/child; wait"

    done = await run(["sh", "-c", script], env=ENV, seconds=0.2)

    assert done == process.Output(-signal.SIGTERM, b"half\n", b"", over=True)
    assert gone(int((shell.folder / "child").read_text()))


async def test_one_that_does_not_end_when_it_is_asked_to_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "TIDY_SECONDS", 0.05)

    done = await run(["sh", "-c", "trap '' TERM; while :; do sleep 1; done"], env=ENV, seconds=0.1)

    assert (done.code, done.over, done.left) == (-signal.SIGKILL, True, False)


async def test_what_left_the_group_with_its_pipes_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("TIDY_SECONDS", "LADDER_SECONDS"):
        monkeypatch.setattr(process, name, 0.05)
    code = "import os, time; pid = os.fork(); pid or os.setsid(); pid and print(pid, flush=True); time.sleep(60)"

    done = await run([sys.executable, "-I", "-S", "-c", code], env=ENV, seconds=0.5)
    outside = int(done.out)

    assert (done.code, done.over) == (-signal.SIGTERM, True)
    assert not dead(outside)
    os.kill(outside, signal.SIGKILL)


async def test_one_that_cannot_be_ended_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    pids: list[int] = []
    monkeypatch.setattr(
        "factory.child.process._end_group", lambda child, number: None
    )  # as with one that waits for a disk
    for name in ("TIDY_SECONDS", "LADDER_SECONDS"):
        monkeypatch.setattr(process, name, 0.05)

    done = await run(["sleep", "60"], env=ENV, seconds=watch(pids, 0.1))

    assert (done.over, done.left) == (True, True)
    os.kill(pids[0], signal.SIGKILL)
    await to_thread.run_sync(os.waitpid, pids[0], 0)


async def test_its_limit_may_be_brought_forward_while_it_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "TICK_SECONDS", 0.01)
    left = [60.0, 60.0, 0.0]

    done = await run(["sleep", "60"], env=ENV, seconds=Watch(lambda _: None, lambda: left.pop(0)))

    assert (done.over, left) == (True, [])


async def test_where_its_start_cannot_be_told_it_is_ended_at_once() -> None:
    pids: list[int] = []

    def started(pid: int) -> None:
        pids.append(pid)
        raise RuntimeError("no room for the record")

    with pytest.raises(RuntimeError, match="no room"):
        await run(["sleep", "60"], env=ENV, seconds=Watch(started, lambda: 60))

    assert gone(pids[0])


# ── how a supervised command ends


async def test_output_and_exit_code_are_kept(shell: Shell) -> None:
    ended = await ran(shell.script("printf '\\000\\377'; echo oops >&2; exit 7"))

    assert replace(ended, at=ended.at, seconds=0) == Exit(cause="exited", code=7, at=ended.at)
    assert shell.output() == b"\0\xffoops\n"


@pytest.mark.skipif(
    not hasattr(fcntl, "F_SETPIPE_SZ"), reason="pipes are as large as the system makes them"
)
async def test_what_is_written_at_once_and_not_waited_for_is_kept(shell: Shell) -> None:
    code = [
        "import fcntl, os, time; end = time.monotonic() + 10",
        "while fcntl.fcntl(1, fcntl.F_GETPIPE_SZ) < 1 << 20 and time.monotonic() < end: time.sleep(0.001)",
        "os.set_blocking(1, False); os.write(1, b'x' * 900_000)",
    ]

    await ran(shell.python("\n".join(code)))

    assert len(shell.output()) == 900_000


async def test_a_signal_that_ended_the_command_is_told(shell: Shell) -> None:
    ended = await ran(shell.script("kill -KILL $$"))

    assert (ended.cause, ended.code, ended.signal) == ("exited", None, signal.SIGKILL)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"argv": ("no-such-command",)}, "No such file or directory: no-such-command"),
        ({"argv": ("/dev/null",)}, "Permission denied: /dev/null"),
        ({"argv": ("true", "x" * 200_000)}, "Argument list too long: true"),
        ({"argv": ("true", "a\0b")}, "embedded null byte"),
        ({"cwd": Path("/no/such/folder")}, "No such file or directory: /no/such/folder"),
        ({"stdin": Path("/no/such/file")}, "No such file or directory: /no/such/file"),
        ({"env": {"BIG": "x" * 200_000}}, "Argument list too long: true"),
    ],
)
async def test_a_command_that_cannot_be_started_says_why(
    shell: Shell, changed: dict[str, object], reason: str
) -> None:
    ended = await ran(replace(shell.argv("true"), **changed))  # type: ignore[arg-type]

    assert (ended.cause, ended.code, ended.detail) == ("unstartable", None, reason)


async def test_the_environment_is_the_given_one_and_the_marker(shell: Shell) -> None:
    await ran(shell.argv("env"))

    assert sorted(shell.output().decode().splitlines()) == sorted(
        [*(f"{name}={value}" for name, value in ENV.items()), f"{proc.MARKER}={shell.run_dir}"]
    )


async def test_stdin_is_the_given_file(shell: Shell) -> None:
    prompt = shell.folder / "prompt.md"
    prompt.write_bytes(b"p" * 1_000_000)

    await ran(replace(shell.script("wc -c"), stdin=prompt))

    assert shell.output().strip() == b"1000000"


async def test_stdin_is_empty_where_no_file_is_given(shell: Shell) -> None:
    ended = await ran(shell.argv("cat"))

    assert (ended.code, shell.output()) == (0, b"")


async def test_the_command_is_found_on_its_own_path(shell: Shell) -> None:
    tool = shell.folder / "bin" / "tool"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho mine\n")
    tool.chmod(0o755)

    ended = await ran(replace(shell.argv("tool"), env={"PATH": str(tool.parent)}))

    assert (ended.code, shell.output()) == (0, b"mine\n")


async def test_signals_that_the_daemon_ignores_or_blocks_act_on_the_command(shell: Shell) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        child = await start(shell.script("kill -INT $$; echo survived"))
    finally:
        signal.signal(signal.SIGINT, before)

    ended = await child.wait()

    assert (ended.signal, shell.output()) == (signal.SIGINT, b"")


async def test_a_new_run_starts_with_nothing_of_the_one_before(shell: Shell) -> None:
    await ran(shell.script("echo one"))

    ended = await ran(shell.argv("no-such-command"))

    assert ended.cause == "unstartable"
    assert not (shell.run_dir / "output.log").exists()


async def test_no_key_of_the_environment_is_written_anywhere(shell: Shell) -> None:
    await ran(replace(shell.argv("true"), env={**ENV, "SOME_KEY": "hush-hush"}))

    assert b"hush-hush" not in b"".join(path.read_bytes() for path in shell.run_dir.iterdir())


# ── output without end


async def test_a_flood_keeps_its_newest_part_and_the_disk_stays_bounded(shell: Shell) -> None:
    flood = shell.python(
        "import os\nfor n in range(50_000): os.write(1, b'%08d' % n + b'x' * 1015 + b'\\n')"
    )

    ended = await ran(replace(flood, cap_bytes=1 << 20))

    kept = (shell.run_dir / "output.1.log").read_bytes() + shell.output()
    lines = kept.splitlines()
    assert ended.code == 0
    assert 1 << 19 <= len(kept) <= 1 << 20
    assert lines[-1].startswith(b"00049999")
    assert [int(line[:8]) for line in lines[1:]] == list(range(50_001 - len(lines), 50_000))


async def test_a_flood_does_not_keep_the_wall_limit_from_acting(shell: Shell) -> None:
    ended = await ran(replace(shell.argv("yes"), cap_bytes=1 << 16, seconds=0.2))

    assert (ended.cause, ended.signal) == ("timeout", signal.SIGTERM)


async def test_output_that_does_not_fit_on_the_disk_is_lost_and_said_but_the_command_goes_on(
    shell: Shell,
) -> None:
    child = await start(shell.script("read on < go; yes | head -c 1000000; exit 4"))
    resource.prlimit(child.identity.pid, resource.RLIMIT_FSIZE, (8192, 8192))
    await shell.let_go()

    ended = await child.wait()

    assert (ended.code, ended.detail) == (4, "output was lost: File too large")


# ── what is left behind


async def test_what_stays_in_the_background_is_swept_and_does_not_delay_the_end(
    shell: Shell,
) -> None:
    ended = await ran(shell.script("sleep 100 & echo $!"))

    assert (ended.code, ended.left) == (0, 0)
    assert gone(int(shell.output()))


async def test_a_daemon_in_a_session_of_its_own_without_the_marker_is_swept(shell: Shell) -> None:
    script = "(env -i setsid sh -c 'echo $$ > signs; sleep 100 & sleep 100' > /dev/null 2>&1 &) ; read on < go"
    child = await start(shell.script(script))
    pid = int(await shell.sign())
    await shell.let_go()

    ended = await child.wait()

    assert (ended.cause, ended.left) == ("exited", 0)
    assert gone(pid)


async def test_orphans_that_end_by_themselves_do_not_stay_zombies(shell: Shell) -> None:
    child = await start(shell.script("(sh -c 'echo $$ > signs' &); read on < go"))
    pid = int(await shell.sign())
    await shell.let_go()

    await child.wait()

    assert proc.stat(pid) == []


# ── limits and the stop ladder


async def test_the_wall_limit_ends_the_command(shell: Shell) -> None:
    ended = await ran(replace(shell.argv("sleep", "100"), seconds=0.1))

    assert (ended.cause, ended.signal) == ("timeout", signal.SIGTERM)
    assert 0.1 <= ended.seconds < 5


async def test_a_command_that_ignores_the_wall_limit_is_killed(shell: Shell) -> None:
    ended = await ran(
        replace(shell.script("trap '' TERM; while :; do sleep 100; done"), seconds=0.3)
    )

    assert (ended.cause, ended.signal) == ("timeout", signal.SIGKILL)


async def test_a_stopped_command_may_tidy_up(shell: Shell, waiter: None) -> None:
    child = await start(
        replace(
            shell.script("trap 'exit 9' INT; echo > signs; while :; do sleep 0.01; done"),
            grace_s=20,
            stop_signal="INT",
        )
    )
    await shell.sign()

    ended = await child.stop()

    assert (ended.cause, ended.code) == ("stopped", 9)


async def test_a_command_that_ignores_the_stop_signal_is_killed_after_the_grace(
    shell: Shell, waiter: None
) -> None:
    child = await start(shell.script("trap '' TERM; echo > signs; while :; do sleep 100; done"))
    await shell.sign()

    ended = await child.stop()

    assert (ended.cause, ended.signal) == ("stopped", signal.SIGKILL)


async def test_no_grace_kills_at_once(shell: Shell) -> None:
    child = await start(
        replace(
            shell.script("trap 'exit 9' TERM; echo > signs; while :; do sleep 0.01; done"),
            grace_s=20,
        )
    )
    await shell.sign()

    ended = await child.stop(0)

    assert (ended.cause, ended.signal) == ("stopped", signal.SIGKILL)


async def test_a_shorter_grace_than_the_commands_own_can_be_given(shell: Shell) -> None:
    child = await start(
        replace(shell.script("trap '' TERM; echo > signs; while :; do sleep 100; done"), grace_s=60)
    )
    await shell.sign()

    with anyio.fail_after(20):
        ended = await child.stop(0.1)

    assert (ended.cause, ended.signal) == ("stopped", signal.SIGKILL)


@pytest.mark.parametrize("grace", [None, 0])
async def test_a_stop_that_comes_before_the_shim_can_listen_is_not_missed(
    shell: Shell, grace: float | None
) -> None:
    child = await start(replace(shell.argv("sleep", "100"), grace_s=20))

    ended = await child.stop(grace)

    assert ended.cause == "stopped"


async def test_stopping_what_has_ended_gives_its_end(shell: Shell) -> None:
    child = await start(shell.script("exit 6"))
    ended = await child.wait()

    assert await child.stop() == ended
    assert (ended.cause, ended.code) == ("exited", 6)


async def test_a_hung_shim_is_killed_with_all_that_it_started(
    shell: Shell, waiter: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "LADDER_SECONDS", 0.2)
    child = await start(shell.script("echo $$ > signs; sleep 100"))
    pid = int(await shell.sign())
    os.kill(child.identity.pid, signal.SIGSTOP)

    ended = await child.stop()

    assert (ended.cause, ended.left) == ("lost", 0)
    assert gone(pid)
    assert gone(child.identity.pid)


@pytest.mark.parametrize("adopted", [False, True])
async def test_a_hung_shim_that_holds_no_limit_is_not_waited_for_for_ever(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, *, adopted: bool
) -> None:
    for name in ("LADDER_SECONDS", "OVERDUE_SECONDS"):
        monkeypatch.setattr(process, name, 0.3)
    child = await start(replace(shell.script("echo $$ > signs; sleep 100"), seconds=0.5))
    pid = int(await shell.sign())
    os.kill(child.identity.pid, signal.SIGSTOP)
    found = await adopt(shell.run_dir) if adopted else child
    assert isinstance(found, Child)

    with anyio.fail_after(10):
        while True:
            with anyio.move_on_after(0.05):  # as a worker waits: a look at a time
                ended = await found.wait()
                break

    assert (ended.cause, ended.left) == ("lost", 0)
    assert (gone(pid), gone(child.identity.pid)) == (True, True)


async def test_what_cannot_be_ended_is_said(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    child = await start(shell.script("echo > signs; sleep 100"))
    await shell.sign()
    with monkeypatch.context() as deaf:
        deaf.setattr(process, "LADDER_SECONDS", 0.05)
        deaf.setattr(identity, "send", lambda *_: None)

        ended = await child.stop()

        assert (ended.cause, ended.left) == ("lost", 1)


# ── waiting


async def test_the_end_is_seen(shell: Shell, waiter: None) -> None:
    assert (await ran(shell.script("exit 5"))).code == 5


async def test_several_may_wait_and_a_cancelled_wait_changes_nothing(
    shell: Shell, waiter: None
) -> None:
    child = await start(shell.script("read on < go; exit 5"))
    with anyio.move_on_after(0.02):
        await child.wait()
    ends: list[Exit] = []

    async def wait() -> None:
        ends.append(await child.wait())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        tasks.start_soon(wait)
        await shell.let_go()

    assert [ended.code for ended in ends] == [5, 5]
    assert ends[0] == ends[1]


async def test_cpu_time_of_descendants_is_seen(shell: Shell) -> None:
    child = await start(
        shell.script(
            "sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo > signs; sleep 100'"
        )
    )
    before = child.cpu_seconds()
    await shell.sign()

    used = child.cpu_seconds() - before
    await child.stop(0)

    assert used > 0.02
    assert child.cpu_seconds() == 0


# ── the daemon dies, the run goes on


DAEMON = """
import anyio, json, os, signal, sys
from pathlib import Path
from factory.child.process import Command, start
async def main():
    run_dir, *argv = sys.argv[1:]
    env = {"PATH": os.environ["PATH"]}
    await start(Command(argv=tuple(argv), cwd=Path.cwd(), env=env, run_dir=Path(run_dir), grace_s=0.1))
    os.kill(os.getpid(), signal.SIGKILL)
anyio.run(main)
"""


async def orphaned(shell: Shell, command: Command) -> None:
    """A daemon-like process that starts the command and is killed with -9."""
    argv = [sys.executable, "-c", DAEMON, str(command.run_dir), *command.argv]
    done = await run(argv, cwd=command.cwd, env={**ENV, "PYTHONPATH": ROOT})
    assert (done.code, done.err) == (-signal.SIGKILL, b"")


async def adopted(shell: Shell) -> Child:
    child = await adopt(shell.run_dir)
    assert isinstance(child, Child)
    return child


async def test_a_run_survives_kill_9_of_its_daemon_and_is_adopted(
    shell: Shell, waiter: None
) -> None:
    await orphaned(shell, shell.script("echo up > signs; read on < go; echo done; exit 5"))
    await shell.sign()
    child = await adopted(shell)
    await shell.let_go()

    ended = await child.wait()

    assert (ended.cause, ended.code, shell.output()) == ("exited", 5, b"done\n")


@pytest.mark.skipif(not proc.PROC, reason="without /proc nobody tells whose child it is")
@pytest.mark.parametrize("ended", [False, True], ids=["while it runs", "after its end"])
async def test_a_run_of_this_very_process_that_is_adopted_leaves_no_zombie(
    shell: Shell, *, ended: bool
) -> None:
    first = await start(shell.script(f"cat {shell.go}"))
    pid = first.identity.pid
    assert json.loads(await waited_for(shell.run_dir / "start.json"))["pid"] == pid
    if ended:
        await shell.let_go()
        while proc.stat(pid)[:1] != ["Z"]:  # noqa: ASYNC110
            await anyio.sleep(0.01)

    found = await adopt(shell.run_dir)
    if isinstance(found, Child):
        await shell.let_go()
        found = await found.wait()

    assert (found.cause, found.code, proc.stat(pid)) == ("exited", 0, [])


async def waited_for(path: Path) -> str:
    """What a file holds, once it holds something."""
    with anyio.fail_after(10):
        while not (path.exists() and path.read_text().strip()):  # noqa: ASYNC110
            await anyio.sleep(0.01)
    return path.read_text()


async def test_an_adopted_run_can_be_stopped(shell: Shell, waiter: None) -> None:
    await orphaned(shell, shell.script("echo $$ > signs; sleep 100"))
    pid = int(await shell.sign())

    ended = await (await adopted(shell)).stop()

    assert ended.cause == "stopped"
    assert gone(pid)


async def test_an_end_that_came_while_no_daemon_lived_is_told(shell: Shell) -> None:
    await orphaned(shell, shell.script("echo up > signs; exit 5"))
    await shell.sign()
    await (await start_of(shell)).wait()

    ended = await adopt(shell.run_dir)

    assert isinstance(ended, Exit)
    assert (ended.cause, ended.code) == ("exited", 5)


async def test_the_room_for_its_end_is_taken_before_the_command_starts(shell: Shell) -> None:
    ended = await ran(
        shell.script(f"cd {shell.run_dir}; wc -c < exit.json.new; cp exit.json.new kept")
    )

    assert (ended.code, shell.output().strip()) == (0, b"4096")
    assert len((shell.run_dir / "exit.json").read_bytes()) == len(
        (shell.run_dir / "kept").read_bytes()
    )


async def start_of(shell: Shell) -> Child:
    """The run as the test may wait for it, ended or not."""
    begun = json.loads((shell.run_dir / "start.json").read_text())
    who = identity.Identity(begun["pid"], begun["started"], begun["boot"])
    return Child(who, shell.run_dir, grace_s=1, ours=False)


async def test_a_killed_shim_is_a_lost_run_and_what_it_ran_is_ended(shell: Shell) -> None:
    child = await start(shell.script("setsid sh -c 'echo $$ > signs; sleep 100'"))
    pid = int(await shell.sign())
    os.kill(child.identity.pid, signal.SIGKILL)

    ended = await child.wait()

    assert (ended.cause, ended.code, ended.left) == ("lost", None, 0)
    assert gone(pid)


async def test_a_shim_that_was_killed_while_no_daemon_lived_is_a_lost_run(shell: Shell) -> None:
    await orphaned(shell, shell.script("setsid sh -c 'echo $$ > signs; sleep 100'"))
    pid = int(await shell.sign())
    before = await start_of(shell)
    os.kill(before.identity.pid, signal.SIGKILL)
    await before.wait()

    ended = await adopt(shell.run_dir)

    assert isinstance(ended, Exit)
    assert (ended.cause, ended.left) == ("lost", 0)
    assert gone(pid)


async def test_a_run_of_which_nothing_was_written_is_lost(shell: Shell) -> None:
    ended = await adopt(shell.folder / "never")

    assert isinstance(ended, Exit)
    assert ended.cause == "lost"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"at": "noon"}', '{"at": 1, "cause": "exited", "more": 1}']
)
async def test_half_an_exit_file_is_a_lost_run(shell: Shell, text: str) -> None:
    shell.run_dir.mkdir()
    (shell.run_dir / "exit.json").write_text(text)

    ended = await adopt(shell.run_dir)

    assert isinstance(ended, Exit)
    assert ended.cause == "lost"


@pytest.mark.parametrize("changed", [{"started": "1"}, {"started": ""}, {"boot": "another"}])
async def test_a_pid_that_changed_hands_is_neither_trusted_nor_signalled(
    shell: Shell, waiter: None, changed: dict[str, str]
) -> None:
    with subprocess.Popen(["sleep", "100"]) as innocent:  # noqa: ASYNC220
        shell.run_dir.mkdir()
        known = {
            "pid": innocent.pid,
            "started": proc.started(innocent.pid),
            "boot": proc.boot(),
            "grace_s": 1,
        }
        (shell.run_dir / "start.json").write_text(json.dumps(known | changed))

        ended = await adopt(shell.run_dir)
        nothing_left = await end(shell.run_dir)

        assert isinstance(ended, Exit)
        assert (ended.cause, nothing_left, innocent.poll()) == ("lost", True, None)
        innocent.kill()


@pytest.mark.parametrize(
    "changed",
    [
        {"pid": "x"},
        {"pid": float("inf")},
        {"grace_s": float("nan")},
        {"seconds": "soon"},
        {"grace_s": [1]},
    ],
)
async def test_a_start_file_that_no_shim_wrote_is_a_lost_run(
    shell: Shell, changed: dict[str, object]
) -> None:
    shell.run_dir.mkdir()
    known = {
        "pid": os.getpid(),
        "started": proc.started(os.getpid()),
        "boot": proc.boot(),
        "grace_s": 1,
    }
    (shell.run_dir / "start.json").write_text(json.dumps(known | changed))

    ended = await adopt(shell.run_dir)

    assert isinstance(ended, Exit)
    assert ended.cause == "lost"


async def test_a_pid_that_is_a_threads_by_now_is_neither_trusted_nor_signalled(
    shell: Shell, waiter: None
) -> None:
    go = threading.Event()
    thread = threading.Thread(target=go.wait)
    thread.start()
    known = {"pid": thread.native_id, "started": "1", "boot": proc.boot(), "grace_s": 1}
    shell.run_dir.mkdir()
    (shell.run_dir / "start.json").write_text(json.dumps(known))

    nothing_left = await end(shell.run_dir)

    assert (nothing_left, thread.is_alive()) == (True, True)
    go.set()
    await to_thread.run_sync(thread.join)


@pytest.mark.skipif(shutil.which("ps") is None, reason="ps is not installed")
def test_without_proc_the_start_of_a_living_process_is_told_by_ps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(proc, "PROC", False)
    with subprocess.Popen(["true"]) as zombie:
        os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)

        assert len(proc.started(os.getpid()).split()) == 5
        assert proc.started(zombie.pid) == ""
        assert proc.started(99_999_999) == ""
        assert proc.pids() == []


@pytest.fixture
def no_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a system without /proc, in this process and in the shims."""
    if shutil.which("ps") is None:
        pytest.skip("ps is not installed")
    monkeypatch.setattr(proc, "PROC", False)
    monkeypatch.setattr(identity, "PIDFD", False)
    monkeypatch.setattr(identity, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(
        process,
        "_SHIM",
        process._SHIM.replace("main; main()", "main, proc; proc.PROC = False; main()"),
    )


AWAY = "setsid sh -c 'echo $$ > signs; exec sleep 100' &"


@pytest.mark.usefixtures("no_proc")
async def test_without_proc_what_left_its_group_is_ended_by_the_marker_in_its_environment(
    shell: Shell,
) -> None:
    planted = shell.folder / "ps"
    planted.write_text("#!/bin/sh\n: > planted\n")
    planted.chmod(0o755)
    command = shell.script(f"{AWAY} cat go > sign; exit 3")
    child = await start(replace(command, env=ENV | {"PATH": f"{shell.folder}:{ENV['PATH']}"}))
    pid = int(await shell.sign())
    await shell.let_go()

    ended = await child.wait()

    assert (ended.cause, ended.code, ended.left, gone_without_proc(pid)) == ("exited", 3, 0, True)
    assert not (shell.folder / "planted").exists()  # the shim's own ps is not the command's


@pytest.mark.parametrize("by_proc", [True, False])
def test_who_only_speaks_of_the_marker_or_has_another_one_is_not_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_proc: bool
) -> None:
    monkeypatch.setattr(proc, "PROC", by_proc and proc.PROC)
    entry = f"{proc.MARKER}={tmp_path / 'run'}"
    wait = ("sh", "-c", "read line; exit")
    with ExitStack() as stack:

        def waits(*argv: str, marker: str = "") -> int:
            env = ENV | ({proc.MARKER: marker} if marker else {})
            child: subprocess.Popen[bytes] = subprocess.Popen(argv, env=env, stdin=subprocess.PIPE)
            return stack.enter_context(child).pid

        own = waits(*wait, marker=str(tmp_path / "run"))
        others = {waits(*wait, entry), waits(*wait, marker=f"{tmp_path / 'run'}-2"), os.getpid()}
        found = proc.marked(entry)

    assert own in found
    assert not others & set(found)


def test_ps_is_asked_for_each_column_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, popen = list[str](), os.popen

    def noted(command: str) -> os._wrap_close:
        asked.append(command)
        return popen(command)

    monkeypatch.setattr(os, "popen", noted)
    monkeypatch.setattr(proc, "PROC", False)
    proc.marked(f"{proc.MARKER}=none")

    assert re.findall("-o ([^ ]+)", asked[0]) == [
        "pid=",
        "command=",
    ]  # `pid=,command=` is one, with a header


@pytest.mark.usefixtures("no_proc")
async def test_without_proc_a_run_whose_shim_was_killed_is_ended_by_the_marker(
    shell: Shell,
) -> None:
    child = await start(shell.script(f"{AWAY} sleep 100"))
    pid = int(await shell.sign())
    os.kill(child.identity.pid, signal.SIGKILL)

    ended = await child.wait()

    assert (ended.cause, ended.left, gone_without_proc(pid)) == ("lost", 0, True)


def gone_without_proc(pid: int) -> bool:
    return proc.started(pid) == ""


async def test_a_run_whose_folder_was_removed_is_lost(shell: Shell) -> None:
    ended = await ran(
        shell.script("while rm -rf run; test -e run; do :; done")
    )  # the shim may just be making its log

    assert ended.cause == "lost"


async def test_end_takes_all_that_a_living_run_started(shell: Shell) -> None:
    child = await start(shell.script("env -i setsid sh -c 'echo $$ > signs; sleep 100'"))
    pid = int(await shell.sign())

    assert await end(shell.run_dir)

    assert gone(pid)
    assert (await child.wait()).cause == "stopped"


async def test_the_command_is_started_before_anything_dear_is_imported() -> None:
    code = f"import sys; sys.path.append({ROOT!r})\nfrom factory.child.shim import main; print(*sys.modules)"

    done = await run([sys.executable, "-I", "-S", "-c", code], env=ENV)

    dear = {"json", "typing", "re", "enum", "signal", "subprocess", "ctypes", "pathlib", "select"}
    assert not dear & set(done.out.decode().split())
