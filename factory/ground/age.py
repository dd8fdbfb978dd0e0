"""How long a process has been running.

Invariant: never more than it has, for what is older than its limit is killed.
"""

import os
import time
from pathlib import Path


def age_of(started: str, *, since: Path) -> float:
    """Seconds since a process started, which its system told in ticks; 0 where that cannot be said.

    `since`: a file that it wrote then. Of two clocks, the one that says less is believed.
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
