"""Names the pair: finds the landed unit that a red unit does not fit together with.

Invariant: a search uses only an idle bench, and gives the bench back when a candidate waits. A unit
waits for its search only while a bench is idle, and at most HOLD_SECONDS.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice

import anyio
from anyio.abc import TaskGroup

from factory.attempt.outcomes import Outcomes, Refusal
from factory.ground.daemon_state import DaemonState
from factory.ground.errors import GitError
from factory.ground.log import TICK_BROKE, log
from factory.judging.judge import Judge
from factory.people.clashes import clashes_of, red_together
from factory.queue.candidates import Candidates
from factory.queue.suspects import Suspects
from factory.repo.benches import Yielding
from factory.repo.trunk import Rehearsed
from factory.store.accepted import NoSpec
from factory.store.ports import Store
from factory.store.records import Attempt
from factory.store.unit import FINAL, Unit

HOLD_SECONDS = 300.0  # a unit waits at most so long; `stuck` cards come later
WEIGHED_MOST = 64  # most suspects whose changed paths are compared
MENTIONED_MOST = 200  # most paths of a commit that are looked for in the output of a gate
SEARCHES_MOST = 32  # most units that wait for a search, and most searches that go on later
WHY = "red; checking whether it passes without newer commits"


@dataclass(slots=True, kw_only=True)
class _Search:
    """The search about one refused submission."""

    unit: Unit
    tip: str  # the commit of trunk on which it is red
    refusal: Refusal
    since: float  # when the search began, by the loop's clock
    is_held: bool = True  # whether the unit still waits for the search
    is_over: bool = False
    suspects: Suspects | None = None
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)


class Pairs:
    """The searches; at most one of them uses a bench."""

    def __init__(
        self,
        *,
        store: Store,
        state: DaemonState,
        candidates: Candidates,
        judge: Judge,
        outcomes: Outcomes,
    ) -> None:
        self._store = store
        self._state = state
        self._candidates = candidates
        self._judge = judge
        self._outcomes = outcomes
        self._searches: dict[str, _Search] = {}
        self._running: _Search | None = None  # the search that uses a bench

    @property
    def held(self) -> Collection[str]:
        """The units that are red and wait for their search."""
        return {name for name, search in self._searches.items() if search.is_held}

    def refuse(self, unit: Unit, refusal: Refusal, tip: str, at: datetime) -> None:
        """Send a red unit back; first look what it clashes with if a bench is idle."""
        can_wait = len(self.held) < SEARCHES_MOST
        if unit.base == tip or not (can_wait and refusal.red):
            self._outcomes.send_back(unit, refusal, at)
            return
        self._drop(unit.id)
        attempt = self._store.get(Attempt, unit.id, unit.attempt)
        notes = tuple(attempt.digest.splitlines()) if attempt else ()
        self._searches[unit.id] = _Search(
            unit=unit,
            tip=tip,
            refusal=replace(refusal, notes=notes),
            since=anyio.current_time(),
        )
        self._outcomes.note(unit, WHY, at)

    def go_on(self, idle: int, group: TaskGroup, at: datetime) -> None:
        """Do one pass: act on what was found, then use an idle bench or give it back.

        `idle`: the number of benches without a candidate or trunk; negative if one of these waits.
        """
        for name, search in list(self._searches.items()):
            if not self._is_wanted(search):
                self._drop(name)
            elif search.is_over:
                self._tell(search, at)
                self._drop(name)
        used = 1 if self._running else 0
        idle = min(idle, self._judge.idle_benches + used)
        if self._running and idle < used:
            self._running.scope.cancel()
        for search in list(self._searches.values()):
            if idle > 0 and not self._running:
                self._start(search, group)
            is_late = anyio.current_time() - search.since > HOLD_SECONDS
            if search.is_held and (is_late or idle <= 0):
                self._release(search, at)
        self._forget_oldest()

    # ── the unit ──

    def _is_wanted(self, search: _Search) -> bool:
        fresh = self._store.get(Unit, search.unit.id)
        if fresh is None or fresh.state in FINAL:
            return False
        return not search.is_held or fresh.submission == search.unit.submission

    def _tell(self, search: _Search, at: datetime) -> None:
        refusal = self._named(search)
        if search.is_held:
            self._outcomes.send_back(search.unit, refusal, at)
        elif refusal.clashes:
            self._outcomes.explain(search.unit, refusal, at)

    def _release(self, search: _Search, at: datetime) -> None:
        """Send the unit back with what is known; the search goes on when a bench is idle."""
        search.is_held = False
        self._outcomes.send_back(search.unit, self._named(search), at)

    def _drop(self, name: str) -> None:
        search = self._searches.pop(name, None)
        if search:
            search.scope.cancel()

    def _forget_oldest(self) -> None:
        sent_back = [name for name, search in self._searches.items() if not search.is_held]
        for name in sent_back[:-SEARCHES_MOST]:
            self._drop(name)

    def _named(self, search: _Search) -> Refusal:
        """Return the refusal with the suspects, if the unit is green without them."""
        found = search.suspects.likeliest() if search.suspects else []
        if not found:
            return search.refusal
        clashes = clashes_of(self._store, found)
        said = f"{red_together(clashes, len(found))}: {search.refusal.detail}"
        return replace(search.refusal, detail=said, clashes=clashes)

    # ── the search ──

    def _start(self, search: _Search, group: TaskGroup) -> None:
        search.scope = anyio.CancelScope()
        self._running = search
        group.start_soon(self._run, search, name=f"pair {search.unit.id}")

    async def _run(self, search: _Search) -> None:
        try:
            with search.scope:
                await self._state.guarded("pair", self._narrow, search)
                search.is_over = True
        finally:
            self._running = None
            self._state.queue.send()

    async def _narrow(self, search: _Search) -> None:
        try:
            if search.suspects is None:
                search.suspects = await self._suspects(search)
            while commit := search.suspects.next_commit():
                search.suspects.learn(green=await self._is_green(search, commit))
        except (GitError, NoSpec):  # without a name, the unit is still sent back
            log.exception(TICK_BROKE, loop="pair", unit=search.unit.id)

    async def _suspects(self, search: _Search) -> Suspects:
        unit = search.unit
        left = await self._candidates.trunk.between(unit.base, search.tip)
        suspects = Suspects(base=unit.base, left=left)
        if 2 < len(left) <= WEIGHED_MOST:
            own = self._candidates.trunk.own
            changed = {change.path for change in await own.changed(unit.base, unit.submission)}
            below = unit.base
            said = "\n".join(verdict.tail for verdict in search.refusal.red)
            for each in left:
                paths = {change.path for change in await own.changed(below, each.commit)}
                suspects.weights[each.commit] = _weight(paths, changed, said)
                below = each.commit
        return suspects

    async def _is_green(self, search: _Search, commit: str) -> bool | None:
        """Whether the change passes the red gates on this commit; None if that is unknown."""
        rehearsed = await self._candidates.rehearse(search.unit, commit)
        if not isinstance(rehearsed, Rehearsed):
            return None
        return await self._judge.passes(
            rehearsed.commit,
            parent=commit,
            unit=search.unit,
            gates={verdict.gate for verdict in search.refusal.red},
            yielding=Yielding(give_way=search.scope.cancel, until=math.inf),
        )


def _weight(paths: set[str], changed: set[str], said: str) -> int:
    """Return how likely a commit is: it changed the same files, or files that the gate names."""
    weight = 1 + 8 * len(paths & changed)
    for path in islice(paths, MENTIONED_MOST):
        if path in said:
            weight += 8
    return weight
