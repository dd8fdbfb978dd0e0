"""Causes: one key each, and over as soon as the facts say so."""

from dataclasses import replace
from pathlib import Path

import pytest

from factory.people import cards as words
from factory.people import line_cards
from factory.people.causes import (
    DISK_FULL,
    Ask,
    Circumstances,
    cause,
    parse,
)
from factory.store.unit import UnitState
from tests.on_record import NOW, OnRecord

FULL = line_cards.disk_full("/d")
MISSING = line_cards.runtime_trouble("claude", "claude is missing.")
SPENT = line_cards.day_spent(cause("day", "monday:$1"), used="$1", cap="$1")
EMPTY = Circumstances(full=None, rules_read=True)


@pytest.mark.parametrize(
    "key", ["disk", "no_gate", "runtime:", "runtime:claude", "setup:pip: no", "day:d:$1", "other:x"]
)
def test_a_cause_is_read_from_its_key(key: str) -> None:
    assert parse(key).key == key
    assert parse(key) == parse(key)


@pytest.fixture
def line(tmp_path: Path) -> OnRecord:
    return OnRecord(tmp_path)


LASTING: list[tuple[Ask, Circumstances]] = [
    (FULL, replace(EMPTY, full=FULL)),
    (line_cards.no_gate(), replace(EMPTY, obstacle=line_cards.no_gate())),
    (line_cards.wrong_prompt("unit.md: no", "k"), replace(EMPTY, prompts="k")),
    (MISSING, replace(EMPTY, agents={"claude": MISSING})),
    (SPENT, replace(EMPTY, day=SPENT.cause)),
]


@pytest.mark.parametrize(("ask", "facts"), LASTING)
def test_a_card_stays_while_its_cause_lasts_and_is_closed_when_it_is_over(
    line: OnRecord, ask: Ask, facts: Circumstances
) -> None:
    line.raise_card(ask)
    before = line.events()
    assert list(line.escalations.reconcile(facts, now=NOW)) == []
    assert line.events() == before

    over = line.escalations.reconcile(EMPTY, now=NOW)

    assert list(over) == [ask.cause]
    assert (line.open_cards(), bool(line.the_card().closed_why)) == ([], True)


def test_before_trunks_rules_are_read_only_the_disk_is_known(line: OnRecord) -> None:
    for ask, _ in LASTING:
        line.raise_card(ask)

    over = line.escalations.reconcile(Circumstances(full=None), now=NOW)

    assert list(over) == [DISK_FULL]


def test_a_card_with_evidence_is_not_closed_by_what_can_be_seen(line: OnRecord) -> None:
    line.raise_card(line_cards.not_logged_in("claude", "/login", evidence="401"))

    assert list(line.escalations.reconcile(EMPTY, now=NOW)) == []


def test_a_card_gets_the_present_words_of_its_cause(line: OnRecord) -> None:
    line.raise_card(MISSING)
    wrong = line_cards.runtime_trouble("claude", "claude.toml: nonsense")

    line.escalations.reconcile(replace(EMPTY, agents={"claude": wrong}), now=NOW)

    assert line.the_card().question == "claude.toml: nonsense"


def test_a_unit_at_its_cap_goes_on_when_the_cap_was_raised(line: OnRecord) -> None:
    unit = line.unit(state=UnitState.HELD)
    line.raise_card(words.unit_spent(unit, used="$1", cap="$1"), unit)
    line.escalations.reconcile(replace(EMPTY, at_cap={"fix"}), now=NOW)
    assert line.the_unit().state is UnitState.HELD

    line.escalations.reconcile(EMPTY, now=NOW)

    unit = line.the_unit()
    assert (unit.state, unit.why) == (UnitState.READY, "its limit in factory.toml was raised")
    assert line.open_cards() == []
