"""What commands print of the line: a class for each kind of row, a docstring for each key.

Invariant: docs/json/ is generated from these classes, so each printed key is described here.
What must not live here: queries, and any import that `factory status` can do without.
"""

from __future__ import annotations

TYPE_CHECKING = (
    False  # importing typing for its constant would cost `factory status` more than the query
)
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Literal, dataclass_transform

    from factory.store.states import UnitState

    Time = str  # RFC 3339, UTC
    Kind = str  # records.CardKind
    Reason = str  # unit.EndReason
    EventName = str  # journal.Event
else:

    def dataclass_transform(**_):  # noqa: D103 - what typing has of that name
        return lambda kind: kind


VERSION: Literal[1] = 1  # of the JSON: keys are only ever added


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Row:
    """A frozen value with named fields: a dataclass without the 10 ms that their import takes.

    `vars(row)` has the fields that were given, in that order. The others have the class's default.
    """

    def __init__(self, **fields: object) -> None:
        self.__dict__.update(fields)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} is read-only")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({fields})"


class Daemon(Row):
    """The daemon of this repository."""

    state: Literal["running", "draining", "stopped"]
    """`draining`: it finishes what runs and starts nothing new. A dead daemon is `stopped`."""

    pid: int | None
    """Its process id."""

    since: Time | None
    """When it entered this state."""

    version: str | None
    """The version of factoryd that ran here last."""


class Trunk(Row):
    """The branch that units land on."""

    branch: str | None
    """Its name; null before the first start."""

    commit: str | None
    """Its newest commit that factoryd has seen."""

    state: Literal["green", "red", "unknown", "judging"]
    """Whether that commit passes its gates."""

    gates_red: Sequence[str]
    """The names of the gates that fail on it."""

    missing: Sequence[str] = ()
    """Landed units whose commits trunk no longer holds, because a person rewrote it."""


class Worker(Row):
    """A worker and what is on its hook."""

    name: str
    """Its name, such as w1."""

    state: Literal["idle", "running", "draining", "paused"]
    """`draining`: it leaves when its unit is done, because there are to be fewer workers."""

    unit: str | None
    """The id of the unit on its hook."""

    attempt: int | None
    """The number of that unit's attempt."""

    phase: Literal["preparing", "working"] | None
    """`preparing`: workspace and environment are made. `working`: the agent runs."""

    since: Time | None
    """When it entered this state and phase."""

    agent: str | None
    """The runtime that does the attempt."""

    alive: bool
    """Whether the attempt is under way. It may have ended while no daemon ran."""


class OpenUnit(Row):
    """A unit that has not ended, in short."""

    id: str
    """The unit's id."""

    title: str
    """What it is about, in one line."""

    state: UnitState
    """Where it is."""

    attempt: int
    """The number of its newest attempt, 0 before the first."""

    why: str
    """Why it is in that state, in one sentence."""

    since: Time
    """When it entered this state."""

    priority: int
    """0 now … 4 whenever."""


class Queued(Row):
    """A unit in the merge queue."""

    unit: str
    """The unit's id."""

    position: int
    """Its place in the order of landing, from 1. Unit: units."""

    state: Literal["waiting", "judging", "green", "landing"]
    """What happens to it."""


class Choice(Row):
    """An option of a card."""

    key: str
    """What to answer: `factory answer E7 KEY`."""

    label: str
    """The choice in a few words."""

    effect: str
    """What factoryd does if you choose it."""


class Action(Choice):
    """An option of a card, with what it makes factoryd do."""

    action: str
    """factoryd's own name for the effect."""


class Escalation(Row):
    """A decision that only a person can make: a card."""

    id: str
    """The card's id, such as E7."""

    kind: Kind
    """What it asks about."""

    unit: str
    """The first unit that it stopped; empty if it is about none."""

    units: Sequence[str]
    """The units that wait for it."""

    question: str
    """The question, in a sentence or two."""

    options: Sequence[Choice]
    """What you can choose. Your own words are an answer too."""

    default: str
    """The key of the option that is taken at the deadline; empty if none is."""

    deadline: Time | None
    """When the default is taken."""

    count: int
    """How many units or times its cause was met. Unit: occurrences."""

    since: Time
    """When it was raised."""

    recommended: str
    """The key of the option that factoryd would take; empty if it has no opinion."""

    answer: str
    """What was answered; empty while it is open. An answered card stays until its cause is gone."""


class Card(Escalation):
    """A card with all that is on record about it."""

    options: Sequence[Action]
    """What you can choose. Your own words are an answer too."""

    fingerprint: str
    """Its cause: equal causes are one card."""

    evidence: str
    """What led to the question: an output, a list of paths."""

    where: str
    """Where to read more."""

    state: Literal["open", "closed"]
    """Whether it still asks."""

    closed: Time | None
    """When it was closed."""

    closed_why: str
    """Why it was closed, in a few words."""


class ShownCard(Card):
    """What `factory show CARD --json` prints."""

    schema: Literal[1]
    """The version of this format."""


class Budget(Row):
    """What is spent today and held back for attempts that run, and the limits that were set."""

    day: str
    """The day in UTC, as YYYY-MM-DD."""

    spent_usd: float
    """Spent by attempts that ended today. Unit: US dollars."""

    reserved_usd: float
    """Held back for attempts that run. Unit: US dollars."""

    estimated: bool
    """Whether a part of the money is reckoned from tokens, or charged as it was held back."""

    spent_tokens: int
    """Used by attempts that ended today, input and output. Unit: tokens."""

    reserved_tokens: int
    """Held back for attempts that run. Unit: tokens."""

    spent_minutes: float
    """Worked by attempts that ended today. Unit: minutes."""

    reserved_minutes: float
    """Held back for attempts that run. Unit: minutes."""

    attempt_usd: float | None = None
    """The limit of one attempt; null: none. Unit: US dollars."""

    unit_usd: float | None = None
    """The limit of all attempts of a unit; null: none. Unit: US dollars."""

    day_usd: float | None = None
    """The limit of a day; null: none. Unit: US dollars."""

    attempt_tokens: int | None = None
    """The limit of one attempt; null: none. Unit: tokens."""

    unit_tokens: int | None = None
    """The limit of all attempts of a unit; null: none. Unit: tokens."""

    day_tokens: int | None = None
    """The limit of a day; null: none. Unit: tokens."""

    unit_minutes: float | None = None
    """The limit of all attempts of a unit; null: none. Unit: minutes."""

    day_minutes: float | None = None
    """The limit of a day; null: none. Unit: minutes."""

    regardless: bool
    """Whether you answered that work goes on today whatever it costs."""


class Sandbox(Row):
    """How agents and gates are confined."""

    mode: str
    """The sandbox in force: bubblewrap, sandbox-exec or off."""

    says: str
    """What is not confined, in a sentence; empty if all is as it should be."""


class Paused(Row):
    """Who paused the line."""

    by: str
    """Who asked for it."""

    since: Time
    """When."""


class Landed(Row):
    """A unit that landed lately."""

    unit: str
    """The unit's id."""

    commit: str
    """Its commit on trunk."""

    at: Time
    """When it landed."""

    on_trunk: bool
    """Whether trunk still holds it; false after a person rewrote trunk."""


class Status(Row):
    """What `factory status --json` prints."""

    schema: Literal[1]
    """The version of this format."""

    at: Time
    """The moment that it describes."""

    daemon: Daemon
    """The daemon as it is, not as it last said."""

    trunk: Trunk
    """The branch that units land on."""

    workers: Sequence[Worker]
    """The workers, by number."""

    units: Mapping[UnitState, int]
    """How many units are in each state. Unit: units."""

    units_open: Sequence[OpenUnit]
    """The units that have not ended: what needs you first, then by priority and age."""

    queue: Sequence[Queued]
    """The merge queue, in the order of landing."""

    escalations: Sequence[Escalation]
    """The cards that are not closed, oldest first."""

    budget: Budget | None
    """Spending today; null if no limit is set."""

    sandbox: Sandbox | None
    """How agents and gates are confined; null before the first start."""

    paused: Paused | None
    """Who paused the line; null while it is not paused."""

    warnings: Sequence[str]
    """What you should know, a sentence or two each."""

    last_landed: Sequence[Landed]
    """The five units that landed last, newest first."""

    inbox: str
    """The name of the folder for task files."""


class Setting(Row):
    """A setting in force."""

    value: Any
    """Its value; null: not set. docs/configuration.md names its unit."""

    source: str
    """Where it was written: the default, factory.toml or an environment variable."""


class FoundGate(Row):
    """A gate that judges here."""

    name: str
    """Its name."""

    command: str
    """What it runs."""

    reason: str
    """Where it was read."""


class FoundSetup(Row):
    """How an environment is made here."""

    kind: str
    """The way: pip, uv, npm, script, several joined by +; `none` if nothing has to be made."""

    reason: str
    """Where it was read."""


class Inferred(Row):
    """What factoryd found out by itself at its last start; without keys before the first."""

    gates: Sequence[FoundGate] = ()
    """The gates that judge."""

    setup: FoundSetup | None = None
    """How an environment is made."""

    agents: Sequence[str] = ()
    """The runtimes whose programs are installed."""

    runtimes: Sequence[str] = ()
    """All runtimes that have a file."""

    agent: str = ""
    """The runtime that does a unit which names none; empty if there is none."""


class Config(Row):
    """What `factory config --json` prints."""

    schema: Literal[1]
    """The version of this format."""

    settings: Mapping[str, Setting]
    """Every setting by its dotted name, with the value in force."""

    inferred: Inferred
    """What was found out where nothing was written."""

    error: str
    """What is wrong in factory.toml, while its last good version is in force; else empty."""


class Identity(Row):
    """Whose the store is, and where it was used last."""

    id: str = ""
    root: str = ""
    git_dir: str = ""
    device: int = 0
    inode: int = 0
    work: str = ""
