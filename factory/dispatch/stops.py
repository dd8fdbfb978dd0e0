"""Why units may not start: the causes that they share, and what keeps one of them off its agent.

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
    """What stops units at this moment."""

    obstacle: Ask | None  # no room on a disk, or nothing by which to judge
    wrong_prompt: Ask | None

    def cause_for(self, unit: Unit, facts: Facts) -> Ask | None:
        """The card of the shared cause for which the unit has to wait."""
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
    """What the open card says of the prompts that rule now."""
    card = facts.card(cause("prompts", key))
    return line_cards.wrong_prompt(card.evidence, key) if card else None


def troubles(facts: Facts) -> Mapping[str, Ask | None]:
    """Each agent that open units ask for, with the card about it where it cannot be used."""
    wanted = {facts.agent(unit) for unit in facts.units}
    wanted.add(facts.agents.acting)
    found: dict[str, Ask | None] = {}
    for agent in wanted:
        trouble = facts.agents.trouble(agent or facts.agents.default)
        found[agent] = line_cards.runtime_trouble(agent, trouble) if trouble else None
    return found


def no_model(unit: Unit, facts: Facts) -> Ask | None:
    """The card for a unit that names a model which its agent cannot be told."""
    agent = facts.agent(unit)
    model = facts.spec(unit).model
    if not model or agent not in facts.agents.modelless or CardKind.RUNTIME in unit.approved:
        return None
    return words.no_model(unit, agent, model)
