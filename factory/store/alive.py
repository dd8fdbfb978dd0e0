"""Whether a daemon or an attempt is alive, judged by files and process ids."""

import fcntl
import os


def has_ended(run_dir: str) -> bool:
    """Whether the attempt with this folder has ended."""
    # The pid is no proof of life, because a shim that ended but is not reaped still has one.
    return os.path.exists(f"{run_dir}/exit.json")  # noqa: PTH110


def answers(pid: int) -> bool:
    """Whether a process with this pid exists."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True  # the process exists and belongs to another user
    except (OSError, OverflowError):
        return False
    return True


def is_held(lock: str, pid: int) -> bool:
    """Whether a process holds the lock.

    It tries the lock only if the pid is alive, because trying it could make a starting daemon fail.
    """
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
