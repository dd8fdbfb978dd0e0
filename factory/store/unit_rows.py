"""The rows that commands print about one unit and the journal; `status` needs only rows.py.

Invariant: docs/json/ is generated from these classes and from the classes in rows.py.
"""

from __future__ import annotations

from factory.store.rows import Card, OpenUnit, Row

TYPE_CHECKING = False  # importing typing would cost more time than a query
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Literal

    from factory.store.rows import EventName, Reason, Time


class Task(Row):
    """The task file of a unit."""

    name: str
    """The file's name."""

    text: str
    """The file's text, verbatim."""


class Tokens(Row):
    """The tokens that an attempt used."""

    input: int
    """Input to the model. Unit: tokens."""

    output: int
    """Output of the model. Unit: tokens."""


class Attempt(Row):
    """A numbered attempt at a unit."""

    unit: str
    """The unit's id."""

    number: int
    """The attempt's number, from 1. Once a newer attempt exists, this one can change nothing."""

    worker: str
    """The worker of the attempt."""

    agent: str
    """The attempt's runtime; `run` for a command instead of an agent."""

    start: Time
    """When the attempt began."""

    nonce: str
    """A unique id of the attempt. It begins with the store's identity."""

    workspace: str
    """The folder of the attempt's working tree; empty before the folder exists."""

    base: str
    """The trunk commit that the attempt started from."""

    heard: int
    """The number of the newest remark in the attempt's prompt."""

    session: str
    """The agent's own session id."""

    resumed: bool
    """Whether the attempt continued an earlier session."""

    pid: int
    """The process id of the attempt's shim; 0 before the shim started."""

    end: Time | None
    """When the attempt ended; null while it runs."""

    reason: Reason | None
    """The reason why the attempt ended."""

    detail: str
    """Why the attempt ended, in a sentence."""

    digest: str
    """The evidence about this attempt for the next attempt's prompt."""

    summary: str
    """What the agent wrote into done.md."""

    said: str
    """The agent's last words."""

    handoff: str
    """What the agent left for the next attempt, from handoff.md."""

    ref: str
    """The ref in the factory repository that keeps the attempt's tree."""

    commit: str
    """The commit with the attempt's result, in the factory repository; empty without a result."""

    tree: str
    """The tree of that commit; empty if the attempt changed nothing."""

    left_out: Sequence[str]
    """Paths that git could not add to the commit."""

    tokens: Tokens
    """The tokens that the attempt used."""

    cost_usd: float
    """The attempt's cost. Unit: US dollars."""

    estimated: bool
    """Whether the cost is computed from tokens."""

    reserved_usd: float
    """Held back for the attempt; after its end, the least that it is charged. Unit: US dollars."""

    reserved_tokens: int
    """Held back for the attempt; after its end, the least that it is charged. Unit: tokens."""

    reserved_minutes: float
    """Held back for the attempt; after its end, how long it worked. Unit: minutes."""

    day: str
    """The day of the attempt's end in UTC, as YYYY-MM-DD. That day's budget pays."""

    run_dir: str
    """The folder with the attempt's prompt and output. factoryd may have deleted it."""


class Verdict(Row):
    """A gate's answer about one exact tree."""

    key: str
    """A digest of the tree, the gate, the environment and the sandbox."""

    gate: str
    """The gate's name."""

    tree: str
    """The tree that the gate judged."""

    ok: bool
    """Whether the gate is green on that tree."""

    settled: bool
    """Whether the verdict is final, so that factoryd does not judge the same key again."""

    at: Time
    """When the gate gave the verdict."""

    flaky: bool
    """Whether the gate failed first and then passed on the same tree."""

    seconds: float
    """How long the gate ran. Unit: seconds."""

    command: str
    """The command that reproduces it."""

    tail: str
    """The end of a red gate's output."""

    log: str
    """The file with the gate's whole output; relative to the checkout if the file lies there."""

    rewrote: Sequence[str] = ()
    """Tracked files that the gate changed. Such a change makes the gate red."""

    evidence: str = ""
    """Not used yet."""

    cached: bool
    """Whether factoryd used an earlier verdict and ran no gate."""


class Remark(Row):
    """A message between a person and a unit's agents."""

    unit: str
    """The unit's id."""

    seq: int
    """The remark's number within the unit, from 1."""

    who: Literal["agent", "person"]
    """The author: agent or person."""

    kind: str
    """The kind of remark: question, answer, tell, review, split or simplify."""

    text: str
    """The words."""

    at: Time
    """When."""


class Unit(OpenUnit):
    """What `factory show UNIT --json` prints: the whole record of a unit."""

    schema: Literal[1]
    """The version of this format."""

    accepted: Time
    """When factoryd accepted the unit's task file."""

    needs: Sequence[str]
    """The units that must land first. If the unit was split: its parts."""

    scope: Sequence[str]
    """The globs of paths that the unit may change; empty: all paths."""

    agent: str
    """The runtime that the task names; empty: the configured one."""

    spent: int
    """The number of attempts that count against the limit. Unit: attempts."""

    bonus: int
    """The number of extra attempts that a person granted. Unit: attempts."""

    not_before: Time | None
    """The time that the unit waits for."""

    cause: str
    """The fingerprint of the card that the unit waits for."""

    submission: str
    """The commit in the factory repository that is judged next."""

    base: str
    """The trunk commit that the submission is based on."""

    commit: str
    """The unit's commit on trunk; empty until the unit has landed."""

    landed: Time | None
    """When the unit landed."""

    approved: Sequence[str]
    """The kinds of cards that a person waived for this unit."""

    resume: bool
    """Whether the next attempt continues the last session, if possible."""

    fresh: bool
    """Whether the next attempt starts from trunk and not from the last attempt's tree."""

    proven: str
    """The trunk commit on which its `accept` commands failed; `none` without such commands."""

    on_trunk: bool
    """Whether the unit's commit is on trunk now."""

    task: Task | None
    """The unit's task file."""

    attempts: Sequence[Attempt]
    """The unit's attempts, oldest first."""

    verdicts: Sequence[Verdict]
    """The verdicts on the unit, oldest first."""

    escalations: Sequence[Card]
    """The cards that concern the unit, oldest first, including closed cards."""

    remarks: Sequence[Remark]
    """The messages between people and the unit's agents."""


class RequestArgs(Row):
    """The arguments of a command's request."""

    unit: str = ""
    """The unit's id."""

    card: str = ""
    """The card's id."""

    option: str = ""
    """The key of the option that was chosen."""

    text: str = ""
    """The answer or remark in your own words."""

    always: bool = False
    """Whether the answer becomes a rule."""


class Entry(Row):
    """What `factory log --json` prints on each line: one event. Its keys depend on the event."""

    schema: Literal[1]
    """The version of this format."""

    seq: int
    """The event's number. Each later event has a higher number."""

    at: Time
    """When the event happened."""

    event: EventName
    """The name of the event; docs/states.md has a table."""

    unit: str
    """The unit that the event concerns; empty if it concerns none."""

    attempt: int
    """The number of the attempt that the event concerns; 0 if it concerns none."""

    worker: str
    """The worker that the event concerns; empty if it concerns none."""

    why: str = ""
    """Why the event happened, in one sentence."""

    agent: str = ""
    """The runtime of an attempt that started."""

    reason: Reason = ""
    """Why an attempt ended."""

    name: str = ""
    """The name of a task file."""

    card: str = ""
    """A card's id."""

    kind: str = ""
    """The kind of a card, a request or a remark."""

    question: str = ""
    """The question of a card."""

    answer: str = ""
    """The answer to a card."""

    who: str = ""
    """The author of a remark: agent or person."""

    text: str = ""
    """The first part of a remark, at most 400 characters."""

    gate: str = ""
    """The name of the gate that gave a verdict."""

    ok: bool = False
    """Whether a verdict is green."""

    cached: bool = False
    """Whether factoryd used an earlier verdict and ran no gate."""

    before: bool = False
    """Whether an `accept` command ran on a tree without the change, where it must fail."""

    stacked: bool = False
    """Whether the judged tree also had earlier units that had not landed yet."""

    state: str = ""
    """The state of trunk: green, red, unknown or judging."""

    commit: str = ""
    """The commit on trunk."""

    was: str = ""
    """The commit on trunk before the event."""

    to: str = ""
    """The commit that trunk moves or has moved to."""

    rewritten: bool = False
    """Whether trunk's new commit does not contain the commit before."""

    recognized: bool = False
    """Whether factoryd found the unit's commit on trunk, because an earlier store landed it."""

    units: Sequence[str] = ()
    """The units of a landing."""

    moved: bool = False
    """Whether factoryd wrote an open landing again because the repository was moved."""

    pid: int = 0
    """The process id of the git command that moves trunk."""

    outcome: str = ""
    """How a landing or a request ended."""

    request: int = 0
    """The number of a request."""

    args: RequestArgs | None = None
    """The arguments of a request."""

    proven: str = ""
    """The trunk commit on which the unit's `accept` commands failed. They must fail there."""

    path: str = ""
    """The folder of an abandoned workspace."""

    count: int = 0
    """The number of archived attempts. Unit: attempts."""

    runs: int = 0
    """The number of deleted attempt folders. Unit: folders."""

    logs: int = 0
    """The number of deleted folders with gate output. Unit: folders."""

    workspaces: Sequence[str] = ()
    """The abandoned workspaces that factoryd removed."""

    fact: str = ""
    """The name of the value that changed."""

    identity: str = ""
    """The store's identity."""

    left_out: Sequence[str] = ()
    """The gates that you switched off with your answer."""

    restores: Mapping[str, Sequence[str]] = {}
    """Gates, and the files that factoryd restores after each gate, as you answered."""


class Outcome(Row):
    """The outcome of a request."""

    state: Literal["pending", "done", "refused"]
    outcome: str
