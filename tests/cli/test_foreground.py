import os
import select
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from factory.cli import foreground, life
from factory.cli.main import factoryd
from factory.store.unit import UnitState
from tests.cli_line import Line


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line(tmp_path)


@contextmanager
def stdout_is(descriptor: int) -> Iterator[None]:
    """Let this process write its output to that file."""
    kept = os.dup(1)
    os.dup2(descriptor, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def test_the_events_of_this_daemon_are_printed_one_a_line_and_earlier_ones_are_not(
    line: Line, tmp_path: Path
) -> None:
    line.unit("before", UnitState.READY, minutes=5)
    output = tmp_path / "output"

    def daemon(argv: list[str]) -> int:
        line.unit("after", UnitState.READY, minutes=-1)
        line.unit("läßt-\x1b[2J", UnitState.READY, minutes=-1)
        return 3

    with output.open("wb") as file, stdout_is(file.fileno()):
        code = foreground.main([str(line.root)], daemon)

    lines = output.read_text().splitlines()
    assert code == 3
    assert [text.partition("  ")[2] for text in lines] == [
        "after: accepted as after.md",
        "läßt-: accepted as läßt-.md",
    ]


def test_a_store_that_the_daemon_makes_later_is_read_as_soon_as_it_is_there(
    tmp_path: Path,
) -> None:
    output = tmp_path / "output"
    came = threading.Event()

    def daemon(argv: list[str]) -> int:
        line = Line(tmp_path)
        line.unit("first", UnitState.READY, minutes=-1)
        while not came.wait(0.01):
            if b"first: accepted" in output.read_bytes():
                came.set()
        return 0

    with output.open("wb") as file, stdout_is(file.fileno()):
        foreground.main([str(tmp_path)], daemon)

    assert came.is_set()


def test_nobody_who_reads_delays_or_ends_the_daemon(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreground, "LAST_S", 0.05)
    reader, written = os.pipe()

    def blocked(argv: list[str]) -> int:
        for number in range(250):  # more than a pipe holds
            line.unit(f"{number}-" + "x" * 190, UnitState.READY, minutes=-1)
        while select.select([], [written], [], 0.01)[1]:
            pass
        return 3

    def alone(argv: list[str]) -> int:
        os.close(reader)
        line.unit("later", UnitState.READY, minutes=-1)
        return 4

    with stdout_is(written):
        codes = [foreground.main([str(line.root)], daemon) for daemon in (blocked, alone)]

    os.close(written)
    assert codes == [3, 4]


def test_start_in_the_foreground_becomes_the_daemon_that_prints(
    line: Line, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    became = []
    monkeypatch.chdir(line.root)
    monkeypatch.setattr(life, "_examine", lambda *_: None)
    monkeypatch.setattr(os, "execve", lambda *argv: became.append(argv))

    factoryd(["start", "--foreground"])

    program, argv, _ = became[0]
    assert (program, argv) == (
        sys.executable,
        [sys.executable, "-m", "factory.cli.foreground", str(line.root)],
    )
    assert "Ctrl-C stops it" in capsys.readouterr().out
