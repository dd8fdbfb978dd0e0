"""Killed at every fault point: the next start makes it good, by all nine invariants (tests/faults/day.py).

Each point is died at on both sides, one after the other: the daemon that comes after the first death dies on the other
side of the same effect. Points that a day passes one after another (TOGETHER) are died at in one day, and the last daemon
finishes it. `make faults` (FACTORY_FAULTS=all) does more: each side on a day of its own, at its first and its second
passage.
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
    "store.attempt.explained": "needs busy benches: tests/attempt/test_explained.py dies there",
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

# Died at in one day, in this order. What is in no row has a day of its own.
TOGETHER = (
    ("exclude.write", "store.make", "clone.make", "clone.seize"),
    ("folders.make", "store.daemon.started", "marks.write", "pid.write"),
    ("trunk.fetch", "store.trunk.judged", "store.worker.joined", "archive.prune"),
    ("environment.build", "tree.reset", "tree.enter", "environment.print"),
    ("inbox.take", "store.task.accepted", "inbox.explain", "inbox.reject"),
    ("inbox.settle", "store.unit.ready", "store.hook.filled", "store.attempt.noted"),
    ("attempt.files", "home.claim", "tree.excludes", "tree.claim"),
    ("environment.tidy", "agent.start", "store.attempt.started", "environment.lay"),
    ("place.empty", "tree.git", "command.note", "command.start"),
    ("attempt.disarm", "attempt.stage", "attempt.nested", "attempt.keep"),
    ("command.forget", "store.card.raised", "store.unit.told", "store.attempt.ended"),
    ("store.card.answered", "store.verdict.given", "trunk.rehearse"),
    ("attempt.carry", "tree.carry"),
    ("store.request.done", "landing.send", "landing.merge", "landing.follow"),
    ("store.landing.opened", "store.landing.closed"),
    ("store.fact.changed", "store.unit.landed", "store.daemon.stopped", "pid.remove"),
    ("archive.put", "archive.task", "store.attempts.archived"),
    ("landing.unlock", "landing.mend"),
    ("store.config.changed", "store.config.refused", "store.worker.left", "store.card.closed"),
    ("store.line.paused", "store.line.resumed"),
    ("store.unit.prioritized", "store.unit.cancelled"),
    ("submission.fetch", "store.unit.submitted"),
)


def cases() -> Iterator[tuple[str, ...]]:
    left = sorted(PLACES - NOWHERE.keys())
    if ALL:
        for name in left:
            yield from each_alone(name)
        return
    for names in (*TOGETHER, *zip(left)):
        if not set(names) <= set(left):
            continue
        for name in names:
            left.remove(name)
        if set(names) <= APART.keys():
            yield from zip(both(*names))
        else:
            yield both(*names)


def both(*names: str) -> tuple[str, ...]:
    """Both sides of each point."""
    return tuple(f"{name}:{side}" for name in names for side in ("before", "after"))


def each_alone(name: str) -> Iterator[tuple[str, ...]]:
    """Days with one death, at the first and at the second passage."""
    sides = both(name)
    yield from zip(sides)
    if name not in ONCE:
        yield from (
            (side, side) if name in EACH else (f"{side}:2",) for side in sides if side not in DONE
        )


@pytest.fixture
def day(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Day]:
    day = Day(tmp_path, twice=":2" in request.node.name)
    try:
        yield day
    finally:
        day.close()


def test_each_fault_point_is_died_at_on_both_sides() -> None:
    died = {fault.removesuffix(":2") for faults in cases() for fault in faults}

    assert died == set(both(*(PLACES - NOWHERE.keys())))
    assert {len({SCENES.get(name) for name in names}) for names in TOGETHER} == {1}
    assert PLACES.issuperset(name for names in TOGETHER for name in names)


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
