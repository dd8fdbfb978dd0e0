"""How long a process has been running, by the clock that says less."""

import os
import time
from pathlib import Path

from factory.child import proc
from factory.ground.age import age_of


def test_the_age_of_a_process_counts_from_its_start(tmp_path: Path) -> None:
    told = tmp_path / "start.json"
    told.touch()
    os.utime(told, (0, 0))

    age = age_of(proc.started(os.getpid()), since=told)

    assert 0 < age < time.clock_gettime(time.CLOCK_BOOTTIME)


def test_a_clock_that_was_set_ahead_makes_nothing_older(tmp_path: Path) -> None:
    told = tmp_path / "start.json"
    told.touch()

    assert age_of("1", since=told) < 5  # ticks since the machine was booted
    assert (
        age_of("", since=told)
        == age_of("Sat Nov 28", since=told)
        == age_of("1", since=tmp_path / "none")
        == 0
    )
