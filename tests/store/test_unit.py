from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.ground.errors import IllegalTransition
from factory.store.unit import (
    FINAL,
    LEADS_TO,
    SPENDS,
    EndReason,
    Unit,
    UnitState,
    advance,
    spent_by,
)
from tests.store_contract import NOW, READY, of_kind

STATES = st.sampled_from(UnitState)
LATER = NOW + timedelta(minutes=3)


@given(unit=of_kind(Unit), to=STATES)
def test_a_unit_makes_exactly_the_moves_of_the_table(unit: Unit, to: UnitState) -> None:
    if to in LEADS_TO[unit.state]:
        assert advance(unit, to, now=LATER, why="so") == replace(
            unit, state=to, since=LATER, why="so"
        )
    else:
        with pytest.raises(IllegalTransition):
            advance(unit, to, now=LATER)


@given(path=st.lists(STATES, max_size=30))
def test_no_walk_leaves_a_final_state_or_lands_twice(path: list[UnitState]) -> None:
    walked = [READY.state]
    unit = READY

    for to in path:
        if to in LEADS_TO[unit.state]:
            unit = advance(unit, to, now=LATER)
            walked.append(unit.state)

    assert not FINAL.intersection(walked[:-1])
    assert walked.count(UnitState.LANDED) <= 1


def test_a_refused_move_is_said_with_unit_and_states() -> None:
    with pytest.raises(IllegalTransition, match="unit fix-login cannot go from ready to landed"):
        advance(READY, UnitState.LANDED, now=LATER)


def test_a_move_forgets_the_old_reason() -> None:
    held = advance(replace(READY, why="its turn"), UnitState.HELD, now=LATER)

    assert held.why == ""


def test_the_table_has_a_row_for_every_state_and_no_move_to_itself() -> None:
    assert LEADS_TO.keys() == set(UnitState)
    assert not [state for state in UnitState if state in LEADS_TO[state]]


def test_the_final_states_are_those_that_lead_nowhere() -> None:
    assert {state for state in UnitState if not LEADS_TO[state]} == FINAL


@pytest.mark.parametrize("state", sorted(set(UnitState) - FINAL))
def test_from_every_open_state_a_unit_can_land_and_be_cancelled(state: UnitState) -> None:
    reached = {state}
    while more := {to for known in reached for to in LEADS_TO[known]} - reached:
        reached |= more

    assert UnitState.LANDED in reached
    assert UnitState.CANCELLED in LEADS_TO[state]


def test_only_what_was_judged_lands() -> None:
    assert [state for state in UnitState if UnitState.LANDED in LEADS_TO[state]] == [
        UnitState.QUEUED
    ]


def test_the_reasons_that_spend_an_attempt_are_those_of_the_contract() -> None:
    spent = {"empty", "gate_red", "not_proven", "out_of_scope", "guard"}
    spent |= {"timed_out", "silent", "no_progress", "crashed", "over_budget"}

    assert {str(reason) for reason in EndReason if SPENDS[reason]} == spent
    assert SPENDS.keys() == set(EndReason)


C, RED, BACK = EndReason.CONFLICT, EndReason.GATE_RED, EndReason.HANDED_BACK


@pytest.mark.parametrize(
    ("reasons", "spent"),
    [
        ((C, C), 0),
        ((C, C, C), 1),
        ((C, BACK, C, EndReason.TOLD, C, C), 2),
        ((C, C, RED, C, C), 1),
        ((RED, C, RED), 2),
    ],
)
def test_a_conflict_counts_from_the_third_in_a_row_on(
    reasons: tuple[EndReason, ...], spent: int
) -> None:
    assert spent_by(reasons) == spent
