"""A short form of `make hostile`: each deed in a small size, against one daemon."""

import sys
from pathlib import Path

import pytest

from tests.load.hostile import DEEDS, MOST_MB, Hostile, table


@pytest.mark.skipif(sys.platform != "linux", reason="the daemon's memory is read in /proc")
def test_the_daemon_stays_small_and_awake_whatever_an_agent_does(tmp_path: Path) -> None:
    hostile = Hostile(tmp_path, scale=0.05)
    try:
        hostile.start()
        costs = [hostile.measure(deed) for deed in DEEDS if deed.short]
    finally:
        hostile.line.close()

    print(table(costs))
    # A machine that does other things too makes turns longer: here they only have to be far from those of a daemon that
    # hangs. `make hostile` holds the measure.
    assert max(cost.memory_mb for cost in costs) < MOST_MB
    assert max(cost.turn_s for cost in costs) < 1
