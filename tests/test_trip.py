"""How long an agent may be silent, in virtual time."""

from dataclasses import dataclass
from datetime import timedelta
from typing import cast

import anyio
import pytest

from factory.process import Child
from factory.runtime import Seen
from factory.trip import Patience
from tests.simulation.clock import START, Clock

IDLE = 0.4
LIMITS = {"first_event_s": 60.0, "silence_s": 480.0}


@dataclass
class Working:
    """A process that has used so much CPU."""

    cpu: float = 0.0
    share: float = 0.0  # of a core, all the time

    def cpu_seconds(self) -> float:
        return self.cpu + self.share * anyio.current_time()


async def ended_after(child: Working, seen: Seen) -> float:
    """After how many seconds of looking at it every second its patience is worn out."""
    began, patience = anyio.current_time(), Patience(cast("Child", child), idle_cpu=IDLE)
    while not patience.worn_out(seen, **LIMITS):
        await anyio.sleep(1)
        if anyio.current_time() - began > 10_000:
            return 0
    return anyio.current_time() - began


def look(child: Working, seen: Seen) -> float:
    return anyio.run(ended_after, child, seen, backend_options={"loop_factory": Clock().loop})


@pytest.mark.parametrize("off", [timedelta(), timedelta(days=1), timedelta(days=-1)])
def test_whatever_the_wall_clock_shows_silence_is_as_long_as_it_lasts(off: timedelta) -> None:
    spoke = START + off

    assert look(Working(), Seen()) == 60
    assert look(Working(), Seen(first=spoke, last=spoke)) == 480


def test_a_sign_of_life_begins_it_anew_even_if_its_time_is_an_older_one() -> None:
    async def play() -> float:
        seen, began = Seen(first=START, last=START), anyio.current_time()
        patience = Patience(cast("Child", Working()), idle_cpu=IDLE)
        while not patience.worn_out(seen, **LIMITS):
            await anyio.sleep(1)
            if anyio.current_time() - began == 400:
                seen.last = START - timedelta(days=1)
        return anyio.current_time() - began

    assert anyio.run(play, backend_options={"loop_factory": Clock().loop}) == 880


def test_an_open_tool_is_no_silence() -> None:
    assert look(Working(), Seen(first=START, last=START, tools=frozenset({"1"}))) == 0


def test_who_uses_more_than_it_does_while_it_waits_is_at_work() -> None:
    spoke = Seen(first=START, last=START)

    assert look(Working(share=0.5), spoke) == 0
    assert look(Working(share=0.3), spoke) == 480
    assert look(Working(cpu=300), spoke) == 960, "what it had used before is known from the second look on"
