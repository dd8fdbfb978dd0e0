"""How long gates took, and so how long one may take.

Invariant: only green runs are counted, for a red one may end early.
"""

from collections import deque
from collections.abc import Collection

from factory.store.ports import Store
from factory.store.records import Verdict

UNMEASURED_SECONDS, LEAST_SECONDS, MOST_RUNS = 1800.0, 60.0, 200


class Measured:
    """The seconds of the newest green runs of each gate; from the store at first."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seconds: dict[str, deque[float]] = {}

    def of(self, gate: str) -> deque[float]:
        """Its green runs so far, oldest first."""
        if gate not in self._seconds:
            greens = sorted(
                self._store.select(Verdict, gate=gate, ok=1), key=lambda verdict: verdict.at
            )
            self._seconds[gate] = deque((verdict.seconds for verdict in greens), maxlen=MOST_RUNS)
        return self._seconds[gate]


def time_limit(measured: Collection[float], *, runs: int) -> float:
    """Three times the 95th percentile, at least 60 s, doubled for each run so far: it may just have grown."""
    if not measured:
        return UNMEASURED_SECONDS
    p95 = sorted(measured)[round(0.95 * (len(measured) - 1))]
    return max(LEAST_SECONDS, 3 * p95) * float(2**runs)
