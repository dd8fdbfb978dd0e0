"""A short form of `make load`: a small crowd over a short history."""

import sys
from pathlib import Path

import pytest

from tests.load.crowd import Crowd, Measured, scoped, table

CROWD = Crowd("scoped", scoped, 60, 100)
TELLS = 10


@pytest.mark.skipif(sys.platform != "linux", reason="the daemon's CPU time is read in /proc")
def test_many_files_at_once_block_neither_the_loop_nor_commands(tmp_path: Path) -> None:
    measured = Measured(tmp_path, CROWD)
    try:
        cost = measured.run(tells=TELLS, on_s=0.5)
    finally:
        measured.line.close()

    print(table([cost]))
    # A busy machine makes turns longer, so this limit is far above the limit of `make load`.
    assert cost.turn_s < 1
    assert (cost.tells, cost.tell_s < 1) == (TELLS, True)
