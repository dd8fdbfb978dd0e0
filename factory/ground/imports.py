"""Keeps packages out of the process that a library loads only if they are installed.

Invariant: a package that is already loaded stays loaded, and after the block it can be imported.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast


@contextmanager
def hidden(package: str) -> Iterator[None]:
    """Make imports of the package fail inside the block."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = cast("Any", None)
    try:
        yield
    finally:
        del sys.modules[package]
