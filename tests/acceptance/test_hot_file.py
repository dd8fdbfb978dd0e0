"""Many units that append to one file: all land, in the order of the drop, and none starts more than twice."""

import os

from factory.store.records import Attempt, Card
from tests.acceptance.line import CONFIG, Line

COLOURS = ("umber", "sienna", "ochre", "teal", "mauve", "coral", "amber")  # not by the alphabet
UNITS = int(os.environ.get("UNITS", len(COLOURS)))
RUN = "---\nrun: echo {name} >> log.txt\n---\n"
CODE = """
    if '{name}' not in Path('log.txt').read_text().split():
        write('log.txt', Path('log.txt').read_text() + '{name}\\n')
    """


def test_units_that_append_to_one_file_land_in_the_order_of_the_drop(cold: Line) -> None:
    """Every other unit is an agent's; UNITS=20 makes it twenty."""
    names = [f"{COLOURS[-number % len(COLOURS)]}-{number}" for number in range(UNITS)]
    cold.configure_before(CONFIG.replace("workers = 2", "workers = 3"))
    cold.commit({"log.txt": "begin\n"})
    for number, name in enumerate(names):
        if number % 2:
            cold.drop(name, CODE.format(name=name))
        else:
            cold.drop_text(name, RUN.format(name=name))

    cold.start()

    for name in names:
        cold.unit(name)
    landed = cold.on_trunk()
    starts = [len(cold.store.select(Attempt, unit=name)) for name in names]
    drift = [abs(place - names.index(name)) for place, name in enumerate(landed)]
    assert cold.store.select(Card) == []
    assert (sorted(landed), max(starts)) == (sorted(names), 2)
    assert max(drift) <= 2, landed
