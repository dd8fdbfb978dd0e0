"""Many units that append to one file: all land, in the order of the drop, and none starts more than twice."""

import os
from collections import Counter

import pytest

from factory.store.records import Card
from tests.simulation.agents import APPENDING
from tests.simulation.history import Deed, History, Plan, Task, history_of

SEEDS = int(os.environ.get("HISTORIES", "25")) // 12  # 25: two histories of each size
FIRST = int(os.environ.get("SEED", "1"))
LATER = (Deed(15_000.0, "resume", 0),)  # until then the person only waits


def appended(units: int, seed: int, *, workers: int = 3) -> History:
    # Gates of this world may take longer than 45 minutes.
    tasks = tuple(Task(1.0, "minutes: 240", (APPENDING,) * 4) for _ in range(units))
    return history_of(Plan(seed, tasks, LATER, workers=workers), calm=True)


@pytest.mark.parametrize("units", [7, 20])
def test_units_that_append_to_one_file_all_land_in_order_with_at_most_two_starts(
    units: int,
) -> None:
    for seed in range(FIRST, FIRST + SEEDS):
        history = appended(units, seed)

        starts = Counter(name.split("/")[-2] for _, _, name in history.world.started)
        drift = [abs(place - int(name[1:])) for place, name in enumerate(history.world.landed)]
        assert len(history.world.landed) == units, seed
        assert history.store.select(Card) == [], seed
        assert max(starts.values()) <= 2, (seed, starts)
        assert max(drift) <= 2, (seed, history.world.landed)
