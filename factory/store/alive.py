"""Whether a daemon or an attempt is alive, as far as files and process ids tell."""

import fcntl
import os


def has_ended(run_dir: str) -> bool:
    """Whether the attempt of that folder has ended."""
    # A shim that nobody reaps still answers.
    return os.path.exists(f"{run_dir}/exit.json")  # noqa: PTH110


def answers(pid: int) -> bool:
    """Whether there is a process of that id."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True  # it is there, and another user's
    except (OSError, OverflowError):
        return False
    return True


def is_held(lock: str, pid: int) -> bool:
    """Whether somebody holds the lock; tried only if the pid answers, else a start might fail."""
    if not answers(pid):
        return False
    try:
        handle = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False
