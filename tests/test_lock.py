"""The lock can be installed by the pip that comes with each Python that the project runs on."""

from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

LOCK = (Path(__file__).parents[1] / "requirements.lock").read_text(encoding="utf-8")
LOCKED = [Requirement(line.split()[0]).name for line in LOCK.splitlines() if line[:1].isalnum()]


@pytest.mark.parametrize("name", [*LOCKED, "factoryd"])
def test_nothing_that_is_locked_asks_for_an_extra(name: str) -> None:
    needs = [Requirement(text) for text in requires(name) or ()]
    needed = [need for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]

    # pip up to 24 looks for NAME[extra] anew instead of taking the NAME that is locked, and then misses its hash.
    assert [str(need) for need in needed if need.extras] == []
