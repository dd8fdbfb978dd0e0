"""Why cards are open: a cause is a value with a stable key, and says when it is over.

Invariant: equal causes share one card; nobody else reads the key that a card or a unit stores.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from factory.people.actions import Action
from factory.store.records import Card, CardKind

Choice = tuple[str, str, Action]  # label, effect, action


@dataclass(frozen=True, slots=True)
class Cause:
    """One that ends only with an answer, or when its owner closes the card.

    `about`: which of its kind it is; None where there can be only one.
    """

    name: str
    about: str | None = None

    @property
    def key(self) -> str:
        """The text by which the store knows it."""
        return self.name if self.about is None else f"{self.name}:{self.about}"

    def why_over(self, card: Card, facts: "Circumstances") -> str:
        """A sentence on why its card can be closed; "" while it lasts."""
        return ""

    def ask(self, card: Card, facts: "Circumstances") -> "Ask | None":
        """The words for it as the facts are now; None: those of the card."""
        return None


@dataclass(frozen=True, slots=True)
class Ask:
    """A card that somebody wants raised."""

    kind: CardKind
    cause: Cause
    question: str
    choices: Sequence[Choice]  # the first is recommended
    evidence: str = ""
    where: str = ""  # where to read more
    default: str = ""  # the key of a safe option, taken at the deadline
    deadline_s: float = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What causes are compared with, at one moment."""

    full: Ask | None  # while a disk has no room
    rules_read: bool = False  # until then only the disk is known
    obstacle: Ask | None = None  # why nothing can be judged
    prompts: str = ""  # the key of the prompts on trunk
    agents: Mapping[str, Ask | None] = field(default_factory=dict)  # wanted; None: can be used
    day: Cause | None = None  # of the day's cap
    at_cap: Collection[str] = ()  # units that have used up what they may spend


@dataclass(frozen=True, slots=True)
class DiskFull(Cause):
    """A disk has no room."""

    def why_over(self, card: Card, facts: Circumstances) -> str:
        """See Cause."""
        return "" if facts.full else "there is room again"


@dataclass(frozen=True, slots=True)
class Obstacle(Cause):
    """Trunk has no gates, or rules that cannot be used."""

    def why_over(self, card: Card, facts: Circumstances) -> str:
        """See Cause."""
        if not facts.rules_read:
            return ""
        if facts.obstacle is None:
            return "trunk has gates now"
        if facts.obstacle.cause == self:
            return ""
        return f"it is another now: {facts.obstacle.question}"


@dataclass(frozen=True, slots=True)
class WrongPrompt(Cause):
    """A prompt on trunk cannot be used; `about`: the key of the prompts."""

    def why_over(self, card: Card, facts: Circumstances) -> str:
        """See Cause."""
        if not facts.rules_read or facts.prompts == self.about:
            return ""
        return "trunk has other prompts now"


@dataclass(frozen=True, slots=True)
class AgentTrouble(Cause):
    """An agent cannot be used; `about`: its name."""

    def why_over(self, card: Card, facts: Circumstances) -> str:
        """See Cause."""
        # Evidence means a missing login or the like, which only an attempt can show to be mended.
        if not facts.rules_read or card.evidence:
            return ""
        agent = self.about or ""
        if agent not in facts.agents:
            return "no unit asks for it any more" if agent else "there is an agent now"
        return "" if facts.agents[agent] else "the program is there now"

    def ask(self, card: Card, facts: Circumstances) -> Ask | None:
        """See Cause."""
        return None if card.evidence else facts.agents.get(self.about or "")


@dataclass(frozen=True, slots=True)
class DaySpent(Cause):
    """The day's money is spent; `about`: the day and its cap."""

    def why_over(self, card: Card, facts: Circumstances) -> str:
        """See Cause."""
        if not facts.rules_read or facts.day == self:
            return ""
        return "there is money again: another day, or another cap"


@dataclass(frozen=True, slots=True)
class UnitSpent(Cause):
    """A unit's money is spent; `about`: the unit."""

    def why_over(self, card: Card, facts: Circumstances) -> str:
        """See Cause."""
        if not facts.rules_read or self.about in facts.at_cap:
            return ""
        return "its cap in factory.toml was raised"


@dataclass(frozen=True, slots=True)
class Unjudged(Cause):
    """Judging breaks each time; `about`: how."""


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
    """The cause of that name."""
    return _KINDS.get(name, Cause)(name, about)


def parse(key: str) -> Cause:
    """The cause that the store knows by this key."""
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
    """The agent cannot be used."""
    return cause("runtime", agent)


def agent_failing(agent: str) -> Cause:
    """The agent starts, and gets nothing done."""
    return cause("failing", agent)


def landing_unknown(step: str) -> Cause:
    """It is not known whether a landing moved trunk."""
    return cause("landing_unknown", step)
