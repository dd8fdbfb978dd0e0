"""How long an agent may be silent, in virtual time; and what it is told first."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import anyio
import pytest

from factory.process import Child
from factory.records import Attempt, Remark
from factory.runtime import Seen
from factory.trip import Patience, Trip, prompt_name
from factory.unit import EndReason, Unit, UnitState
from factory.workspaces import Conflict
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


def remark(kind: str, *, who: str = "person", at: datetime = START) -> Remark:
    return Remark(unit="fix", seq=1, who=who, kind=kind, text="t", at=at)


def name_after(reason: EndReason, *remarks: Remark, conflict: bool = False, resume: bool = False) -> str:
    unit = Unit(id="fix", title="Fix", state=UnitState.RUNNING, since=START, accepted=START, resume=resume)
    earlier = Attempt(unit="fix", number=1, worker="w1", agent="a", start=START, end=START, reason=reason)
    trip = cast("Trip", SimpleNamespace(unit=unit))
    met = Conflict(paths=("a",), diff=Path("d"), intent="") if conflict else None
    return prompt_name(trip, earlier, met, remarks)


R = EndReason


@pytest.mark.parametrize(
    ("reason", "remarks", "name"),
    [
        (R.GATE_RED, (), "retry"),
        (R.GATE_RED, (remark("split"),), "split"),
        (R.GATE_RED, (remark("review"),), "retry"),  # a hint on the card of a unit whose attempts are used up
        (R.GATE_RED, (remark("tell"),), "retry"),
        (R.SUBMITTED, (remark("review"),), "review"),
        (R.GUARD, (remark("review"),), "review"),
        (R.OUT_OF_SCOPE, (remark("review"),), "review"),
        (R.SUBMITTED, (remark("simplify"),), "simplify"),
        (R.SUBMITTED, (remark("simplify"), remark("tell")), "retry"),  # the last word counts
        (R.SUBMITTED, (remark("simplify"), remark("question", who="agent")), "simplify"),
        (R.GATE_RED, (remark("split", at=START - timedelta(seconds=1)),), "retry"),  # it was asked before already
    ],
)
def test_what_a_person_asked_for_last_chooses_the_prompt(
    reason: EndReason, remarks: tuple[Remark, ...], name: str
) -> None:
    assert name_after(reason, *remarks) == name


def test_an_answer_and_a_conflict_go_before_what_a_person_asked_for() -> None:
    assert name_after(R.ASKED, remark("answer"), resume=True) == "question"
    assert name_after(R.CONFLICT, remark("split"), conflict=True) == "conflict"
    assert name_after(R.SUBMITTED, remark("review"), conflict=True) == "review"
