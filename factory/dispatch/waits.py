"""Waits: decides which waiting units continue, and which ready units must wait.

Invariant: a unit that waits for a cause continues only when the cause has no open card.
"""

from collections.abc import Mapping
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
        """Move every unit whose wait begins or ends; return the open units in their new states."""
        causes = {card.fingerprint for card in facts.cards}
        units = []
        for unit in facts.units:
            if unit.state is not UnitState.WAITING:
                units.append(unit)
            elif not unit.cause:
                units.append(self._past_limit(unit, facts))
            elif unit.cause in causes:
                units.append(self._past_trouble(unit, facts))
            else:
                units.append(self._release(unit, facts.at))
        known = {unit.id: unit.state for unit in units} | dict(facts.needed)
        changed = {unit.id: unit for unit in scheduling.settle(units, known, now=facts.at)}
        for unit in changed.values():
            with self._store.transaction():
                if unit.state is UnitState.HELD:
                    gone = [need for need in unit.needs if known.get(need) is UnitState.CANCELLED]
                    ask = words.need_cancelled(unit, gone)
                    self._escalations.raise_card(ask, now=facts.at, unit=unit)
                self._write(unit, facts.at)
        return [changed.get(unit.id, unit) for unit in units]

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
