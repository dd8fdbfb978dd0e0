"""Stopped, restarted or killed at any moment: nothing is lost, and nothing lands twice."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import factory
from factory.child import proc
from factory.store.journal import Event
from factory.store.records import Attempt, Card, CardKind, Hook, Step
from factory.store.unit import UnitState
from tests.acceptance.line import CONFIG, PATIENCE_S, Line
from tests.git_repo import git

FINE = "write(f'{os.environ[\"FACTORY_UNIT\"]}.txt', 'fine')"


def held(line: Line, name: str, code: str = FINE) -> Path:
    """Drop a unit whose agent is at work until the file that is returned is there."""
    go = line.folder / f"go-{name}"
    line.drop(name, f"write('begun.txt', str(os.getpid())); hold({str(go)!r}); {code}")
    begun = line.workspace(name) / "begun.txt"
    line.until("the agent has begun", lambda: begun.exists() and begun.read_text())
    return go


def agent(line: Line, name: str) -> int:
    """The pid of the unit's agent, as it told it itself."""
    return int((line.workspace(name) / "begun.txt").read_text())


def alive(pid: int) -> bool:
    return proc.stat(pid)[:1] not in ([], ["Z"])


# ── agents that outlive the daemon ──


def test_after_kill_9_the_next_daemon_adopts_the_same_live_agent_and_it_lands_once(
    line: Line,
) -> None:
    go = held(line, "survivor")
    pid = agent(line, "survivor")

    line.kill()
    assert alive(pid)
    line.start()
    line.event(Event.ATTEMPT_ADOPTED, unit="survivor")
    assert alive(pid)
    go.touch()

    landed = line.unit("survivor")
    assert line.git("show", f"{landed.commit}:begun.txt") == str(pid)
    assert line.attempts("survivor") == ["submitted"]


def test_an_agent_that_ended_while_no_daemon_ran_is_submitted_at_the_next_start(line: Line) -> None:
    go = held(line, "alone")

    line.kill()
    go.touch()
    line.until("its end is written down", (line.places.run_dir("alone", 1) / "exit.json").exists)
    line.start()

    line.unit("alone")
    assert line.attempts("alone") == ["submitted"]


def test_an_attempt_whose_supervisor_was_killed_is_lost_uncounted_and_done_again(
    line: Line,
) -> None:
    go = held(line, "orphan")
    pid = agent(line, "orphan")

    line.kill()
    os.kill(line.attempt("orphan").pid, signal.SIGKILL)
    line.start()
    line.event(Event.ATTEMPT_ENDED, unit="orphan", reason="lost")
    assert not alive(pid)
    go.touch()
    line.factory("retry", "orphan")

    assert line.unit("orphan").spent == 0
    assert line.attempts("orphan") == ["lost", "submitted"]


def test_a_restart_leaves_agents_running_and_takes_them_over(line: Line) -> None:
    go = held(line, "goes-on")
    pid = agent(line, "goes-on")

    line.stop(signal.SIGHUP)
    assert alive(pid)
    assert line.status()["daemon"]["state"] == "stopped"
    line.start()
    go.touch()

    line.unit("goes-on")
    assert line.attempts("goes-on") == ["submitted"]


TEN = [f"u{number}" for number in range(10)]


@pytest.fixture
def ten(cold: Line) -> dict[str, int]:
    """Ten agents at work, by the pids that they told, in a line of ten workers."""
    cold.configure_before(CONFIG.replace("workers = 2", "workers = 10"))
    cold.start()
    for name in TEN:
        cold.drop(name, f"write('{name}.txt', str(os.getpid())); hold({str(cold.folder / 'go')!r})")
    begun = {name: cold.workspace(name) / f"{name}.txt" for name in TEN}
    cold.until(
        "all have begun", lambda: all(path.exists() and path.read_text() for path in begun.values())
    )
    return {name: int(path.read_text()) for name, path in begun.items()}


def test_a_restart_with_ten_agents_at_work_loses_none_and_restarts_none(
    cold: Line, ten: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    before = cold.daemon
    cold.daemon = None

    assert command(cold, "factoryd", "restart")[0] == 0
    cold.until("all are adopted", lambda: len(cold.entries(Event.ATTEMPT_ADOPTED)) == len(TEN))

    assert before is not None
    assert before.wait(PATIENCE_S) == 0
    assert all(alive(pid) for pid in ten.values())
    (left,) = cold.entries(Event.DAEMON_STOPPED)
    alone = [(entry.at - left.at).total_seconds() for entry in cold.entries(Event.ATTEMPT_ADOPTED)]
    with capsys.disabled():
        print(
            f"\nrestart with {len(TEN)} agents at work: {min(alone):.2f} to {max(alone):.2f} s without supervision"
        )
    (cold.folder / "go").touch()
    for name, pid in ten.items():
        assert cold.git("show", f"{cold.unit(name).commit}:{name}.txt") == str(pid)
        assert cold.attempts(name) == ["submitted"]
    assert command(cold, "factoryd", "stop")[0] == 0


def test_after_a_reboot_all_that_ran_runs_again_under_the_next_number(
    cold: Line, ten: dict[str, int]
) -> None:
    cold.kill()
    for pid in cold.left():
        os.kill(pid, signal.SIGKILL)
    cold.until("nothing lives", lambda: not cold.left())
    for name in TEN:  # the pids have gone to others: to this very test
        told = {
            "pid": os.getpid(),
            "started": proc.started(os.getpid()),
            "boot": "before",
            "grace_s": 0.3,
        }
        (cold.places.run_dir(name, 1) / "start.json").write_text(json.dumps(told))

    cold.start()
    (cold.folder / "go").touch()
    for name in TEN:
        cold.event(Event.ATTEMPT_ENDED, unit=name, attempt=1, reason="lost")
        cold.factory("retry", name)

    for name in TEN:
        assert (cold.unit(name).spent, cold.attempts(name)) == (0, ["lost", "submitted"])
        assert git(cold.places.git, "log", "--all", "--format=%s", f"--grep=Attempt 1 of {name}")


def test_a_stop_hands_back_uncounted_and_the_work_is_there_for_the_next_attempt(line: Line) -> None:
    held(line, "handed", "write('new.txt', 'fine')")
    pid = agent(line, "handed")

    line.stop(signal.SIGINT)
    assert not alive(pid)
    assert line.left() == {}
    assert line.unit("handed", UnitState.READY).spent == 0
    assert line.attempts("handed") == ["handed_back"]
    (line.folder / "go-handed").touch()
    line.start()

    line.unit("handed")
    assert line.attempts("handed") == ["handed_back", "submitted"]
    assert line.prompt("handed", 2).startswith("# handed")


def test_a_drain_waits_for_what_runs_and_takes_no_more(line: Line) -> None:
    go = held(line, "last")
    assert line.daemon is not None

    line.daemon.send_signal(signal.SIGTERM)
    line.until("it drains", lambda: line.status()["daemon"]["state"] == "draining")
    line.drop("too-late", FINE)
    line.event(Event.TASK_ACCEPTED, unit="too-late")
    go.touch()
    line.stop(signal.SIGUSR1)

    assert line.attempts("last") == ["submitted"]
    assert line.unit("too-late", UnitState.READY).attempt == 0
    line.start()
    line.unit("last")
    line.unit("too-late")


def test_a_stop_with_no_daemon_ends_the_attempts_on_record(line: Line) -> None:
    held(line, "stray")
    pid = agent(line, "stray")
    line.kill()

    code, said = line.factoryd("stop")

    assert (code, "ended attempts that it left: 1" in said) == (0, True)
    assert not alive(pid)
    assert line.left() == {}
    (line.folder / "go-stray").touch()
    line.start()
    assert line.unit("stray").spent == 0
    assert line.attempts("stray") == ["handed_back", "submitted"]
    assert line.store.select(Card) == []


def test_a_second_daemon_leaves_the_first_alone(line: Line) -> None:
    first = line.daemon
    assert first is not None

    code, said = line.refused()

    assert (code, "already running" in said) == (3, True)
    assert first.poll() is None
    line.daemon = first
    assert line.places.pid.read_text() == f"{first.pid}\n"
    line.drop("still", FINE)
    line.unit("still")


def test_a_lock_that_was_deleted_is_made_again_and_a_second_daemon_is_refused(line: Line) -> None:
    first = line.daemon

    line.places.lock.unlink()
    line.until("the lock is there again", line.places.lock.exists)
    code, said = line.refused()

    assert (code, "already running" in said) == (3, True)
    line.daemon = first
    line.drop("still", FINE)
    line.unit("still")


def test_a_daemon_whose_lock_another_one_has_steps_down_and_its_agents_run_on(line: Line) -> None:
    go = held(line, "shared")
    pid, older = agent(line, "shared"), line.daemon
    assert older is not None

    older.send_signal(signal.SIGSTOP)
    line.places.lock.unlink()
    line.start()
    older.send_signal(signal.SIGCONT)
    line.event(Event.ATTEMPT_ADOPTED, unit="shared")
    line.drop("more", FINE)
    line.unit("more")
    go.touch()

    assert older.wait(PATIENCE_S) == 3
    line.unit("shared")
    assert line.git("show", "main:begun.txt") == str(pid)
    assert (line.attempts("shared"), line.attempts("more")) == (["submitted"], ["submitted"])
    assert line.daemon is not None
    assert line.places.pid.read_text() == f"{line.daemon.pid}\n"


def test_a_daemon_that_was_stopped_for_hours_lands_nothing_that_a_newer_one_has_in_hand(
    cold: Line,
) -> None:
    cold.wrap_git(on=" --ff-only ", before="kill -STOP $PPID")
    older = cold.start().daemon
    assert older is not None
    cold.drop("once", FINE)
    cold.until("it stopped", lambda: proc.stat(older.pid)[:1] == ["T"])

    cold.places.lock.unlink()
    cold.start()
    landed = cold.unit("once")
    cold.drop("next", FINE)
    cold.unit("next")
    older.send_signal(signal.SIGCONT)

    assert older.wait(PATIENCE_S) == 3
    assert cold.on_trunk() == ["once", "next"]
    assert cold.unit("once") == landed


def test_a_killed_daemon_is_seen_as_stopped(line: Line) -> None:
    line.kill()

    assert line.status()["daemon"]["state"] == "stopped"


# ── killed on the way to trunk ──


MERGING = {  # what is done before git merges, and after it
    "while git merges": ("kill -9 $PPID", ""),
    "before git merges": ("kill -9 $PPID; exit 1", ""),
    "after git merged": ("", "kill -9 $PPID"),
}


def test_killed_at_the_merge_a_unit_lands_exactly_once(cold: Line) -> None:
    for number, (when, (before, after)) in enumerate(MERGING.items()):
        name = f"once{number}"
        cold.wrap_git(before=before, after=after, on=" --ff-only ")
        cold.start()
        cold.drop(name, FINE)

        cold.gone()
        cold.start()

        landed = cold.unit(name)
        assert cold.git("rev-parse", "main") == landed.commit, when
        assert cold.git("status", "--porcelain") == "", when
        assert cold.attempts(name) == ["submitted"], when
        assert cold.store.open(Step) == [], when
        cold.stop()


def test_when_git_itself_is_killed_at_the_merge_the_unit_still_lands(cold: Line) -> None:
    cold.wrap_git(before="kill -9 $$", on=" --ff-only ")
    cold.start()

    cold.drop("once", FINE)

    cold.unit("once")
    assert cold.git("status", "--porcelain") == ""


def test_stopped_while_git_merges_the_landing_is_on_record_when_the_daemon_is_gone(
    cold: Line,
) -> None:
    cold.wrap_git(before="kill -INT $PPID; sleep 0.3", on=" --ff-only ")
    cold.start()
    cold.drop("once", FINE)
    assert cold.daemon is not None

    assert cold.daemon.wait(20) == 0

    cold.daemon = None
    cold.unit("once")


CALLS = (" write-tree ", " commit-tree ", " update-ref refs/factory", " merge-tree ", " fetch ")


def test_killed_at_any_git_call_the_work_lands_exactly_once(cold: Line) -> None:
    cold.start()
    for number, call in enumerate(CALLS):
        name = f"once{number}"
        cold.until("trunk is judged", lambda: cold.status()["trunk"]["state"] == "green")
        cold.wrap_git(before="kill -9 $PPID", on=call)
        cold.drop(name, FINE)
        if call == " fetch ":
            cold.commit({"theirs.txt": "moves trunk\n"})

        cold.gone()
        cold.start()

        cold.unit(name)
        assert cold.git("status", "--porcelain") == "", call
        assert set(cold.attempts(name)) <= {"submitted", "lost"}, call


def test_killed_while_a_gate_runs_nothing_of_the_gate_is_left_and_the_unit_lands(
    cold: Line,
) -> None:
    slow = cold.folder / "slow"
    cold.commit(
        {
            "conventions/gates/20-slow.sh": f"touch {slow}.$$\nwhile [ -e {slow} ]; do sleep 0.01; done\n"
        }
    )
    cold.start()
    cold.until("trunk is judged", lambda: cold.status()["trunk"]["state"] == "green")
    slow.touch()
    seen = set(cold.folder.glob("slow.*"))
    cold.drop("judged", FINE)
    running = cold.until("the gate runs", lambda: set(cold.folder.glob("slow.*")) - seen)

    cold.kill()
    slow.unlink()
    cold.start()

    cold.unit("judged")
    assert not any(alive(int(path.suffix[1:])) for path in running)


def test_killed_again_and_again_every_unit_lands_once(line: Line) -> None:
    names = [f"u{number}" for number in range(6)]
    for name in names:
        line.drop(name, f"time.sleep(0.1); {FINE}")

    for done in range(1, 4):
        line.until(f"{done} landed", lambda done=done: len(line.entries(Event.UNIT_LANDED)) >= done)  # type: ignore[misc]
        line.kill()
        line.start()

    for name in names:
        line.unit(name)
    assert sorted(line.on_trunk()) == names
    assert {reason for name in names for reason in line.attempts(name)} <= {"submitted", "lost"}


def test_cards_and_held_units_survive_a_kill(line: Line) -> None:
    line.drop(
        "asks",
        "leave('question.md', 'Which?') if attempt == 1 else write('asks.txt', str('this' in told))",
    )
    before = line.card(CardKind.QUESTION)

    line.kill()
    line.start()

    assert line.card(CardKind.QUESTION) == before
    line.answer(before, "this")
    line.unit("asks")


def test_what_a_person_rewrote_stays_landed_and_is_not_done_again(line: Line) -> None:
    line.drop("undone", FINE)
    landed = line.unit("undone")

    line.git("reset", "-q", "--hard", line.begin)

    line.event(Event.TRUNK_MOVED, to=line.begin, rewritten=True)
    line.until("it is said", lambda: line.fact("trunk")["missing"] == ["undone"])
    line.kill()
    line.start()
    line.drop("next", FINE)
    line.unit("next")
    assert line.unit("undone") == landed
    assert "undone" not in line.on_trunk()
    assert json.loads(line.factory("show", "undone", "--json")[1])["on_trunk"] is False

    line.git("merge", "-q", "-m", "back again", landed.commit)
    line.until("it is back", lambda: line.fact("trunk")["missing"] == [])


def test_a_stop_at_the_very_moment_that_the_daemon_is_up_is_a_clean_one(cold: Line) -> None:
    daemon = cold.launch()
    while not cold.places.pid.exists() or not cold.places.pid.read_text():
        assert daemon.poll() is None

    cold.stop(signal.SIGTERM)

    assert cold.fact("daemon")["state"] == "stopped"
    assert not cold.places.pid.exists()


def test_a_daemon_whose_folder_was_taken_away_still_ends_when_it_is_told_to(line: Line) -> None:
    shutil.move(line.root / ".factory", line.folder / "taken")

    assert line.daemon is not None
    line.daemon.send_signal(signal.SIGTERM)
    code, line.daemon = line.daemon.wait(20), None

    assert code == 3  # its last word cannot be written down any more
    assert not (line.root / ".factory").exists()


def test_a_stop_at_once_does_not_wait_for_a_setup_that_hangs(cold: Line) -> None:
    cold.commit({"conventions/workspace/setup.sh": "echo $$ > $TMPDIR/pid; sleep 600\n"})
    cold.start()
    cold.drop("prepared", FINE)
    cold.event(Event.HOOK_FILLED, unit="prepared")
    cold.until(
        "setup runs", lambda: any(argv.startswith("sleep 600") for argv in cold.left().values())
    )

    cold.stop(signal.SIGINT)

    assert cold.left() == {}
    assert cold.unit("prepared", UnitState.READY).spent == 0
    assert cold.attempts("prepared") == ["handed_back"]


def test_a_unit_that_is_cancelled_while_its_workspace_is_prepared_never_starts(cold: Line) -> None:
    cold.commit({"conventions/workspace/setup.sh": "sleep 600\n"})
    cold.start()
    cold.drop("prepared", FINE)
    cold.event(Event.HOOK_FILLED, unit="prepared")
    cold.until(
        "setup runs", lambda: any(argv.startswith("sleep 600") for argv in cold.left().values())
    )

    cold.factory("cancel", "prepared")

    cold.event(Event.ATTEMPT_ENDED, unit="prepared", reason="cancelled")
    cold.until("the hook is free", lambda: all(not hook.unit for hook in cold.store.select(Hook)))
    assert cold.entries(Event.ATTEMPT_STARTED) == []


def test_an_attempt_that_is_lost_three_times_in_a_row_is_a_card(line: Line) -> None:
    line.drop("unlucky", "write('begun.txt', str(os.getpid())); hold('/never')")
    for number in (1, 2, 3):
        attempt = line.attempt("unlucky", number)
        os.kill(attempt.pid, signal.SIGKILL)
        line.event(Event.ATTEMPT_ENDED, unit="unlucky", attempt=number, reason="lost")
        line.factory("retry", "unlucky") if number < 3 else None

    card = line.card(CardKind.CRASH_LOOP)

    assert line.unit("unlucky", UnitState.HELD).spent == 0
    line.answer(card, "Cancel it")


def test_attempts_of_an_earlier_epoch_have_no_effect(line: Line) -> None:
    go = held(line, "fenced")
    pid = agent(line, "fenced")
    line.kill()
    line.start()
    line.event(Event.ATTEMPT_ADOPTED, unit="fenced")

    line.factory("cancel", "fenced")
    line.event(Event.ATTEMPT_ENDED, unit="fenced")

    assert not alive(pid)
    go.touch()
    assert line.unit("fenced", UnitState.CANCELLED).attempt == 1
    (attempt,) = line.store.select(Attempt, unit="fenced")
    assert attempt.reason == "cancelled"


def test_by_the_commands_a_line_is_started_fed_restarted_and_stopped(cold: Line) -> None:
    code, said = command(cold, "factoryd", "start")
    assert (code, "10-whole" in said, "/inbox" in said) == (0, True, True)
    pid = cold.places.pid.read_text()
    code, said = command(cold, "factoryd", "start")
    assert (code, f"already running (pid {pid.strip()})" in said) == (0, True)
    go = held(cold, "fed")

    assert command(cold, "factoryd", "restart")[0] == 0

    assert cold.places.pid.read_text() != pid
    go.touch()
    cold.unit("fed")
    assert cold.attempts("fed") == ["submitted"]
    assert command(cold, "factoryd", "stop")[0] == 0
    assert not cold.places.pid.exists()
    assert cold.left() == {}


def command(line: Line, program: str, *argv: str) -> tuple[int, str]:
    """A command as a user runs it: a process of its own, in the checkout."""
    code = f"import sys; from factory.cli.main import {program}; sys.exit({program}(sys.argv[1:]))"
    env = line.environment() | {"PYTHONPATH": str(Path(factory.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code, *argv],
        cwd=line.root,
        env=env,
        check=False,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr
