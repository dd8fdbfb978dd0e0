"""Thousands of histories of one line, in virtual time: whatever agents, people, clocks and deaths do, the laws hold.

`make simulation` plays as many as one likes. A history that breaks is told with its seed (SEED=n HISTORIES=1 plays it
again) and with the smallest plan that breaks as well.
"""

import os
import time
from collections import Counter
from dataclasses import asdict

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.simulation.agents import KINDS
from tests.simulation.history import (
    DEEDS,
    HEADS,
    Deed,
    Plan,
    Task,
    fails,
    history_of,
    plan_of,
    play,
    shrink,
)

HISTORIES = int(os.environ.get("HISTORIES", "25"))
FIRST = int(os.environ.get("SEED", "1"))

TASKS = st.builds(
    Task,
    after=st.sampled_from([0.0, 60.0, 600.0]),
    head=st.sampled_from(HEADS),
    script=st.lists(st.sampled_from(KINDS), max_size=4).map(tuple),
)
DONE = st.builds(
    Deed,
    after=st.sampled_from([1.0, 10.0, 60.0, 300.0]),
    what=st.sampled_from(DEEDS),
    which=st.integers(0, 999),
)
PLANS = st.builds(
    Plan,
    seed=st.integers(0, 999),
    tasks=st.lists(TASKS, min_size=1, max_size=4).map(tuple),
    deeds=st.lists(DONE, max_size=12).map(tuple),
    deaths=st.lists(st.integers(1, 300), max_size=3).map(tuple),
    workers=st.integers(1, 3),
    benches=st.integers(1, 2),
)


@settings(
    max_examples=max(12, HISTORIES // 10),
    deadline=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
@given(plan=PLANS)
def test_whatever_hypothesis_thinks_of_the_laws_hold_after_every_step(plan: Plan) -> None:
    play(plan)


def test_whatever_a_seed_stands_for_the_laws_hold_after_every_step() -> None:
    began, told = time.monotonic(), Counter[str]()
    for seed in range(FIRST, FIRST + HISTORIES):
        plan = plan_of(seed)
        try:
            told.update(asdict(play(plan)))
        except Exception as error:  # noqa: BLE001 - whatever breaks is what is looked for
            smallest = shrink(plan)
            pytest.fail(
                f"SEED={seed} HISTORIES=1: {error!r}\nthe smallest: {smallest}\n{fails(smallest)}"
            )
        told["histories"] += 1

    seconds = time.monotonic() - began
    print(f"\n{60 * told['histories'] / seconds:.0f} histories a minute: {dict(told)}")


@pytest.mark.parametrize(
    "kind", ["crashing", "lazy", "no login", "unstartable", "lost", "stale limit"]
)
def test_agents_that_do_nothing_are_started_ever_more_rarely_while_nobody_looks(kind: str) -> None:
    tasks = tuple(Task(0.0, "", (kind,) * 200) for _ in range(30))

    history = history_of(Plan(1, tasks, (Deed(6 * 3600.0, "mend setup", 0),), workers=3))

    starts = [at for at, *_ in history.world.started if at < 6 * 3600]
    in_any_ten_minutes = [
        sum(at <= other < at + 600 for other in starts) for at in starts if at > 600
    ]
    assert max(in_any_ten_minutes) <= 3 * 2 + 3
    assert history.world.landed


def test_an_agent_that_asks_for_ever_and_answers_itself_is_stopped_by_a_card() -> None:
    history = history_of(
        Plan(1, (Task(0.0, "", ("asking with default",) * 50),), (Deed(36_000.0, "mend setup", 0),))
    )

    assert len([at for at, *_ in history.world.started if at < 36_000]) == 4
