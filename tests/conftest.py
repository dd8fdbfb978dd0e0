"""What all tests share."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis.configuration import set_hypothesis_home_dir

from tests.cli_line import OPEN

# One for each process: several that fill one at the same time trip over each other.
set_hypothesis_home_dir(Path(tempfile.gettempdir()) / f"hypothesis-{os.getpid()}")


@pytest.fixture
def anyio_backend() -> str:
    """Asyncio only: the daemon waits on pidfds through its loop."""
    return "asyncio"


@pytest.fixture(autouse=True)
def lines_are_closed() -> Iterator[None]:
    """No test leaves a connection for the garbage collector, which might find it in another thread."""
    yield
    while OPEN:
        OPEN.pop().close()
