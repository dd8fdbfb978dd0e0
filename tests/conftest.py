"""What all tests share."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis.configuration import set_hypothesis_home_dir

# One for each process: several that fill one at the same time trip over each other.
set_hypothesis_home_dir(Path(tempfile.gettempdir()) / f"hypothesis-{os.getpid()}")


@pytest.fixture
def anyio_backend() -> str:
    """Asyncio only: the daemon waits on pidfds through its loop."""
    return "asyncio"
