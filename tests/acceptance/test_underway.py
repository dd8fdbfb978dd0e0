"""Setups and gates outlive the daemon: restarts more often than they take keep nothing from landing."""

import signal

import pytest

from factory.store.journal import Event
from tests.acceptance.line import Line
from tests.acceptance.test_restart import FINE, alive

WAITS = "echo $$ >> {folder}/{name}; while [ ! -e {folder}/go-{name} ]; do sleep 0.01; done\n"


def waiting(line: Line, name: str) -> str:
    """A script that notes each of its runs, and waits until it may go on."""
    return WAITS.format(folder=line.folder, name=name)


def let_go(line: Line, name: str) -> None:
    (line.folder / f"go-{name}").touch()


def runs(line: Line, name: str) -> list[int]:
    """The pids of all runs so far."""
    path = line.folder / name
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []


def begun(line: Line, name: str, count: int = 1) -> list[int]:
    """Wait for so many runs."""
    return line.until(
        f"{name} runs", lambda: found if len(found := runs(line, name)) >= count else None
    )


def candidates_only(line: Line) -> str:
    """A gate that waits where a candidate is judged."""
    return f"test -e fine.txt || exit 0\n{waiting(line, 'gate')}"


def restart(line: Line, how: str) -> None:
    line.kill() if how == "killed" else line.stop(signal.SIGHUP)
    line.start()


def test_with_restarts_more_often_than_a_setup_takes_it_is_made_once_and_units_land(
    cold: Line,
) -> None:
    cold.environ["FACTORY__GATES__BENCHES"] = "1"  # a second one would have a setup of its own
    cold.commit({"conventions/workspace/setup.sh": waiting(cold, "setup")})
    cold.start()
    cold.drop("lands", FINE)
    cold.event(Event.HOOK_FILLED, unit="lands")
    first = begun(cold, "setup", 2)  # the bench's and the workspace's

    for how in ("killed", "restarted"):
        restart(cold, how)
        cold.until("trunk is looked at", lambda: cold.status()["trunk"]["state"] == "judging")
    let_go(cold, "setup")
    cold.unit("lands")

    assert runs(cold, "setup") == first
    assert cold.attempts("lands") == ["submitted"]


def test_with_restarts_more_often_than_a_gate_takes_it_runs_once_and_its_unit_lands(
    cold: Line,
) -> None:
    cold.environ["FACTORY__GATES__BENCHES"] = "1"  # trunk's own judging must not take it
    cold.commit({"conventions/gates/20-slow.sh": candidates_only(cold)})
    cold.start()
    cold.drop("fine", FINE, accept=[f"echo x >> {cold.folder}/accept; test -e fine.txt"])
    first = begun(cold, "gate")

    for how in ("killed", "restarted"):
        restart(cold, how)
        assert all(map(alive, first))
    let_go(cold, "gate")
    cold.unit("fine")

    assert runs(cold, "gate") == first
    assert (cold.folder / "accept").read_text().split() == [
        "x"
    ] * 3  # before the first attempt, and when judged
    assert cold.attempts("fine") == ["submitted"]


def test_a_gate_that_ended_while_no_daemon_ran_is_not_run_again(cold: Line) -> None:
    cold.commit({"conventions/gates/20-slow.sh": candidates_only(cold)})
    cold.start()
    cold.drop("fine", FINE)
    first = begun(cold, "gate")

    cold.kill()
    let_go(cold, "gate")
    cold.until("nothing runs", lambda: not cold.left())
    cold.start()
    cold.unit("fine")

    assert runs(cold, "gate") == first


def test_a_unit_that_is_cancelled_after_a_restart_has_its_gate_ended(cold: Line) -> None:
    cold.commit({"conventions/gates/20-slow.sh": candidates_only(cold)})
    cold.start()
    cold.drop("fine", FINE)
    (pid,) = begun(cold, "gate")

    restart(cold, "killed")
    cold.until(
        "it is judged again",
        lambda: [row["state"] for row in cold.status()["queue"]] == ["judging"],
    )
    cold.factory("cancel", "fine")

    cold.until("the gate is ended", lambda: not alive(pid))
    assert [entry.detail["gate"] for entry in cold.entries(Event.VERDICT_GIVEN, unit="fine")] == [
        "10-whole"
    ]


@pytest.mark.parametrize("daemon", [True, False])
def test_a_stop_ends_gates_and_setups_with_a_daemon_and_without(
    cold: Line, *, daemon: bool
) -> None:
    cold.commit({"conventions/gates/20-slow.sh": candidates_only(cold)})
    cold.start()
    cold.drop("fine", FINE)
    first = begun(cold, "gate")
    if not daemon:
        cold.kill()

    if daemon:
        cold.stop()
    else:
        assert cold.factoryd("stop") == (
            0,
            "the daemon is not running; ended gates and setups that it left: 1\n",
        )
    left = cold.left()
    let_go(cold, "gate")
    cold.start()
    cold.unit("fine")

    assert (left, len(runs(cold, "gate"))) == ({}, len(first) + 1)
