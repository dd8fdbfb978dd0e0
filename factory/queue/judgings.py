"""Judges candidates on benches, and keeps the verdict on each commit.

Invariant: a commit that can no longer land is neither judged nor remembered.
"""

from collections.abc import Collection, Iterable, Sequence
from functools import partial

import anyio
from anyio.abc import TaskGroup

from factory.ground.daemon_state import DaemonState
from factory.judging.ruled import Ruled
from factory.judging.trunk_judge import TrunkJudge
from factory.queue.candidate import Candidate
from factory.queue.chain import Standing
from factory.queue.setbacks import Setbacks
from factory.store.unit import Unit


class Judgings:
    """The running judgings and the verdicts of commits that may land."""

    def __init__(self, *, state: DaemonState, trunk_judge: TrunkJudge, setbacks: Setbacks) -> None:
        self.running: dict[str, anyio.CancelScope] = {}
        self.on_bench = set[str]()  # commits of `running` that have a bench
        self.rulings = trunk_judge.judge.rulings
        self._state = state
        self._trunk_judge = trunk_judge
        self._setbacks = setbacks
        # each verdict, with what its rules depended on
        self._ruled: dict[str, tuple[Ruled, object]] = {}

    @property
    def free_benches(self) -> int:
        """Return the number of free benches; below 0 after a person lowered `gates.benches`."""
        return self._state.settings.gates.benches - len(self.running)

    def idle(self, candidates: Iterable[Candidate]) -> int:
        """Return the number of benches that no candidate and no judging of trunk needs."""
        for each in candidates:
            if self.standing(each.unit, each.commit) is Standing.UNKNOWN:
                return 0
        return self.free_benches - int(self._trunk_judge.is_judging)

    def ruled(self, commit: str) -> Ruled | None:
        """Return the verdict on the commit; None if there is none.

        If the rules have changed since the judging began, its verdict does not count: a gate may
        not judge any more, or another gate may judge now.
        """
        ruled, beside = self._ruled.get(commit, (None, None))
        return ruled if beside == self.rulings.beside else None

    def standing(self, unit: Unit, commit: str) -> Standing:
        """Return the verdict on the commit with which the unit would land."""
        ruled = self.ruled(commit)
        if ruled is None:
            return Standing.JUDGING if commit in self.running else Standing.UNKNOWN
        if ruled.ok or self._trunk_judge.excused(ruled, unit):
            return Standing.GREEN
        return Standing.RED

    def start(self, candidate: Candidate, accept: Sequence[str], group: TaskGroup) -> None:
        """Judge a candidate in the background; `accept`: the commands that prove it."""
        scope = anyio.CancelScope()
        self.running[candidate.commit] = scope
        name = f"judge {candidate.unit.id}"
        group.start_soon(self._judge, candidate, accept, scope, name=name)

    def keep(self, wanted: Collection[str]) -> None:
        """Stop judging all other commits, and forget their verdicts."""
        for commit in self.running.keys() - wanted:
            self.running[commit].cancel()
        for commit in self._ruled.keys() - wanted:
            del self._ruled[commit]

    async def _judge(
        self, candidate: Candidate, accept: Sequence[str], scope: anyio.CancelScope
    ) -> None:
        broke = partial(self._setbacks.judging_broke, candidate)
        judge = partial(
            self._trunk_judge.judge.judge,
            candidate.commit,
            parent=candidate.parent,
            unit=candidate.unit,
            accept=accept,
            begun=partial(self._begun, candidate.commit),
        )
        try:
            with scope:
                beside = self.rulings.beside
                ruled = await self._state.guarded("judge", judge, broke=broke)
                if ruled is not None:  # None: an error ended the judging, which runs again later
                    self._ruled[candidate.commit] = ruled, beside
        finally:
            self.running.pop(candidate.commit, None)
            self.on_bench.discard(candidate.commit)
            self._state.queue.send()

    def _begun(self, commit: str) -> None:
        self.on_bench.add(commit)
        self._state.queue.send()  # the next pass shows that its gates run
