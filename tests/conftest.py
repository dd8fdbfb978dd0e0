"""What all tests share."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Asyncio only: the daemon waits on pidfds through its loop."""
    return "asyncio"
