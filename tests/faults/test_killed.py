"""Killed at every fault point: the next start makes it good, by all nine invariants (tests/faults/day.py).

Each point is died at on both sides, one after the other: the daemon that comes after the first death dies on the other
side of the same effect, and the third one finishes the day. `make faults` (FACTORY_FAULTS=all) does more: each side by
itself, at its first and its second passage.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from factory.store.journal import Event
from tests.faults import effects
from tests.faults.day import Day
from tests.faults.scenes import SCENES, split, torn

ALL = os.environ.get("FACTORY_FAULTS") == "all"
EVENTS = {f"store.{event}" for event in Event}
PLACES = {*effects(), *EVENTS} - {"store.EVENT"}
NOWHERE = {
    "store.workspace.abandoned": "needs a process that SIGKILL does not end",
    "store.request.made": "written by the commands, not by the daemon",
    "store.kept.pruned": "needs folders that are `keep.days` old",
    **dict.fromkeys(
        ("archive.pack", "archive.loose", "archive.merge"),
        "needs many loose objects: tests/repo/test_packing.py dies there",
    ),
    "store.kept.compacted": "needs entries that are `keep.days` old: tests/repair/test_upkeep.py",
    "store.migrate": "needs a store of an older format: tests/store/test_sqlite.py dies there",
    "store.store.migrated": "written with `store.migrate`",
    **dict.fromkeys(
        (
            "copy.aside",
            "copy.forget",
            "move.work",
            "inbox.again",
            "store.store.copied",
            "store.unit.followed",
        ),
        "needs a copy, a move, a lost write or a rewritten trunk: tests/acceptance/test_one_life.py dies there",
    ),
}
# What is not passed again by the daemon that comes after a death before it: the two sides are died at apart.
APART = {
    "store.task.rejected": "the file is in inbox/rejected with its reason; only the journal lacks the line"
}
ONCE = {"clone.make", "store.make", "exclude.write"}  # in the life of a repository
EACH = {  # passed once by each daemon that has to: the second passage is the next daemon's
    *("pid.write", "pid.remove", "store.daemon.started", "store.daemon.stopped", "archive.prune"),
    *("clone.seize", "inbox.hang"),
    *("agent.stop", "command.stop", "command.end", "archive.put", "archive.task"),
    *(
        "landing.mend",
        "landing.unlock",
        "landing.put_back",
        "environment.distrust",
        "store.attempts.archived",
    ),
}
DONE = {  # then, and not by the next daemon again
    *(
        "store.attempts.archived:after",
        "archive.put:after",
        "archive.task:after",
        "agent.stop:after",
    )
}


def cases() -> Iterator[tuple[str, ...]]:
    for name in sorted(PLACES - NOWHERE.keys()):
        sides = f"{name}:before", f"{name}:after"
        if not ALL and name not in APART:
            yield sides
            continue
        yield from zip(sides)
        if ALL and name not in ONCE:
            yield from (
                (side, side) if name in EACH else (f"{side}:2",)
                for side in sides
                if side not in DONE
            )


@pytest.fixture
def day(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Day]:
    day = Day(tmp_path, twice=":2" in request.node.name)
    try:
        yield day
    finally:
        day.close()


@pytest.mark.parametrize("faults", list(cases()), ids=" ".join)
def test_killed_at_that_place_the_day_ends_as_any_other(day: Day, faults: tuple[str, ...]) -> None:
    if scene := SCENES.get(faults[0].partition(":")[0]):
        scene(day)
    for fault in faults:
        day.dies(fault)

    day.ends()

    day.check()


@pytest.mark.parametrize(
    "faults", [("inbox.hang:before", "inbox.hang:after"), ("inbox.hang:after:3",)], ids=" ".join
)
def test_killed_while_a_unit_is_split_it_is_split_once(day: Day, faults: tuple[str, ...]) -> None:
    split(day)
    for fault in faults:
        day.dies(fault)

    day.ends()

    day.check()


def test_killed_with_its_git_half_way_through_the_files_of_a_landing_it_is_completed(
    day: Day,
) -> None:
    torn(day)

    day.ends()

    day.check()
