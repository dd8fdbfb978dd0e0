"""Proofs: accept commands must fail on trunk before an agent starts to make them pass.

Invariant: a proof ends with its unit. It begins in the order in which units start, and gives way to
judgings. If the commands of a unit cannot run, factoryd tries again after longer and longer waits.
After the third failure a card asks a person. No other unit waits for these commands.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

import anyio
from anyio.abc import TaskGroup

from factory.dispatch.facts import Facts
from factory.ground.daemon_state import DaemonState, now
from factory.judging.judge import Judge
from factory.judging.retries import BREAKS, KeptRetries, sentence_of, trace_of
from factory.judging.ruled import Proof
from factory.people import cards as words
from factory.people.causes import Ask
from factory.people.escalations import Escalations
from factory.repo.benches import Yielding
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Fact
from factory.store.spec import Spec
from factory.store.starts import PROOFS
from factory.store.unit import Unit, UnitState

# For so long after its turn came, a proof gives way to judgings. Without an end, units that need a
# proof would never start while other units keep the benches busy.
PATIENCE_SECONDS = 600.0
# These sentences are short, because `status` shows them on lines of 80 columns.
BENCH = "accept waits for a bench, to run on trunk"


def is_unproven(unit: Unit, spec: Spec) -> bool:
    """Return whether the accept commands must still fail on trunk before the unit may start."""
    if unit.state is not UnitState.READY or unit.proven or "accept" in unit.approved:
        return False
    return bool(spec.accept)


@dataclass(slots=True, kw_only=True, eq=False)
class Proving:
    """The accept commands of one unit, which run on a bench or wait for one."""

    unit: str
    accept: tuple[str, ...]
    scope: anyio.CancelScope
    began: datetime | None = None  # None: they wait for a bench
    seconds: float = 0.0  # how long they may take from then on

    @property
    def waits(self) -> bool:
        """Whether the commands wait for a bench."""
        return self.began is None

    @property
    def why(self) -> str:
        """What a person reads about the unit."""
        if self.began is None:
            return BENCH
        since = f"{self.began.astimezone(UTC):%H:%M:%S} UTC"
        return f"accept runs on trunk since {since}, for at most {_lasting(self.seconds)}"


class Proofs:
    """Runs the accept commands of the units that start next."""

    def __init__(
        self, *, store: Store, state: DaemonState, escalations: Escalations, judge: Judge
    ) -> None:
        self._store = store
        self._state = state
        self._escalations = escalations
        self._judge = judge
        self._running: dict[str, Proving] = {}
        self._turns: dict[str, float] = {}  # when the turn of an unproven unit came, by the loop
        self._failed = KeptRetries(store, "unproved")
        self._broke: dict[str, Exception] = {}  # errors that are not counted yet, by unit

    # ── what runs ──

    def keep(self, units: Collection[Unit], facts: Facts) -> None:
        """End the proofs of units that no longer need one; forget failures of all other units."""
        unproven = {}
        for unit in units:
            spec = facts.spec(unit)
            if is_unproven(unit, spec):
                unproven[unit.id] = spec.accept
        for proving in list(self._running.values()):
            if unproven.get(proving.unit) != proving.accept:
                self._end(proving)
        for name in self._turns.keys() - unproven.keys():
            del self._turns[name]
        self._failed.keep({unit.id for unit in units})

    def run(self, units: Sequence[Unit], facts: Facts, group: TaskGroup) -> None:
        """Run the commands of these units, in this order. Only one proof waits for a bench.

        If one waits, proofs of units that are no longer next end.
        """
        for unit in units:
            self._turns.setdefault(unit.id, anyio.current_time())
        due = self._next(units)
        names = {unit.id for unit in units}
        for proving in list(self._running.values()):
            if proving.waits:
                is_needed = due is not None and due.id == proving.unit
            else:
                is_needed = due is None or proving.unit in names
            if not is_needed:
                self._end(proving)
        if due is not None and due.id not in self._running:
            self._begin(due, facts.spec(due).accept, group)
        self._tell(facts.at)

    def stop(self, at: datetime) -> None:
        """End all proofs, because no unit starts any more."""
        for proving in list(self._running.values()):
            self._end(proving)
        self._tell(at)

    def _tell(self, at: datetime) -> None:
        """Write what `factory status` says about the units whose commands run or are next."""
        whys = {proving.unit: proving.why for proving in self._running.values()}
        fact = Fact(name=PROOFS, value=json.dumps(whys))
        known = self._store.get(Fact, PROOFS)
        if fact.value != (known.value if known else "{}"):
            self._store.write(Event.FACT_CHANGED, fact, now=at, fact=PROOFS)

    def _next(self, units: Sequence[Unit]) -> Unit | None:
        """Return the first unit whose commands should wait for a bench now."""
        for unit in units:
            proving = self._running.get(unit.id)
            if self._failed.is_due(unit.id) and (proving is None or proving.waits):
                return unit
        return None

    def _begin(self, unit: Unit, accept: tuple[str, ...], group: TaskGroup) -> None:
        proving = Proving(unit=unit.id, accept=accept, scope=anyio.CancelScope())
        self._running[unit.id] = proving
        group.start_soon(self._run, proving, name=f"prove {unit.id}")

    def _end(self, proving: Proving) -> None:
        proving.scope.cancel()
        self._forget(proving)

    def _forget(self, proving: Proving) -> None:
        if self._running.get(proving.unit) is proving:
            del self._running[proving.unit]

    # ── one proof ──

    async def _run(self, proving: Proving) -> None:
        prove = partial(self._state.guarded, "prove", self._prove, proving)
        with proving.scope:
            await prove(broke=partial(self._note, proving.unit))

    async def _prove(self, proving: Proving) -> None:
        until = self._turns.get(proving.unit, anyio.current_time()) + PATIENCE_SECONDS
        try:
            proof = await self._judge.prove(
                proving.accept,
                yielding=Yielding(give_way=proving.scope.cancel, until=until),
                begun=partial(self._begun, proving),
            )
        finally:
            self._forget(proving)
            self._state.pool.send()
        self._settle(proving, proof)

    def _begun(self, proving: Proving, seconds: float) -> None:
        proving.began = now()
        proving.seconds = seconds
        self._state.pool.send()

    def _settle(self, proving: Proving, proof: Proof) -> None:
        at = now()
        unit = self._store.get(Unit, proving.unit)
        spec = self._store.get(Spec, proving.unit)
        if unit is None or unit.state is not UnitState.READY:
            return
        if spec is None or spec.accept != proving.accept:
            return  # somebody saved the task again, and its new commands run later
        if proof.setup is not None:
            self._escalations.wait(unit, proof.setup, now=at)
        elif proof.passing:
            why = "its accept command already passes on trunk"
            ask = words.already_accepted(unit, proof.passing)
            self._escalations.hold(unit, ask, now=at, why=why)
        elif proof.endless:
            why = "its accept command did not end on trunk"
            ask = words.endless_proof(unit, proof.endless)
            self._escalations.hold(unit, ask, now=at, why=why)
        else:
            proven = replace(unit, proven=proof.commit, why="")
            self._store.write(Event.UNIT_READY, proven, now=at, unit=unit.id, proven=proof.commit)

    # ── commands that cannot run ──

    def setback(self, unit: Unit) -> Ask | str:
        """Return a card or a sentence if the commands of a ready unit could not run, or ""."""
        error = self._broke.pop(unit.id, None)
        if error is None or unit.state is not UnitState.READY:
            return ""
        said = sentence_of(error)
        if self._failed.fail(unit.id) < BREAKS:
            return f"its accept commands cannot run; factoryd tries them again: {said}"
        self._failed.forget(unit.id)
        return words.unjudged(unit.id, said, unit=unit, evidence=trace_of(error))

    @property
    def is_idle(self) -> bool:
        """Return whether no commands run and no commands wait for another try."""
        return not self._running and not self._broke and not self._failed.waits()

    @property
    def failed(self) -> Collection[str]:
        """Return the units whose commands could not run and are tried again."""
        return self._failed.names

    def waits(self) -> Sequence[float]:
        """Return the seconds until each next try of commands that could not run."""
        return self._failed.waits()

    def _note(self, name: str, error: Exception) -> None:
        self._broke[name] = error
        self._state.pool.send()


def _lasting(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"
