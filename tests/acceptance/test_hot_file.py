"""Many units that change the same place in one file: all land, in order, and none starts more than twice."""

import pytest

from factory.store.records import Attempt, Card
from factory.store.unit import Unit, UnitState
from tests.acceptance.line import CONFIG, Line

NAMES = ("umber", "sienna", "ochre", "teal", "mauve", "coral", "amber")  # not by the alphabet
RUN = "---\nrun: echo {name} >> log.txt\n---\n"
CODE = """
    text = Path('log.txt').read_text() if Path('log.txt').exists() else ''
    if '{name}\\n' not in text:
        write('log.txt', text + '{name}\\n')
    """


@pytest.mark.parametrize("kind", ["run", "agent"])
def test_seven_units_that_append_to_one_file_land_in_the_order_of_the_drop(
    kind: str, cold: Line
) -> None:
    cold.configure_before(CONFIG.replace("workers = 2", "workers = 3"))
    cold.commit({"log.txt": "begin\n"})
    for name in NAMES:
        if kind == "run":
            cold.drop_text(name, RUN.format(name=name))
        else:
            cold.drop(name, CODE.format(name=name))

    cold.start()

    for name in NAMES:
        cold.unit(name)
    print("order", cold.on_trunk(), {name: cold.attempts(name) for name in NAMES})
    assert cold.store.select(Card) == []
    assert [unit.state for unit in cold.store.select(Unit)] == [UnitState.LANDED] * 7
    starts = {name: len(cold.store.select(Attempt, unit=name)) for name in NAMES}
    assert max(starts.values()) <= 2, starts
    places = [abs(place - NAMES.index(name)) for place, name in enumerate(cold.on_trunk())]
    assert max(places) <= 2, cold.on_trunk()
