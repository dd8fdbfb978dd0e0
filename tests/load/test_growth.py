"""A short form of `make growth`, and what a long history must not change."""

import re
import sys
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import pytest

from factory.store.ports import Store
from tests.acceptance.line import Line
from tests.finished import fill, name_of
from tests.journal import entries_of, fold
from tests.load.growth import Cost, Grown, draw, ratios, table
from tests.load.plans import scans_history
from tests.memory_store import MemoryStore
from tests.store_contract import tables

SVG = "http://www.w3.org/2000/svg"

OF_A_REAL_UNIT = (("show",), ("show", "--json"), ("why",), ("log",))
OF_A_FILLED_UNIT = (("show",), ("why",), ("log",))  # its commits do not exist; its texts get short


@pytest.mark.skipif(sys.platform != "linux", reason="CPU and bytes are read in /proc")
def test_a_unit_costs_no_more_with_a_long_history_and_finished_units_stay_readable(
    tmp_path: Path,
) -> None:
    scans = tmp_path / "scans"
    costs = {20: Cost(), 300: Cost()}
    with ExitStack() as lines:
        few = lines.enter_context(Grown(tmp_path / "few", 20, restarts=False).running())
        long = Grown(tmp_path / "many", 300, plans=scans, restarts=False)
        many = lines.enter_context(long.running())
        for _ in range(2):
            costs[20] += few.land(2)
            costs[300] += many.land(2)
        few.line.stop()
        told = stories(few.line)
        real = events(few.line.store, "page-3")
        compact(few.line)

        assert stories(few.line) == told

    print(table(costs))
    # A machine that does other things too blurs CPU: `make growth` holds the measure.
    assert max(ratios(costs)) < 1.5
    assert scans.read_text() == ""
    assert events(filled(), name_of(0)) >= real


def stories(line: Line) -> list[str]:
    """What a person reads about two units, without how long ago things happened."""
    said = []
    for unit, commands in (("page-3", OF_A_REAL_UNIT), (name_of(7), OF_A_FILLED_UNIT)):
        for command, *options in commands:
            code, text = line.factory(command, unit, *options)
            assert code == 0, text
            said.append(re.sub(r"\b\d+ (s|min|h)\b", "TIME", text))
    return said


def compact(line: Line) -> None:
    """Compact the journal, as the keeper does a month later."""
    later = datetime.now(UTC) + timedelta(days=31)
    size = len(list(entries_of(line.store)))
    while line.store.compact(before=later, now=later):
        pass
    assert len(list(entries_of(line.store))) < size / 2
    assert fold(entries_of(line.store)) == tables(line.store)


def events(store: Store, unit: str) -> set[tuple[str, tuple[str, ...]]]:
    """The events of a unit, each with the tables that it changed."""
    found = set()
    for entry in entries_of(store, unit=unit):
        changed = tuple(table for table, _ in entry.changes)
        found.add((str(entry.event), tuple(sorted(changed))))
    return found


def filled() -> MemoryStore:
    """A store with one generated unit, which has landed."""
    store = MemoryStore()
    fill(store, 1)
    return store


@pytest.mark.parametrize(
    ("step", "scans"),
    [
        ("SCAN spec", True),
        ("SCAN unit USING INDEX sqlite_autoindex_unit_1", True),
        ("SCAN unit USING INDEX unit_open", False),
        ("SCAN hook USING INDEX sqlite_autoindex_hook_1", False),
        ("SEARCH unit USING INDEX unit_state (state=?)", False),
    ],
)
def test_a_step_of_a_plan_that_reads_a_whole_table_is_noticed(step: str, scans: bool) -> None:
    assert scans_history(step) is scans


def test_the_picture_shows_every_figure() -> None:
    picture = draw({100: Cost(20.0, 200 << 20, 200), 100_000: Cost(22.0, 210 << 20, 200)})

    texts = [text.text for text in ElementTree.fromstring(picture).iter(f"{{{SVG}}}text")]
    assert {"100", "110", "1,024", "1,075", "100,000"} <= set(texts)
