"""Stops the daemon: it takes no more, waits up to a minute for what runs, and hands the rest back, uncounted.

factoryd stop            up to 60 s for what runs
factoryd stop --drain    however long it takes
factoryd stop --now      hand everything back at once
"""

import os
import signal
import time
from argparse import Namespace
from pathlib import Path

import anyio

from factory import process
from factory.cli import place
from factory.cli.place import Seen
from factory.errors import FactoryError, UsageError
from factory.stores import views


def run(args: Namespace) -> int:
    """Stop it, and return when it is gone; without a daemon, end the attempts on record."""
    if args.drain and args.now:
        raise UsageError("--drain and --now exclude each other")
    top = place.root()
    seen = place.daemon(top)
    if seen["state"] == "stopped":
        return _end_attempts(top)
    if args.drain:
        leave(seen, signal.SIGUSR1, seconds=float("inf"))
    else:
        leave(seen, signal.SIGINT if args.now else signal.SIGTERM, seconds=30 if args.now else 120)
    print("stopped")
    return 0


def leave(seen: Seen, number: int, *, seconds: float) -> None:
    """Signal the daemon and wait until its process is gone; raise FactoryError where it is not after so long."""
    # Its lock was held a moment ago, so the pid on record is its own. That it says "stopped" is not enough to wait
    # for: it holds the lock to its end, and a start in between would be refused.
    deadline = time.monotonic() + seconds
    while _signal(seen["pid"], number):
        number = 0
        if time.monotonic() > deadline:
            raise FactoryError(
                f"the daemon (pid {seen['pid']}) has not gone after {seconds:.0f} s.\n  at once: factoryd stop --now"
            )
        time.sleep(0.05)


def _signal(pid: int, number: int) -> bool:
    """Send it (0: nothing, only look); whether there was a process to get it."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _end_attempts(top: str) -> int:
    with place.store(top) as con:
        hung = [worker for worker in views.status(con, views.now_text())["workers"] if worker["unit"]]
    left = [
        f"attempt {worker['attempt']} of {worker['unit']}"
        for worker in hung
        if not anyio.run(process.end, Path(place.run_dir(top, worker["unit"], worker["attempt"])))
    ]
    if left:
        raise FactoryError(
            f"the daemon is not running, but of these something is, and could not be ended: {', '.join(left)}"
        )
    print("the daemon is not running" + (f"; ended what was left of {len(hung)} attempt(s)" if hung else ""))
    return 0
