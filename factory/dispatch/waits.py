"""Waits: decides which waiting units continue, and which ready units must wait.

Invariant: a unit that waits for a cause continues only when the cause has no open card.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime

from factory.dispatch import scheduling
from factory.dispatch.facts import Facts
from factory.ground.daemon_state import DaemonState
from factory.people import cards as words
from factory.people.causes import AgentTrouble, parse
from factory.people.escalations import Escalations
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.unit import EndReason, Unit, UnitState, advance

AT_ONCE = 200  # units that one pass moves; more would block the event loop
_EVENTS: Mapping[UnitState, Event] = {
    UnitState.READY: Event.UNIT_READY,
    UnitState.WAITING: Event.UNIT_WAITING,
    UnitState.HELD: Event.UNIT_HELD,
    UnitState.QUEUED: Event.UNIT_QUEUED,
}


class Waits:
    """Moves units into and out of the state `waiting`."""

    def __init__(self, *, store: Store, state: DaemonState, escalations: Escalations) -> None:
        self._store = store
        self._state = state
        self._escalations = escalations

    def settle(self, facts: Facts) -> list[Unit]:
        """Move the units whose wait begins or ends; return the open units in their new states.

        If there are very many, the next pass moves the others. Until then, the result lacks ready
        units that must wait.
        """
        with self._store.transaction():
            units = self._released(facts)
            known = {unit.id: unit.state for unit in units} | dict(facts.needed)
            changed = scheduling.settle(units, known, now=facts.at)
            for unit in changed[:AT_ONCE]:
                self._settle(unit, known, facts)
        if len(changed) > AT_ONCE:
            self._state.pool.send()
        moved = {unit.id: unit for unit in changed[:AT_ONCE]}
        later = {unit.id for unit in changed[AT_ONCE:]}
        found = []
        for unit in units:
            if unit.state is not UnitState.READY or unit.id not in later:
                found.append(moved.get(unit.id, unit))
        return found

    def _settle(self, unit: Unit, known: Mapping[str, UnitState], facts: Facts) -> None:
        if unit.state is UnitState.HELD:
            gone = [need for need in unit.needs if known.get(need) is UnitState.CANCELLED]
            ask = words.need_cancelled(unit, gone)
            self._escalations.raise_card(ask, now=facts.at, unit=unit)
        self._write(unit, facts.at)

    def _released(self, facts: Facts) -> list[Unit]:
        """Return the open units; release the first units whose cause is over."""
        causes = {card.fingerprint for card in facts.cards}
        units = []
        released = 0
        for unit in facts.units:
            after = unit
            if unit.state is UnitState.WAITING and released < AT_ONCE:
                after = self._past_wait(unit, causes, facts)
                released += after is not unit
            units.append(after)
        if released >= AT_ONCE:
            self._state.pool.send()
        return units

    def _past_wait(self, unit: Unit, causes: Collection[str], facts: Facts) -> Unit:
        if not unit.cause:
            return self._past_limit(unit, facts)
        if unit.cause in causes:
            return self._past_trouble(unit, facts)
        return self._release(unit, facts.at)

    def _release(self, unit: Unit, at: datetime) -> Unit:
        """Release a unit if the card of its cause is closed."""
        to = UnitState.QUEUED if unit.submission else UnitState.READY
        why = "the cause of its wait is over"
        free = advance(replace(unit, cause=""), to, now=at, why=why)
        self._write(free, at)
        self._state.queue.send()
        return free

    def _past_trouble(self, unit: Unit, facts: Facts) -> Unit:
        """Release a unit that waits for an agent in trouble, if another agent stands in."""
        cause = parse(unit.cause)
        agent = facts.agent(unit)
        is_deputized = agent == facts.agents.deputy and agent != unit.agent
        if not is_deputized or not isinstance(cause, AgentTrouble):
            return unit
        why = _why(agent, facts)
        free = replace(unit, cause="", not_before=None)
        free = advance(free, UnitState.READY, now=facts.at, why=why)
        with self._store.transaction():
            self._escalations.spare(unit.id, cause, now=facts.at, why=why)
            self._write(free, facts.at)
        return free

    def _past_limit(self, unit: Unit, facts: Facts) -> Unit:
        """Release a unit that waits for the reset of a limit, if another agent can take it."""
        last = facts.newest.get(unit.id)
        if not unit.not_before or last is None or last.reason is not EndReason.LIMIT:
            return unit
        agent = facts.agent(unit)
        until = facts.rests.until.get(agent)
        if last.agent == agent or (until and until == unit.not_before):
            return unit
        free = replace(unit, not_before=until)
        if until is None:
            free = advance(free, UnitState.READY, now=facts.at, why=_why(agent, facts))
        self._write(free, facts.at)
        return free

    def _write(self, unit: Unit, at: datetime) -> None:
        self._store.write(_EVENTS[unit.state], unit, now=at, unit=unit.id)


def _why(agent: str, facts: Facts) -> str:
    return facts.agents.because or f"{agent} can take the unit"
