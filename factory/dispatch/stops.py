"""Why units may not start: a cause that several units share, or a model that the agent cannot use.

Invariant: pure functions of the facts.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from factory.dispatch.facts import Facts
from factory.ground.reserved import NO_AGENT
from factory.people import cards as words
from factory.people import line_cards
from factory.people.causes import Ask, cause
from factory.store.records import CardKind
from factory.store.unit import Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Stops:
    """The causes that stop units at this moment."""

    obstacle: Ask | None  # a full disk, or no usable gates
    wrong_prompt: Ask | None

    def cause_for(self, unit: Unit, facts: Facts) -> Ask | None:
        """Return the card of the shared cause that stops the unit; None if nothing stops it."""
        if self.obstacle is not None and self.obstacle.kind not in unit.approved:
            return self.obstacle
        agent = facts.agent(unit)
        if agent == NO_AGENT:
            return None
        if self.wrong_prompt is not None:
            return self.wrong_prompt
        trouble = facts.agents.trouble(agent)
        return line_cards.runtime_trouble(agent, trouble) if trouble else None


def wrong_prompt(facts: Facts, key: str) -> Ask | None:
    """Return the open card about the prompts in force, if there is one."""
    card = facts.card(cause("prompts", key))
    return line_cards.wrong_prompt(card.evidence, key) if card else None


def troubles(facts: Facts) -> Mapping[str, Ask | None]:
    """Return each agent that open units ask for, with a card if it cannot be used."""
    wanted = {facts.agent(unit) for unit in facts.units}
    wanted.add(facts.agents.acting)
    found: dict[str, Ask | None] = {}
    for agent in wanted:
        trouble = facts.agents.trouble(agent or facts.agents.default)
        found[agent] = line_cards.runtime_trouble(agent, trouble) if trouble else None
    return found


def no_model(unit: Unit, facts: Facts) -> Ask | None:
    """Return the card if the unit names a model and its agent's command takes none."""
    agent = facts.agent(unit)
    model = facts.spec(unit).model
    if not model or agent not in facts.agents.modelless or CardKind.RUNTIME in unit.approved:
        return None
    return words.no_model(unit, agent, model)
