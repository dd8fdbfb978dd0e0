"""A git of ours that hangs: status names it, a stop says what it waits for and returns, and the next start goes on."""

import json
import re
import signal

import pytest

from factory.store.records import Fact
from factory.store.unit import UnitState
from tests.acceptance.line import Line

HANGS = "kill -STOP $$"  # as with a disk that does not answer; SIGTERM does not reach it


def stopped_at_once(line: Line) -> str:
    """What `factoryd stop --now` prints; it has to return, with the daemon gone."""
    code, said = line.factoryd("stop", "--now")
    assert (code, said.splitlines()[-1]) == (0, "stopped")
    assert line.daemon is not None
    assert line.daemon.wait(1) == 0
    line.daemon = None
    return said


@pytest.mark.parametrize("call", [" merge-tree ", " write-tree", " --ff-only "])
def test_a_stop_at_once_says_which_git_it_waits_for_and_returns_and_the_unit_lands_after_the_next_start(
    cold: Line, call: str
) -> None:
    marks = cold.folder / "once"
    cold.wrap_git(on=call, before=HANGS)
    cold.start()
    cold.drop("one", "write('one.txt', 'fine')")
    cold.until("git hangs", marks.exists)

    said = stopped_at_once(cold)

    words = call.strip() if call != " --ff-only " else "merge"
    assert re.search(
        rf"waiting: git {words} \(pid \d+\) has run for \d+ s; the factory ends it after \d+ s",
        said,
    )
    cold.start()
    cold.unit("one")
    assert (cold.attempts("one"), cold.on_trunk()) == (["submitted"], ["one"])
    assert cold.git("status", "--porcelain") == ""


def test_a_restart_ends_a_git_that_hangs_and_goes_on(cold: Line) -> None:
    cold.wrap_git(on=" merge-tree ", before=HANGS)
    cold.start()
    cold.drop("one", "write('one.txt', 'fine')")
    cold.until("git hangs", (cold.folder / "once").exists)

    assert cold.daemon is not None
    cold.daemon.send_signal(signal.SIGHUP)
    assert cold.daemon.wait(60) == 0
    cold.start()

    cold.unit("one", UnitState.LANDED)
    fact = cold.store.get(Fact, "slow")
    assert fact is None or json.loads(fact.value) == []
