"""How long a process has been running.

Invariant: the answer is never too high, because factoryd kills a process over its limit.
"""

import os
import time
from pathlib import Path


def age_of(started: str, *, since: Path) -> float:
    """Return the seconds since a process started at `started` ticks; 0 if the time is unknown.

    `since` is a file that the process wrote at its start. The age of this file is a second measure.
    The function returns the lower of the two ages.
    """
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    if clock is None or not started.isdigit():
        return 0.0
    by_kernel = time.clock_gettime(clock) - int(started) / os.sysconf("SC_CLK_TCK")
    try:
        by_file = time.time() - since.stat().st_mtime
    except OSError:
        return 0.0
    return max(0.0, min(by_kernel, by_file))
