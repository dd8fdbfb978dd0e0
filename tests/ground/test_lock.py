"""The lock of the one daemon: held, refused, deleted, replaced."""

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from factory.ground.errors import RefusedByState
from factory.ground.lock import OLD_NAME, Lock, locked


def test_a_second_holder_is_refused_and_told_where_the_first_runs(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "lock", Path("/there")),
        pytest.raises(RefusedByState, match="already running, in /there"),
        locked(tmp_path / "lock", Path("/here")),
    ):
        pass


def test_a_released_lock_can_be_taken(tmp_path: Path) -> None:
    with locked(tmp_path / "lock", Path("/there")):
        pass

    with locked(tmp_path / "lock", Path("/here")) as lock:
        assert lock.is_ours()


def test_a_deleted_lock_is_made_again_and_held(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path, Path("/there")) as lock:
        path.unlink()

        assert lock.is_ours()

        assert path.read_text() == "/there\n"
        with pytest.raises(RefusedByState):
            Lock(path, Path("/here"))


@pytest.mark.parametrize("held", [True, False], ids=["held", "free"])
def test_a_lock_that_was_replaced_is_not_ours_any_more(tmp_path: Path, held: bool) -> None:
    path = tmp_path / "lock"
    with locked(path, Path("/there")) as lock:
        path.unlink()
        with path.open("w") as other:
            if held:
                fcntl.flock(other, fcntl.LOCK_EX)

            assert not lock.is_ours()


def test_while_a_daemon_of_an_older_release_runs_another_one_is_refused(tmp_path: Path) -> None:
    with (tmp_path / OLD_NAME).open("w") as older:
        older.write("/there\n")
        older.flush()
        fcntl.flock(older, fcntl.LOCK_EX)

        with (
            pytest.raises(RefusedByState, match="already running, in /there"),
            locked(tmp_path / "lock", Path("/here")),
        ):
            pass


def test_what_an_older_release_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / OLD_NAME).touch()

    with locked(tmp_path / "lock", Path("/here")):
        assert not (tmp_path / OLD_NAME).exists()


HOLDER = """
import os, sys, time
from pathlib import Path
from factory.ground.lock import Lock
lock = Lock(Path(sys.argv[1]), Path("/there"))
child = os.fork()
if child == 0:
    time.sleep(600)
print(child, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(not Path("/proc/self/fdinfo").exists(), reason="only Linux tells who shares")
def test_a_child_that_a_killed_daemon_left_does_not_hold_the_lock(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        child = int(holder.stdout.readline())
        with pytest.raises(RefusedByState), locked(tmp_path / "lock", Path("/here")):
            pass
        assert Path(f"/proc/{child}").exists()  # its parent lives, so nobody touches it
        holder.kill()

    with locked(tmp_path / "lock", Path("/here")) as lock:
        assert lock.is_ours()

    stat = Path(f"/proc/{child}/stat")
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"
