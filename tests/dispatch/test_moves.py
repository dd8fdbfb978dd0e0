"""Who or what moves an open unit next: a row for each state."""

from dataclasses import replace
from typing import Any

import pytest

from factory.dispatch.moves import QUEUE, RETRY_S, START, Allowed, Line, expected
from factory.people.causes import DISK_FULL, TRUNK_GONE, TRUNK_RED, Cause, cause, landing_unknown
from factory.store.records import Card, CardKind, Hook
from factory.store.unit import Unit, UnitState
from tests.on_record import NOW, later

WAITING, READY, RUNNING, QUEUED, HELD = (
    UnitState.WAITING,
    UnitState.READY,
    UnitState.RUNNING,
    UnitState.QUEUED,
    UnitState.HELD,
)
ALLOWED = Allowed(setup=1800, judging=120, proof=7, agents={"fix": 60})
OWN = cause("guard", "fix")


def unit(state: UnitState, name: str = "fix", **fields: Any) -> Unit:
    return Unit(id=name, title=name, state=state, since=NOW, accepted=NOW, **fields)


def card(about: Cause, *units: str) -> Card:
    return Card(
        id="E1", kind=CardKind.CONFIG, fingerprint=about.key, since=NOW, question="?", units=units
    )


def hook(phase: str) -> Hook:
    return Hook(worker="w1", index=1, unit="fix", attempt=1, phase=phase, since=NOW)


def line(*units: Unit, **facts: Any) -> Line:
    return Line(at=NOW, units=units, allowed=ALLOWED, **facts)


# what the daemon itself must move: the line, what the move is about, and its limits
OURS: dict[str, tuple[Line, str, dict[str, float]]] = {
    "ready": (
        line(unit(READY), unit(READY, "b")),
        START,
        {"accept": 7, "setup": 1800, "gates": 120},
    ),
    "ready while trunk is red, but urgent": (
        line(unit(READY, priority=0), cards=[card(TRUNK_RED)]),
        START,
        {"accept": 7, "setup": 1800, "gates": 120},
    ),
    "its workspace is prepared": (
        line(unit(RUNNING), hooks=[hook("preparing")]),
        "fix",
        {"agent": 60, "setup": 1800},
    ),
    "its agent works": (line(unit(RUNNING), hooks=[hook("working")]), "fix", {"agent": 60}),
    "running on no hook": (line(unit(RUNNING)), "fix", {}),
    "queued": (line(unit(QUEUED)), QUEUE, {"setup": 1800, "gates": 120}),
    "queued while trunk is red": (
        line(unit(QUEUED), cards=[card(TRUNK_RED, "other")]),
        QUEUE,
        {"setup": 1800, "gates": 120},
    ),
    "held without a card": (line(unit(HELD)), "fix", {}),
    "waiting for a closed card": (line(unit(WAITING, cause="setup:x")), "fix", {}),
    "waiting for a time that has come": (line(unit(WAITING, not_before=NOW)), "fix", {}),
    "waiting for nothing": (line(unit(WAITING)), "fix", {}),
    "waiting for a unit that has landed": (
        line(unit(WAITING, needs=("a",)), needed={"a": UnitState.LANDED}),
        "fix",
        {},
    ),
    "waiting for a cancelled unit": (
        line(unit(WAITING, needs=("a",)), needed={"a": UnitState.CANCELLED}),
        "fix",
        {},
    ),
    "waiting for a unit that does not exist": (line(unit(WAITING, needs=("a",))), "fix", {}),
    "asked about by a card of this kind only": (
        line(unit(HELD), cards=[card(cause("stuck", "fix"), "fix")]),
        "fix",
        {},
    ),
}
# what somebody or something else moves
THEIRS: dict[str, Line] = {
    "no unit": line(),
    "ready, and the line is paused": line(unit(READY), paused=True),
    "ready, and an agent is paused": line(unit(READY), resting=True),
    "ready while trunk is red": line(unit(READY), cards=[card(TRUNK_RED)]),
    "ready without trunk": line(unit(READY), cards=[card(TRUNK_GONE)]),
    "waiting without trunk": line(unit(WAITING), cards=[card(TRUNK_GONE)]),
    "ready with a card": line(unit(READY), cards=[card(OWN, "fix")]),
    "queued without trunk": line(unit(QUEUED), cards=[card(TRUNK_GONE)]),
    "queued behind a landing that nobody knows": line(
        unit(QUEUED), cards=[card(landing_unknown("s"))]
    ),
    "queued, and its landing is blocked": line(unit(QUEUED), cards=[card(OWN, "fix")]),
    "running on a full disk": line(unit(RUNNING), cards=[card(DISK_FULL)]),
    "held with a card": line(unit(HELD), cards=[card(OWN, "fix")]),
    "waiting for a card": line(unit(WAITING, cause=OWN.key), cards=[card(OWN)]),
    "waiting for a time": line(unit(WAITING, not_before=later(1))),
}


@pytest.mark.parametrize("name", OURS)
def test_what_factoryd_moves_has_the_limits_in_force(name: str) -> None:
    facts, about, limits = OURS[name]

    (move,) = expected(facts)

    assert (move.about, dict(move.limits)) == (about, limits | {"retries": RETRY_S})
    assert move.seconds == sum(limits.values()) + RETRY_S


@pytest.mark.parametrize("name", THEIRS)
def test_what_others_move_is_never_stuck(name: str) -> None:
    assert expected(THEIRS[name]) == []


def test_a_unit_behind_another_waits_for_that_one_and_a_ready_one_for_what_runs() -> None:
    facts = line(
        unit(WAITING, "b", needs=("fix", "gone")),
        unit(READY, "c"),
        unit(RUNNING),
        unit(QUEUED, "q"),
    )

    assert [move.about for move in expected(facts)] == [QUEUE, "fix"]


def test_only_needs_that_do_not_exist_are_missing() -> None:
    needy = unit(WAITING, needs=("landed", "typo"))

    (move,) = expected(line(needy, needed={"landed": UnitState.LANDED}))

    assert move.missing == ("typo",)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            line(unit(RUNNING), hooks=[hook("preparing")]),
            line(unit(RUNNING), hooks=[hook("working")]),
        ),
        (line(unit(RUNNING, attempt=1)), line(unit(RUNNING, attempt=2))),
        (line(unit(QUEUED), queue="a"), line(unit(QUEUED), queue="b")),
        (line(unit(QUEUED)), line(unit(QUEUED), unit(QUEUED, "b"))),
        (line(unit(READY)), line(unit(READY, why="another"))),
        (line(unit(WAITING)), line(unit(WAITING, needs=("a",)))),
    ],
)
def test_a_move_changes_the_marks(before: Line, after: Line) -> None:
    (old,), (new,) = expected(before), expected(after)

    assert old.marks != new.marks
    assert old.marks == expected(replace(before, at=later(500)))[0].marks
