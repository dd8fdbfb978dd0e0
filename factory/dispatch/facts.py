"""Reads the facts that the pool needs at one moment, in a few queries.

Invariant: Facts never change. After a write, gather new Facts or use the written record.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from factory.dispatch.agents import Agents
from factory.dispatch.ledger import Ledger
from factory.dispatch.pauses import Rests, rests_at
from factory.ground.settings import Budget, Limits
from factory.people.causes import AgentTrouble, Cause, parse
from factory.store.ports import Store
from factory.store.records import Attempt, Card, Hook
from factory.store.spec import Spec
from factory.store.starts import Conditions
from factory.store.unit import Unit, UnitState

NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The line at one moment."""

    at: datetime
    units: Sequence[Unit]  # open
    specs: Mapping[str, Spec]  # the specs of the open units
    hooks: Sequence[Hook]
    cards: Sequence[Card]  # open
    # the newest attempt of each unit that waits for a time or continues a session
    newest: Mapping[str, Attempt]
    needed: Mapping[str, UnitState]  # states of finished units that open units need
    rests: Rests
    agents: Agents  # with the agent that stands in now
    conditions: Conditions  # what decides about starts, as far as the store and the agents tell
    notices: Sequence[str]  # sentences: paused agents, and which agent takes their units
    accounts: Ledger  # grows with each attempt that this pass starts

    def spec(self, unit: Unit) -> Spec:
        """Return what the task of the unit asks for."""
        return self.specs[unit.id]

    def minutes(self, unit: Unit, limits: Limits) -> float:
        """Return how long an attempt of the unit may take."""
        return self.spec(unit).minutes or limits.minutes

    def agent(self, unit: Unit) -> str:
        """Return the agent for the unit."""
        return self.conditions.agent_for(unit.agent, has_model=bool(self.spec(unit).model))

    def card(self, cause: Cause) -> Card | None:
        """Return the open card of the cause; None if there is none."""
        for card in self.cards:
            if card.fingerprint == cause.key:
                return card
        return None


def gather(store: Store, agents: Agents, table: Budget, at: datetime) -> Facts:
    """Read the facts; `agents` are the installed agents."""
    units = store.open(Unit)
    names = frozenset(unit.id for unit in units)
    cards = store.open(Card)
    rests = rests_at(store, at)
    acting, notices = _deputized(agents, cards, rests, at)
    ready = [unit.id for unit in units if unit.state is UnitState.READY]
    return Facts(
        at=at,
        units=units,
        specs={spec.unit: spec for spec in store.select(Spec, unit=names)},
        hooks=store.select(Hook),
        cards=cards,
        newest=_newest(store, units),
        needed=needed(store, units, names),
        rests=rests,
        agents=acting,
        conditions=Conditions(agent=acting.default, deputy=acting.deputy, paused=rests.why),
        notices=notices,
        accounts=Ledger(store, table, at, units=ready),
    )


def _newest(store: Store, units: Sequence[Unit]) -> dict[str, Attempt]:
    numbers = {unit.id: unit.attempt for unit in units if unit.not_before or unit.resume}
    newest = {}
    for attempt in store.select(Attempt, unit=frozenset(numbers)):
        if attempt.number == numbers[attempt.unit]:
            newest[attempt.unit] = attempt
    return newest


def needed(store: Store, units: Sequence[Unit], known: Collection[str]) -> dict[str, UnitState]:
    """Return the states of the units that these units need, apart from the `known` units."""
    needs = set[str]()
    for unit in units:
        needs.update(unit.needs)
    finished = store.select(Unit, id=frozenset(needs.difference(known)))
    return {unit.id: unit.state for unit in finished}


def _deputized(
    agents: Agents, cards: Sequence[Card], rests: Rests, at: datetime
) -> tuple[Agents, list[str]]:
    """Return the agents with the current deputy, and sentences about paused agents."""
    broken = {}
    for card in cards:
        cause = parse(card.fingerprint)
        if isinstance(cause, AgentTrouble) and card.evidence:
            broken[cause.about or ""] = card
    stopped = dict.fromkeys(broken, NEVER) | dict(rests.until)
    acting = agents.deputized(stopped, at)
    lines = {name: f"{name} {why}" for name, why in rests.why.items()}
    if not acting.deputy or acting.deputy in lines:
        return acting, list(lines.values())
    default = acting.default
    why = lines.pop(default, "") or acting.trouble(default)
    why = why or f"{default} waits for {broken[default].id}"
    because = f"{acting.deputy} stands in: {why}"
    return replace(acting, because=because), [because, *lines.values()]
