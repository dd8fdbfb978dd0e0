"""A short chaos of a fixed seed, and a full disk; `make chaos` is the long one."""

from pathlib import Path

import pytest

from tests.chaos import disk
from tests.chaos.chaos import Chaos


def test_a_line_that_is_killed_at_every_turn_keeps_its_promises(tmp_path: Path) -> None:
    chaos = Chaos(tmp_path, seed=20, units=16, kills=40, workers=3, seconds=25)
    try:
        chaos.run()
    finally:
        chaos.line.close()

    print(chaos.report(0))
    assert (chaos.found.all, chaos.odd_cards) == ([], [])
    assert str(chaos.found) == "lost 0, twice 0, red trunk 0, strays 0, user files changed 0"


@pytest.mark.parametrize("how", ["tmpfs", "injected"])
def test_a_full_disk_is_one_card_loses_nothing_and_goes_on_by_itself(
    how: str, tmp_path: Path
) -> None:
    if how == "tmpfs" and not disk.tmpfs_works():
        pytest.skip("no file system can be mounted here in a name space of one's own")

    assert disk.run(tmp_path, how) == ""


def test_whatever_is_done_to_the_factory_from_outside_it_keeps_its_promises(tmp_path: Path) -> None:
    chaos = Chaos(tmp_path, seed=31, units=8, kills=4, workers=2, seconds=25, disasters=9)
    try:
        chaos.run()
    finally:
        chaos.line.close()

    print(chaos.report(0))
    assert (chaos.found.all, chaos.odd_cards) == ([], [])
