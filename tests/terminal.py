"""A terminal of a given width, on which a program runs: what a person would see there."""

import os
import pty
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PROGRAM = "import sys; from factory.cli.main import factory; sys.exit(factory())"


def seen_on_terminal(
    argv: Sequence[str], top: Path, *, columns: int, environ: Mapping[str, str] | None = None
) -> str:
    """Run `factory` with these arguments in that folder; return what it wrote to the terminal."""
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (24, columns))
    env = {"PYTHONPATH": str(REPOSITORY), "TERM": "xterm", "NO_COLOR": "1", **(environ or {})}
    command = [sys.executable, "-c", PROGRAM, *argv]
    with subprocess.Popen(command, cwd=top, env=env, stdout=follower) as child:
        os.close(follower)
        seen = b""
        while chunk := _read(leader):
            seen += chunk
    os.close(leader)
    assert child.returncode == 0
    return seen.decode().replace("\r\n", "\n")


def _read(leader: int) -> bytes:
    try:
        return os.read(leader, 65536)
    except OSError:  # every program that had the terminal open has ended
        return b""
