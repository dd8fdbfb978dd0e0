"""Lines for tests: one of its own, or one that the tests of a module share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.line import Line, line_in


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    """A line that nobody else uses; its daemon runs."""
    with line_in(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """The line of the whole module: for tests that leave trunk green and no card open."""
    with line_in(tmp_path_factory.mktemp("line")) as running:
        yield running


@pytest.fixture
def cold(tmp_path: Path) -> Iterator[Line]:
    """A line whose daemon has not been started yet."""
    line = Line(tmp_path)
    try:
        yield line
    finally:
        line.close()
