"""Whether a confined command ran is told by what confines it, where the command cannot write.

The stand-in for `sandbox-exec` becomes the command, as the real one does.
"""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import anyio
import pytest

from factory.child import process
from factory.child.process import Command, Exit

BECOMES = '#!/bin/sh\nshift\nexec "$@"\n'
BWRAP = (
    "bwrap",
    "--unshare-user",
    "--unshare-pid",
    "--ro-bind",
    "/",
    "/",
    "--dev",
    "/dev",
    "--proc",
    "/proc",
)


def bubblewrap_works() -> bool:
    there = bool(shutil.which("bwrap"))
    return there and subprocess.run([*BWRAP, "true"], capture_output=True).returncode == 0


CONFINERS = [
    pytest.param(
        "bwrap",
        marks=pytest.mark.skipif(not bubblewrap_works(), reason="bubblewrap does not work here"),
    ),
    "sandbox-exec",
]


@pytest.fixture(params=CONFINERS)
def within(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, ...]:
    """The words that confine a command."""
    if request.param == "bwrap":
        return (*BWRAP, "--")
    return stand_in(tmp_path, BECOMES)


def stand_in(folder: Path, text: str, name: str = "sandbox-exec") -> tuple[str, ...]:
    program = folder / name
    program.write_text(text)
    program.chmod(0o755)
    return (str(program), "--")


def command(folder: Path, within: tuple[str, ...], *argv: str) -> Command:
    env = {"PATH": os.environ["PATH"]}
    return Command(argv=argv, cwd=folder, env=env, run_dir=folder / "run", within=within)


async def ended(command: Command) -> Exit:
    with anyio.fail_after(30):
        child = await process.start(command)
        return await child.wait()


def output(folder: Path) -> str:
    return (folder / "run/output.log").read_text()


@pytest.mark.parametrize(
    "said",
    [
        "bwrap: No permissions to create a new namespace",
        "bwrap: execvp pytest: No such file or directory",
        "sandbox-exec: sandbox_apply: Operation not permitted",
        "sandbox-exec: execvp() of 'pytest' failed: No such file or directory",
    ],
)
@pytest.mark.parametrize("code", [1, 64, 65, 71])
async def test_a_command_that_says_what_a_failing_sandbox_says_has_ended_by_itself(
    tmp_path: Path, within: tuple[str, ...], said: str, code: int
) -> None:
    script = 'echo "$1" >&2; exit "$2"'

    end = await ended(command(tmp_path, within, "sh", "-c", script, "sh", said, str(code)))

    assert (end.cause, end.code) == ("exited", code)


async def test_the_command_cannot_write_where_its_start_is_told(
    tmp_path: Path, within: tuple[str, ...]
) -> None:
    end = await ended(command(tmp_path, within, "sh", "-c", "echo forged >&3"))

    assert (end.cause, end.code != 0) == ("exited", True)
    assert "ad file descriptor" in output(tmp_path)


async def test_a_command_ended_by_a_signal_has_ended_by_itself(
    tmp_path: Path, within: tuple[str, ...]
) -> None:
    end = await ended(command(tmp_path, within, "sh", "-c", "kill -KILL $$"))

    assert (end.cause, end.signal or end.code) in (("exited", signal.SIGKILL), ("exited", 137))


@pytest.mark.parametrize("name", ["bwrap", "sandbox-exec"])
@pytest.mark.parametrize(
    ("does", "detail"),
    [
        ("echo no namespaces here >&2; exit 1", "no namespaces here"),
        ("exit 0", "NAME ended before it had started anything"),
        ("kill -KILL $$", "NAME ended before it had started anything"),
    ],
)
async def test_a_sandbox_that_starts_nothing_gives_no_outcome_of_the_command(
    tmp_path: Path, name: str, does: str, detail: str
) -> None:
    within = stand_in(tmp_path, f"#!/bin/sh\n{does}\n", name)

    end = await ended(command(tmp_path, within, "true"))

    said = detail.replace("NAME", name)
    assert (end.cause, end.detail) == ("unconfined", said)


@pytest.mark.skipif(not bubblewrap_works(), reason="bubblewrap does not work here")
async def test_what_cannot_be_mounted_is_no_outcome_of_the_command(tmp_path: Path) -> None:
    within = (*BWRAP, "--bind", "/no/such", "/no/such", "--")

    end = await ended(command(tmp_path, within, "true"))

    why = "bwrap: Can't find source path /no/such: No such file or directory"
    assert (end.cause, end.detail) == ("unconfined", why)


@pytest.mark.skipif(not bubblewrap_works(), reason="bubblewrap does not work here")
async def test_a_program_that_is_hidden_inside_cannot_be_started(tmp_path: Path) -> None:
    program = tmp_path / "hidden/program"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    within = (*BWRAP, "--tmpfs", str(program.parent), "--")

    end = await ended(command(tmp_path, within, str(program)))

    assert (end.cause, end.detail) == ("unstartable", f"{program}: No such file or directory")


async def test_a_script_whose_interpreter_is_not_there_cannot_be_started(
    tmp_path: Path, within: tuple[str, ...]
) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such\n")
    script.chmod(0o755)

    end = await ended(command(tmp_path, within, str(script)))

    assert (end.cause, end.detail) == ("unstartable", f"No such file or directory: {script}")
