"""Gates that repair what they judge, in a line: what lands is what they passed, and nobody is blamed for trunk."""

from collections.abc import Callable
from pathlib import Path

import pytest

from factory.store.records import CardKind
from factory.store.unit import UnitState
from tests.acceptance.line import Line, files

FIX = "sed -i s/wrong/right/ *.txt\n"


@pytest.fixture
def made(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Line]:
    """Makes a line that is taken down at the end."""

    def make(contents: dict[str, str]) -> Line:
        line = Line(tmp_path, contents)
        request.addfinalizer(line.close)
        return line.start()

    return make


def test_work_that_passes_only_once_its_gate_has_repaired_it_goes_back_and_lands_repaired(
    made: Callable[..., Line],
) -> None:
    line = made(files() | {"conventions/gates/20-fix.sh": FIX})

    line.drop("one", "write('one.txt', 'right' if Path('one.txt').exists() else 'wrong')")

    landed = line.unit("one")
    assert line.attempts("one") == ["gate_red", "submitted"]
    assert "Gate 20-fix succeeds only by changing one.txt" in line.prompt("one", 2)
    assert line.git("show", f"{landed.commit}:one.txt") == "right"


def test_where_trunks_own_gate_changes_files_one_card_asks_and_no_unit_is_blamed(
    made: Callable[..., Line],
) -> None:
    inferred = {"Makefile": "test:\n\tdate > stamp.txt\n", "stamp.txt": "never\n"}
    without = {path: text for path, text in files().items() if "/gates/" not in path}
    line = made(without | inferred)
    card = line.card(CardKind.TRUNK_RED)
    line.drop("one", "write('one.txt', 'fine')", priority=0)
    line.unit("one", UnitState.WAITING)
    assert "test changes files that it judges: stamp.txt" in card.question

    line.answer(card, "Restore the files after it")

    landed = line.unit("one")
    assert line.attempts("one") == ["submitted"]
    assert line.git("show", f"{landed.commit}:stamp.txt") == "never"
    line.no_card(CardKind.TRUNK_RED)
    assert line.status()["warnings"] == [
        "factoryd restores stamp.txt after the inferred gate test, because of your answer"
    ]
