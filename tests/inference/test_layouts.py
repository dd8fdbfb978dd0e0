"""What judges small repositories of many shapes."""

from collections import Counter

import pytest

from tests.inference.layouts import LAYOUTS, Layout
from tests.inference.layouts_of import shown


@pytest.mark.parametrize("layout", LAYOUTS, ids=[f"{each.row}: {each.name}" for each in LAYOUTS])
def test_what_judges_a_repository_is_read_from_its_files(layout: Layout) -> None:
    assert shown(layout.files) == (layout.gates, layout.setup, layout.keeps)


def test_the_table_has_many_rows_and_at_most_three_layouts_for_each() -> None:
    rows = Counter(layout.row for layout in LAYOUTS)

    assert len(LAYOUTS) >= 80
    assert max(rows.values()) <= 3
    assert len({layout.name for layout in LAYOUTS if ":" in layout.name}) >= 30
