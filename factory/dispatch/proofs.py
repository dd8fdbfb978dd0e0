"""Proofs: accept commands must fail on trunk before an agent starts to make them pass.

Invariant: if the commands of a unit cannot run, factoryd tries again after longer and longer waits.
After the third failure a card asks a person. No other unit waits for these commands.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial

from anyio.abc import TaskGroup

from factory.ground.daemon_state import DaemonState, now
from factory.judging.judge import Judge
from factory.judging.retries import BREAKS, KeptRetries, sentence_of, trace_of
from factory.people import cards as words
from factory.people.causes import Ask
from factory.people.escalations import Escalations
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.spec import Spec
from factory.store.unit import Unit, UnitState


def is_unproven(unit: Unit, spec: Spec) -> bool:
    """Return whether the accept commands must still fail on trunk before the unit may start."""
    if unit.state is not UnitState.READY or unit.proven or "accept" in unit.approved:
        return False
    return bool(spec.accept)


class Proofs:
    """Runs the accept commands of ready units on trunk."""

    def __init__(
        self, *, store: Store, state: DaemonState, escalations: Escalations, judge: Judge
    ) -> None:
        self._store = store
        self._state = state
        self._escalations = escalations
        self._judge = judge
        self._running: set[str] = set()
        self._failed = KeptRetries(store, "unproved")
        self._broke: dict[str, Exception] = {}  # errors that are not counted yet, by unit

    def begin(self, unit: Unit, spec: Spec, group: TaskGroup) -> None:
        """Run the commands of an unproven unit, unless they run already or must wait."""
        name = unit.id
        if name in self._running or not self._failed.is_due(name) or not is_unproven(unit, spec):
            return
        self._running.add(name)
        proving = partial(self._state.guarded, "prove", self._prove, name, spec.accept)
        group.start_soon(partial(proving, broke=partial(self._note, name)))

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

    def keep(self, units: Collection[str]) -> None:
        """Forget the failures of all other units."""
        self._failed.keep(units)

    @property
    def is_idle(self) -> bool:
        """Return whether no commands run and no commands wait for another try."""
        return not self._running and not self._broke and not self._failed.waits()

    def waits(self) -> Sequence[float]:
        """Return the seconds until each next try of commands that could not run."""
        return self._failed.waits()

    def _note(self, name: str, error: Exception) -> None:
        self._broke[name] = error
        self._state.pool.send()

    async def _prove(self, name: str, accept: tuple[str, ...]) -> None:
        try:
            proof = await self._judge.prove(accept)
        finally:
            self._running.discard(name)
        self._state.pool.send()
        at = now()
        unit = self._store.get(Unit, name)
        spec = self._store.get(Spec, name)
        if unit is None or unit.state is not UnitState.READY:
            return
        if spec is None or spec.accept != accept:
            return  # somebody saved the task again, and its new commands run later
        if proof.setup is not None:
            self._escalations.wait(unit, proof.setup, now=at)
        elif proof.passing:
            why = "its accept command already passes on trunk"
            ask = words.already_accepted(unit, proof.passing)
            self._escalations.hold(unit, ask, now=at, why=why)
        else:
            proven = replace(unit, proven=proof.commit)
            self._store.write(Event.UNIT_READY, proven, now=at, unit=name, proven=proof.commit)
