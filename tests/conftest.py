"""What all tests share."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis.configuration import set_hypothesis_home_dir

from tests.cli_line import OPEN

# Where the tests were started in the background of a shell, they ignore Ctrl-C, and so would all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

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
