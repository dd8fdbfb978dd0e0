"""Causes: why cards are open. A cause has a stable key and decides when it is over.

Invariant: equal causes share one card; only `parse` reads the key that a card or a unit stores.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from factory.people.actions import Action
from factory.store.records import Card, CardKind

Choice = tuple[str, str, Action]  # label, effect, action


@dataclass(frozen=True, slots=True)
class Cause:
    """A cause that ends only with an answer, or when its owner closes the card.

    `about` distinguishes causes with the same name; None if there can be only one such cause.
    """

    name: str
    about: str | None = None

    @property
    def key(self) -> str:
        """Return the text that the store keeps for this cause."""
        return self.name if self.about is None else f"{self.name}:{self.about}"

    def why_over(self, card: Card, facts: "Circumstances") -> str:
        """Return a sentence that says why the card can close; "" while the cause lasts."""
        return ""

    def ask(self, card: Card, facts: "Circumstances") -> "Ask | None":
        """Return the card's new text if the facts changed it; None to keep the text."""
        return None


@dataclass(frozen=True, slots=True)
class Ask:
    """The contents of a card to raise."""

    kind: CardKind
    cause: Cause
    question: str
    choices: Sequence[Choice]  # the first is recommended
    evidence: str = ""
    where: str = ""  # where to read more
    default: str = ""  # the key of the option that takes effect at the deadline
    deadline_s: float = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """The facts at one moment that decide which causes are over."""

    full: Ask | None  # the card while a disk is full
    rules_read: bool = False  # while False, only `full` is known
    obstacle: Ask | None = None  # the card about why nothing can be judged
    prompts: str = ""  # the key of the prompts on trunk
    # agents that units ask for; None: the agent is usable
    agents: Mapping[str, Ask | None] = field(default_factory=dict)
    day: Cause | None = None  # the cause of units that wait because of the day's limit
    at_cap: Collection[str] = ()  # units that have reached their spending limit


@dataclass(frozen=True, slots=True)
class DiskFull(Cause):
    """A disk is full."""

    def why_over(self, card: Card, facts: Circumstances) -> str:
        """See Cause."""
        return "" if facts.full else "the disk has room again"


@dataclass(frozen=True, slots=True)
class Obstacle(Cause):
    """Trunk has no gates, or has rules that cannot be used."""

    def why_over(self, card: Card, facts: Circumstances) -> str:
        """See Cause."""
        if facts.obstacle is None:
            return "trunk has gates now"
        if facts.obstacle.cause == self:
            return ""
        return f"the problem is now a different one: {facts.obstacle.question}"


@dataclass(frozen=True, slots=True)
class WrongPrompt(Cause):
    """A prompt on trunk cannot be used; `about`: the key of the prompts."""

    def why_over(self, card: Card, facts: Circumstances) -> str:
        """See Cause."""
        if facts.prompts == self.about:
            return ""
        return "trunk has other prompts now"


@dataclass(frozen=True, slots=True)
class AgentTrouble(Cause):
    """An agent cannot be used; `about`: its name."""

    def why_over(self, card: Card, facts: Circumstances) -> str:
        """See Cause."""
        # A card with evidence is about e.g. a missing login. Only an attempt can show that the
        # login works again.
        if card.evidence:
            return ""
        agent = self.about or ""
        if agent not in facts.agents:
            return "no unit asks for this agent any more" if agent else "an agent is installed now"
        return "" if facts.agents[agent] else "the program is installed now"

    def ask(self, card: Card, facts: Circumstances) -> Ask | None:
        """See Cause."""
        return None if card.evidence else facts.agents.get(self.about or "")


@dataclass(frozen=True, slots=True)
class DaySpent(Cause):
    """The day's spending limit is reached; `about`: the day and its limit."""

    def why_over(self, card: Card, facts: Circumstances) -> str:
        """See Cause."""
        if facts.day == self:
            return ""
        return "a new day began, or the limit was changed"


@dataclass(frozen=True, slots=True)
class UnitSpent(Cause):
    """A unit's spending limit is reached; `about`: the unit."""

    def why_over(self, card: Card, facts: Circumstances) -> str:
        """See Cause."""
        if self.about in facts.at_cap:
            return ""
        return "its limit in factory.toml was raised"


@dataclass(frozen=True, slots=True)
class Unjudged(Cause):
    """Judging fails each time with an error; `about`: the error."""


_KINDS: Mapping[str, type[Cause]] = {
    "disk": DiskFull,
    "no_gate": Obstacle,
    "rules": Obstacle,
    "rules_too_large": Obstacle,
    "prompts": WrongPrompt,
    "runtime": AgentTrouble,
    "day": DaySpent,
    "budget": UnitSpent,
    "unjudged": Unjudged,
}


def cause(name: str, about: str | None = None) -> Cause:
    """Return the cause with this name."""
    return _KINDS.get(name, Cause)(name, about)


def parse(key: str) -> Cause:
    """Return the cause that the store keeps under this key."""
    name, colon, about = key.partition(":")
    return cause(name, about if colon else None)


BAD_CONFIG = cause("config")
DISK_FULL = cause("disk")
NO_GATE = cause("no_gate")
TRUNK_GONE = cause("trunk_gone")
TRUNK_RED = cause("trunk_red")
TRUNK_UNREADABLE = cause("trunk_unreadable")
UNCONFINED = cause("setup", "sandbox")


def agent_trouble(agent: str) -> Cause:
    """Return the cause of an agent that cannot be used."""
    return cause("runtime", agent)


def agent_failing(agent: str) -> Cause:
    """Return the cause of an agent that starts but gets nothing done."""
    return cause("failing", agent)


def landing_unknown(step: str) -> Cause:
    """Return the cause of the card that asks whether a landing has moved trunk."""
    return cause("landing_unknown", step)
