"""The rows about the line that commands print: a class for each row, a docstring for each key.

Invariant: `make schemas` generates docs/json/ from these classes, so each key needs a docstring.
What must not live here: queries, and imports that `factory status` does not need.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing would cost `factory status` more time than the query
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Literal, dataclass_transform

    from factory.store.states import UnitState

    Time = str  # RFC 3339, UTC
    Kind = str  # records.CardKind
    Reason = str  # unit.EndReason
    EventName = str  # journal.Event
else:

    def dataclass_transform(**_):  # noqa: D103 - a stand-in for typing.Literal
        return lambda kind: kind


VERSION: Literal[1] = 1  # the version of the JSON; new releases only add keys


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Row:
    """A frozen value with named fields, like a dataclass, but without its 10 ms of import.

    `vars(row)` contains the given fields in the order of the arguments. Fields that are not given
    have the class's defaults.
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
    """The daemon that serves this repository."""

    state: Literal["running", "draining", "stopped"]
    """`draining`: the daemon finishes running work and starts nothing new. If dead: `stopped`."""

    pid: int | None
    """The daemon's process id."""

    since: Time | None
    """When the daemon entered this state."""

    version: str | None
    """The version of factoryd that last ran in this repository."""


class Trunk(Row):
    """The branch that units land on."""

    branch: str | None
    """The branch's name; null before the first start."""

    commit: str | None
    """The branch's newest commit that factoryd knows."""

    state: Literal["green", "red", "unknown", "judging"]
    """Whether the newest known commit passes its gates."""

    gates_red: Sequence[str]
    """The names of the gates that fail on this commit."""

    missing: Sequence[str] = ()
    """Landed units whose commits are no longer on trunk, because a person rewrote trunk."""


class Worker(Row):
    """A worker and what is on its hook."""

    name: str
    """The worker's name, such as w1."""

    state: Literal["idle", "running", "draining", "paused"]
    """`draining`: there are too many workers, so this one leaves when its unit is finished."""

    unit: str | None
    """The id of the unit on its hook."""

    attempt: int | None
    """The number of the unit's current attempt."""

    phase: Literal["preparing", "working"] | None
    """`preparing`: factoryd makes the workspace and the environment. `working`: the agent runs."""

    since: Time | None
    """When the worker entered this state and phase."""

    agent: str | None
    """The runtime of the attempt."""

    alive: bool
    """Whether the attempt still runs. It may have ended while no daemon ran."""


class Command(Row):
    """A command of a setup, or a gate, that runs now."""

    place: str
    """The bench or workspace where it runs, such as b1 or w1."""

    unit: str
    """The unit that it runs for; empty if it judges trunk."""

    what: Literal["setup", "gate"]
    """Whether the command makes an environment or judges a tree."""

    name: str
    """The command of the setup, or the gate's name."""

    step: int | None
    """The number of the command in the setup, from 1; null for a gate. Unit: commands."""

    steps: int | None
    """The number of all commands of the setup; null for a gate. Unit: commands."""

    since: Time
    """When the whole setup, or the gate, began."""

    usual_s: float | None
    """How long it usually takes; null if it never ended well before. Unit: seconds."""

    said: str
    """The last line of its output, at most 200 characters."""


class OpenUnit(Row):
    """A short description of a unit that has not ended."""

    id: str
    """The unit's id."""

    title: str
    """The unit's title, in one line."""

    state: UnitState
    """The unit's state."""

    attempt: int
    """The number of the unit's newest attempt; 0 before the first."""

    why: str
    """Why the unit is in this state, in one sentence."""

    since: Time
    """When the unit entered this state."""

    priority: int
    """The unit's priority, from 0 (now) to 4 (whenever)."""


class Queued(Row):
    """A unit in the merge queue."""

    unit: str
    """The unit's id."""

    position: int
    """The unit's place in the order of landing, from 1. Unit: units."""

    state: Literal["waiting", "judging", "green", "landing"]
    """What the merge queue does with the unit. `judging`: its gates run on a bench."""

    why: str
    """What the unit waits for, in one sentence."""


class Choice(Row):
    """An option of a card."""

    key: str
    """The key for the answer: `factory answer E7 KEY`."""

    label: str
    """The option in a few words."""

    effect: str
    """What factoryd does if you choose this option."""


class Action(Choice):
    """An option of a card, with its effect in factoryd."""

    action: str
    """factoryd's internal name of the effect."""


class Escalation(Row):
    """A decision that only a person can make: a card."""

    id: str
    """The card's id, such as E7."""

    kind: Kind
    """The kind of decision."""

    unit: str
    """The first unit that the card stopped; empty if the card concerns no unit."""

    units: Sequence[str]
    """The units that wait for the answer."""

    question: str
    """The question, in a sentence or two."""

    options: Sequence[Choice]
    """The answers that you can choose. You can also answer in your own words."""

    default: str
    """The key of the option that factoryd takes at the deadline; empty if there is no deadline."""

    deadline: Time | None
    """When factoryd takes the default option."""

    count: int
    """How often the cause occurred, in units or in times. Unit: occurrences."""

    since: Time
    """When factoryd made the card."""

    recommended: str
    """The key of the option that factoryd recommends; empty if it recommends none."""

    answer: str
    """The answer; empty if there is none yet. An answered card stays until its cause is gone."""


class Card(Escalation):
    """A card with its whole record."""

    options: Sequence[Action]
    """The answers that you can choose. You can also answer in your own words."""

    fingerprint: str
    """A text that identifies the cause; equal causes share one card."""

    evidence: str
    """The evidence behind the question, such as an output or a list of paths."""

    where: str
    """Where to read more."""

    state: Literal["open", "closed"]
    """Whether the card is open."""

    closed: Time | None
    """When the card was closed."""

    closed_why: str
    """Why the card was closed, in a few words."""


class ShownCard(Card):
    """What `factory show CARD --json` prints."""

    schema: Literal[1]
    """The version of this format."""


class Budget(Row):
    """Today's spending, the amounts held back for running attempts, and the limits."""

    day: str
    """The day in UTC, as YYYY-MM-DD."""

    spent_usd: float
    """The cost of attempts that ended today. Unit: US dollars."""

    reserved_usd: float
    """The amount held back for running attempts and not spent yet. Unit: US dollars."""

    estimated: bool
    """Whether a part of the cost was computed from tokens or is an amount that was held back."""

    spent_tokens: int
    """The input and output tokens of attempts that ended today. Unit: tokens."""

    reserved_tokens: int
    """The tokens held back for running attempts and not used yet. Unit: tokens."""

    spent_minutes: float
    """The working time of attempts that ended today. Unit: minutes."""

    reserved_minutes: float
    """The working time held back for running attempts. Unit: minutes."""

    attempt_usd: float | None = None
    """The limit of one attempt; null: no limit. Unit: US dollars."""

    unit_usd: float | None = None
    """The limit of all attempts of a unit together; null: no limit. Unit: US dollars."""

    day_usd: float | None = None
    """The limit of a day; null: no limit. Unit: US dollars."""

    attempt_tokens: int | None = None
    """The limit of one attempt; null: no limit. Unit: tokens."""

    unit_tokens: int | None = None
    """The limit of all attempts of a unit together; null: no limit. Unit: tokens."""

    day_tokens: int | None = None
    """The limit of a day; null: no limit. Unit: tokens."""

    unit_minutes: float | None = None
    """The limit of all attempts of a unit together; null: no limit. Unit: minutes."""

    day_minutes: float | None = None
    """The limit of a day; null: no limit. Unit: minutes."""

    regardless: bool
    """Whether you answered that work continues today although a limit is reached."""


class Sandbox(Row):
    """How agents and gates are confined."""

    mode: str
    """The sandbox in force: bubblewrap, sandbox-exec or off."""

    says: str
    """A sentence about missing protection; empty if nothing is missing."""


class Paused(Row):
    """The pause of the line."""

    by: str
    """Who paused the line."""

    since: Time
    """When the pause began."""


class Landed(Row):
    """A unit that landed recently."""

    unit: str
    """The unit's id."""

    commit: str
    """The unit's commit on trunk."""

    at: Time
    """When the unit landed."""

    on_trunk: bool
    """Whether the commit is still on trunk; false after a person removed it from trunk."""


class Rejected(Row):
    """A task file that factoryd did not accept, and moved to the folder `rejected` of the inbox."""

    file: str
    """The file's name."""

    why: str
    """Why factoryd did not accept the file, in one line."""


class Status(Row):
    """What `factory status --json` prints."""

    schema: Literal[1]
    """The version of this format."""

    at: Time
    """The time of this status."""

    daemon: Daemon
    """The daemon's real state. It may differ from the daemon's last own report."""

    trunk: Trunk
    """The branch that units land on."""

    workers: Sequence[Worker]
    """The workers, in the order of their numbers."""

    running: Sequence[Command]
    """The setups and gates that run now."""

    units: Mapping[UnitState, int]
    """The number of units in each state. Unit: units."""

    units_open: Sequence[OpenUnit]
    """The units that have not ended: first units that need you, then by priority and age."""

    queue: Sequence[Queued]
    """The merge queue, in the order of landing."""

    escalations: Sequence[Escalation]
    """The cards that are not closed, oldest first."""

    budget: Budget | None
    """Today's spending; null if no limit is set."""

    sandbox: Sandbox | None
    """How agents and gates are confined; null before the first start."""

    paused: Paused | None
    """The pause of the line; null while the line is not paused."""

    warnings: Sequence[str]
    """Warnings, in one or two sentences each."""

    last_landed: Sequence[Landed]
    """The last five landed units, newest first."""

    inbox: str
    """The name of the folder for task files."""

    rejected: Sequence[Rejected]
    """Task files that were not accepted, by name; at most 20."""

    rejected_count: int
    """The number of all task files that were not accepted. Unit: files."""


class Identity(Row):
    """The store's identity, and the repository where the store was last used."""

    id: str = ""
    root: str = ""
    git_dir: str = ""
    device: int = 0
    inode: int = 0
    work: str = ""
