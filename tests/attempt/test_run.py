"""How long an agent may be silent, in virtual time; and what it is told first."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import anyio
import pytest

from factory.agents.output import Seen
from factory.attempt.run import Patience, Run, asked_for, prompt_name
from factory.child.process import Child
from factory.repo.workspaces import Conflict
from factory.store.records import Attempt, Remark
from factory.store.unit import EndReason, Unit, UnitState
from tests.simulation.clock import START, Clock

IDLE = 0.4
LIMITS = {"first_event_s": 60.0, "silence_s": 480.0}


@dataclass
class Working:
    """A process that has used so much CPU."""

    cpu: float = 0.0
    share: float = 0.0  # of a core
    until: float = float("inf")  # seconds after its begin it stops to work
    looks: int = 0
    began: float = 0.0

    def cpu_seconds(self) -> float:
        self.looks += 1
        return self.cpu + self.share * min(anyio.current_time() - self.began, self.until)


async def ended_after(child: Working, seen: Seen) -> float:
    """After how many seconds of looking at it every second its patience is worn out."""
    began, patience = anyio.current_time(), Patience(cast("Child", child), idle_cpu=IDLE)
    child.began = began
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


def test_cpu_that_was_used_before_the_silence_does_not_make_it_longer() -> None:
    spoke = Seen(first=START, last=START)

    assert look(Working(cpu=300), spoke) == 480


@pytest.mark.parametrize("worked", [10, 100, 200, 479])
def test_silence_begins_when_the_work_ends_and_is_noticed_within_a_quarter_of_its_time(
    worked: float,
) -> None:
    spoke = Seen(first=START, last=START)

    ended = look(Working(share=1.0, until=worked), spoke)

    assert 480 <= ended <= worked + 480 * 1.25


def test_an_agent_that_prints_often_is_not_measured() -> None:
    child = Working()

    async def play() -> None:
        seen = Seen(first=START, last=START)
        patience = Patience(cast("Child", child), idle_cpu=IDLE)
        for second in range(1000):
            seen.last = START + timedelta(seconds=second)
            assert not patience.worn_out(seen, **LIMITS)
            await anyio.sleep(1)

    anyio.run(play, backend_options={"loop_factory": Clock().loop})

    assert child.looks == 0


def remark(kind: str, *, who: str = "person", at: datetime = START) -> Remark:
    return Remark(unit="fix", seq=1, who=who, kind=kind, text="t", at=at)


def attempt(number: int, reason: EndReason | None) -> Attempt:
    """Each takes a second, and the first ends at START."""
    end = START + timedelta(seconds=number - 1)
    return Attempt(
        unit="fix",
        number=number,
        worker="w1",
        agent="a",
        start=end,
        end=end if reason else None,
        reason=reason,
    )


def name_after(
    reason: EndReason, wish: str = "", *, conflict: bool = False, resume: bool = False
) -> str:
    unit = Unit(
        id="fix", title="Fix", state=UnitState.RUNNING, since=START, accepted=START, resume=resume
    )
    run = cast("Run", SimpleNamespace(unit=unit))
    met = Conflict(paths=("a",), diff=Path("d"), intent="") if conflict else None
    return prompt_name(run, attempt(1, reason), met, wish)


R = EndReason


@pytest.mark.parametrize(
    ("reason", "remarks", "wish"),
    [
        (R.GATE_RED, (), ""),
        (R.GATE_RED, (remark("split"),), "split"),
        (
            R.GATE_RED,
            (remark("review"),),
            "",
        ),  # a hint on the card of a unit whose attempts are used up
        (R.GATE_RED, (remark("tell"),), ""),
        (R.SUBMITTED, (remark("review"),), "review"),
        (R.GUARD, (remark("review"),), "review"),
        (R.OUT_OF_SCOPE, (remark("review"),), "review"),
        (R.SUBMITTED, (remark("simplify"),), "simplify"),
        (
            R.SUBMITTED,
            (remark("simplify"), remark("tell")),
            "simplify",
        ),  # how, in the person's words
        (R.SUBMITTED, (remark("simplify"), remark("review")), "review"),  # the last word counts
        (R.SUBMITTED, (remark("simplify"), remark("question", who="agent")), "simplify"),
        (
            R.GATE_RED,
            (remark("split", at=START - timedelta(seconds=1)),),
            "",
        ),  # it was asked before already
    ],
)
def test_what_a_person_asked_for_last_is_asked_of_the_next_attempt(
    reason: EndReason, remarks: tuple[Remark, ...], wish: str
) -> None:
    assert asked_for(remarks, [attempt(1, reason), attempt(2, None)]) == wish


@pytest.mark.parametrize("reason", [R.HANDED_BACK, R.LOST, R.LIMIT, R.AUTH, R.SETUP_FAILED])
def test_an_attempt_that_was_broken_off_leaves_to_the_next_what_was_asked_of_it(
    reason: EndReason,
) -> None:
    assert (
        asked_for([remark("split")], [attempt(1, R.GATE_RED), attempt(2, reason), attempt(3, None)])
        == "split"
    )
    assert (
        asked_for(
            [remark("review")], [attempt(1, R.SUBMITTED), attempt(2, reason), attempt(3, None)]
        )
        == "review"
    )
    gone = [attempt(1, R.GATE_RED), attempt(2, R.EMPTY), attempt(3, reason), attempt(4, None)]
    assert asked_for([remark("split")], gone) == "", "one was seen through"


def test_an_attempt_that_goes_on_with_what_was_said_has_a_prompt_of_its_own_until_one_is_seen_through() -> (
    None
):
    broken_off = [attempt(1, R.TOLD), attempt(2, R.HANDED_BACK), attempt(3, None)]

    assert asked_for([remark("tell")], [attempt(1, R.TOLD), attempt(2, None)]) == "told"
    assert asked_for([remark("tell")], broken_off) == "told"
    assert (
        asked_for([remark("tell")], [attempt(1, R.TOLD), attempt(2, R.GATE_RED), attempt(3, None)])
        == ""
    )
    assert name_after(R.TOLD, "told", resume=True) == "told"
    assert name_after(R.TOLD, "told", conflict=True) == "told"


def test_an_answer_and_a_conflict_go_before_what_a_person_asked_for() -> None:
    assert name_after(R.ASKED, "split", resume=True) == "question"
    assert name_after(R.CONFLICT, "split", conflict=True) == "conflict"
    assert name_after(R.SUBMITTED, "review", conflict=True) == "review"
    assert name_after(R.GATE_RED) == "retry"
