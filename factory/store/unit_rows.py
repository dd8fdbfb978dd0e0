"""The rows about one unit and the journal that commands print; `status` needs only rows.py.

Invariant: `make schemas` generates docs/json/ from these classes and from those in rows.py.
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
    """The file's text, unchanged."""


class Tokens(Row):
    """The tokens that an attempt used."""

    input: int
    """The input to the model. Unit: tokens."""

    output: int
    """The output of the model. Unit: tokens."""


class Clash(Row):
    """A commit on trunk that an attempt's change does not fit together with."""

    unit: str
    """The unit that landed with the commit; empty if no unit did."""

    commit: str
    """The commit on trunk."""

    title: str
    """The unit's title, or the first line of the commit's message."""


class Attempt(Row):
    """A numbered attempt at a unit."""

    unit: str
    """The unit's id."""

    number: int
    """The attempt's number, from 1. Only the unit's newest attempt can change anything."""

    worker: str
    """The worker of the attempt."""

    agent: str
    """The attempt's runtime; `run` if a shell command runs and no agent."""

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
    """What the agent left for the next attempt, in handoff.md."""

    ref: str
    """The ref in the factory repository that keeps the attempt's tree."""

    commit: str
    """The commit with the attempt's result, in the factory repository; empty without a result."""

    tree: str
    """The tree of that commit; empty if the attempt changed nothing."""

    left_out: Sequence[str]
    """The paths that git could not add to the commit."""

    tokens: Tokens
    """The tokens that the attempt used."""

    cost_usd: float
    """The attempt's cost. Unit: US dollars."""

    estimated: bool
    """Whether the cost is computed from tokens."""

    reserved_usd: float
    """The amount held back; after the end, the least that is charged. Unit: US dollars."""

    reserved_tokens: int
    """The tokens held back; after the end, the least that is charged. Unit: tokens."""

    reserved_minutes: float
    """The time held back; after the end, how long the attempt worked. Unit: minutes."""

    day: str
    """The day of the attempt's end in UTC, as YYYY-MM-DD. The cost counts in that day's budget."""

    clashes: Sequence[Clash]
    """The commits that landed meanwhile and do not fit the attempt's change. After `conflict`, all
    of them changed the same lines; otherwise one of them makes the change red, likeliest first."""

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
    """Whether the verdict is final. If so, factoryd does not judge the same key again."""

    at: Time
    """When the gate gave the verdict."""

    flaky: bool
    """Whether the gate failed first and then passed on the same tree."""

    seconds: float
    """How long the gate ran. Unit: seconds."""

    command: str
    """The command that a person can run to reproduce the verdict."""

    tail: str
    """The end of a red gate's output."""

    log: str
    """The file with the gate's whole output; relative to the checkout if the file lies there."""

    rewrote: Sequence[str] = ()
    """Tracked files that the gate changed. Such a change makes the gate red."""

    evidence: str = ""
    """Not used yet."""

    cached: bool
    """Whether factoryd used an earlier verdict and did not run the gate."""


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
    """The text of the message."""

    at: Time
    """When the message was written."""


class Unit(OpenUnit):
    """What `factory show UNIT --json` prints: the whole record of a unit."""

    schema: Literal[1]
    """The version of this format."""

    accepted: Time
    """When the unit's task file was dropped."""

    needs: Sequence[str]
    """The units that must land first. For a unit that was split: its parts."""

    scope: Sequence[str]
    """The globs of paths that the unit may change; empty if it may change all paths."""

    agent: str
    """The runtime that the task names; empty if factoryd uses the configured one."""

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
    """Whether the next attempt continues the last session if that is possible."""

    fresh: bool
    """Whether the next attempt starts from trunk and not from the last attempt's tree."""

    conflicts: int
    """How many attempts in a row conflicted with trunk. Unit: attempts."""

    contested: Sequence[str]
    """The paths on which these attempts conflicted."""

    behind: Sequence[str]
    """The units that were in the merge queue with changes to these paths at the last conflict."""

    proven: str
    """The trunk commit on which the unit's `accept` commands failed; `none` without commands."""

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

    priority: int = 2
    """The priority that you gave a unit, from 0 (now) to 4 (whenever)."""

    always: bool = False
    """Whether factoryd keeps the answer as a rule."""

    commit: str = ""
    """The commit that you submitted."""

    name: str = ""
    """The branch that you submitted."""

    title: str = ""
    """The first line of the commit message that you chose."""


class Entry(Row):
    """What `factory log --json` prints on each line: one event. Each event has only some keys."""

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
    """Whether factoryd used an earlier verdict and did not run the gate."""

    before: bool = False
    """Whether an `accept` command ran on a tree without the change, where it must fail."""

    on: str = ""
    """The older trunk commit that the change was judged on, to find out what it does not fit."""

    stacked: bool = False
    """Whether the judged tree also contained earlier units that had not landed yet."""

    state: str = ""
    """The state of trunk (green, red, unknown, judging) or of the daemon (running, draining…)."""

    commit: str = ""
    """The commit on trunk."""

    was: str = ""
    """The commit that trunk had before the event, or the priority that a unit had."""

    priority: int = 2
    """The priority that you gave a unit, from 0 (now) to 4 (whenever)."""

    to: str = ""
    """The commit that trunk moves to or has moved to."""

    rewritten: bool = False
    """Whether trunk's new commit does not contain trunk's commit before the event."""

    recognized: bool = False
    """Whether factoryd found the unit's commit on trunk, from a landing by an earlier store."""

    units: Sequence[str] = ()
    """The units that land together."""

    moved: bool = False
    """Whether factoryd recorded an open landing again because the repository has a new path."""

    pid: int = 0
    """The process id of the git command that moves trunk."""

    outcome: str = ""
    """How a landing or a request ended."""

    request: int = 0
    """The number of a request."""

    args: RequestArgs | None = None
    """The arguments of a request."""

    proven: str = ""
    """The trunk commit on which the unit's `accept` commands failed, as they must."""

    path: str = ""
    """The folder of a workspace that factoryd abandoned."""

    count: int = 0
    """The number of archived attempts, or of compacted events. Unit: attempts or events."""

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
    """The files that factoryd restores after each gate because of your answer, by gate."""


class Outcome(Row):
    """The outcome of a request."""

    state: Literal["pending", "done", "refused"]
    outcome: str
