"""A factory that a daemon of an older release left in every state at once goes on under this one."""

import tarfile
from pathlib import Path

import pytest

from factory.store.journal import Event
from factory.store.records import Card, CardKind
from factory.store.unit import UnitState
from tests.acceptance.line import Line

STORES = Path(__file__).parents[1] / "stores"


@pytest.mark.parametrize("packed", sorted(STORES.glob("*.tar.gz")), ids=lambda path: path.stem)
def test_what_an_older_release_left_goes_on(packed: Path, tmp_path: Path) -> None:
    with tarfile.open(packed) as archive:
        archive.extractall(tmp_path, filter="data")
    line = Line(tmp_path)
    for go in (tmp_path / "go", line.home / "go"):
        go.touch()
    try:
        line.start()

        assert any("was in" in text for text in line.status()["warnings"]), (
            "it was packed elsewhere"
        )
        card = line.card(CardKind.QUESTION)
        assert card.unit == "asks"
        line.answer(card, "left")
        for name in ("works", "works-too"):
            line.event(Event.ATTEMPT_ENDED, unit=name, attempt=1, reason="lost")
            line.factory("retry", name)
        guard = next(each for each in line.store.open(Card) if each.kind is CardKind.GUARD)
        line.answer(guard, "Cancel")
        for name in ("rests", "rests-for-ever", "unable", "asks"):
            line.factory("cancel", name)
        for name in ("queues", "after", "works", "works-too", "behind"):
            line.unit(name)
        line.unit("meddles", UnitState.CANCELLED)
        code, said = line.factory("show", "works")
        assert (code, "Mind the gap" in line.prompt("works", 2)) == (0, True), said
    finally:
        line.close()
