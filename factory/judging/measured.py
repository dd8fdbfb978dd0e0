"""Records how long gates took, and computes from that how long a gate may take.

Invariant: only green runs count, because a red run may end early.
"""

from collections import deque
from collections.abc import Collection

from factory.store.ports import Store
from factory.store.records import Verdict

UNMEASURED_SECONDS = 1800.0
PROOF_SECONDS = 600.0  # the same for a command that must fail, because a failure takes less time
LEAST_SECONDS = 60.0
MOST_RUNS = 200  # for each gate, only so many of its newest runs count


class Measured:
    """The seconds of each gate's newest green runs. At first, they come from the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seconds: dict[str, deque[float]] = {}

    def of(self, gate: str) -> deque[float]:
        """Return the seconds of the gate's green runs until now, oldest first."""
        if gate not in self._seconds:
            greens = self._store.newest(Verdict, MOST_RUNS, gate=gate, ok=1)
            seconds = [verdict.seconds for verdict in reversed(greens)]
            self._seconds[gate] = deque(seconds, maxlen=MOST_RUNS)
        return self._seconds[gate]


def time_limit(measured: Collection[float], *, runs: int) -> float:
    """Return 3 x the 95th percentile in seconds, at least 60, doubled for each earlier run.

    `runs`: the earlier runs of the gate in this judging. The limit is doubled because the gate may
    need more time than before.
    """
    if not measured:
        return UNMEASURED_SECONDS
    p95 = sorted(measured)[round(0.95 * (len(measured) - 1))]
    return max(LEAST_SECONDS, 3 * p95) * float(2**runs)
