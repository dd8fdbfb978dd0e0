"""What commands print about one unit, and the events of the journal; `status` needs only rows.py.

Invariant: docs/json/ is generated from these classes, as it is from those in rows.py.
"""

from __future__ import annotations

from factory.store.rows import Card, OpenUnit, Row

TYPE_CHECKING = False  # importing typing for its constant would cost more than a query
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Literal

    from factory.store.rows import EventName, Reason, Time


class Task(Row):
    """The task file of a unit."""

    name: str
    """The file's name."""

    text: str
    """Its Markdown, verbatim."""


class Tokens(Row):
    """What an attempt used."""

    input: int
    """Read by the model. Unit: tokens."""

    output: int
    """Written by the model. Unit: tokens."""


class Attempt(Row):
    """One numbered go at a unit."""

    unit: str
    """The unit's id."""

    number: int
    """Its number, from 1: a newer one fences it off."""

    worker: str
    """The worker that did it."""

    agent: str
    """The runtime that did it; `run` for a command instead of an agent."""

    start: Time
    """When it began."""

    nonce: str
    """The id of the process group that it started, unique to this store."""

    workspace: str
    """The folder of its working tree; empty before it has one."""

    base: str
    """The trunk commit that it started from."""

    heard: int
    """The number of the newest remark in its prompt."""

    session: str
    """The agent's own id of its session."""

    resumed: bool
    """Whether it continued an earlier session."""

    pid: int
    """The process id of its shim, 0 before that started."""

    end: Time | None
    """When it ended; null while it runs."""

    reason: Reason | None
    """Why it ended."""

    detail: str
    """The same in a sentence."""

    digest: str
    """What the next attempt is told about it."""

    summary: str
    """What the agent wrote into done.md."""

    said: str
    """The agent's last words."""

    handoff: str
    """What the agent left for the next attempt, from handoff.md."""

    ref: str
    """The ref in the factory repository that keeps its tree."""

    commit: str
    """The commit of what it left, in the factory repository; empty if it left nothing."""

    tree: str
    """The tree of that commit; empty if it changed nothing."""

    left_out: Sequence[str]
    """Paths that git could not take."""

    tokens: Tokens
    """What it used."""

    cost_usd: float
    """What it cost. Unit: US dollars."""

    estimated: bool
    """Whether the cost is reckoned from tokens."""

    reserved_usd: float
    """Held back for it; after its end, charged if it did not tell all. Unit: US dollars."""

    reserved_tokens: int
    """The same. Unit: tokens."""

    reserved_minutes: float
    """The same; after its end, how long it worked. Unit: minutes."""

    day: str
    """The day of its end in UTC, as YYYY-MM-DD: that day's budget pays."""

    run_dir: str
    """The folder of its prompt and output, which may be pruned."""


class Verdict(Row):
    """A gate's answer about one exact tree."""

    key: str
    """A digest of the tree, the gate, the environment and the sandbox."""

    gate: str
    """The gate's name."""

    tree: str
    """The tree that it judged."""

    ok: bool
    """Whether it is green."""

    settled: bool
    """Whether it holds for good: the same key is not judged again."""

    at: Time
    """When it was given."""

    flaky: bool
    """Whether the gate failed first and then passed on the same tree."""

    seconds: float
    """How long the gate ran. Unit: seconds."""

    command: str
    """The command that reproduces it."""

    tail: str
    """The end of a red gate's output."""

    log: str
    """The file with its whole output; relative to the checkout if it lies there."""

    rewrote: Sequence[str] = ()
    """Tracked files that the gate changed: that makes it red."""

    evidence: str = ""
    """Not used yet."""

    cached: bool
    """Whether a kept answer was taken and no gate ran."""


class Remark(Row):
    """Something that a person and a unit's agents told each other."""

    unit: str
    """The unit's id."""

    seq: int
    """Its number within the unit, from 1."""

    who: Literal["agent", "person"]
    """Who said it."""

    kind: str
    """What it is: question, answer, tell, review, split or simplify."""

    text: str
    """The words."""

    at: Time
    """When."""


class Unit(OpenUnit):
    """What `factory show UNIT --json` prints: all that is on record about a unit."""

    schema: Literal[1]
    """The version of this format."""

    accepted: Time
    """When its task file was accepted."""

    needs: Sequence[str]
    """The units that must land first; for a split unit, its parts."""

    scope: Sequence[str]
    """The globs that it may touch; empty: everything."""

    agent: str
    """The runtime that its task names; empty: the configured one."""

    spent: int
    """Attempts that count against its limit. Unit: attempts."""

    bonus: int
    """Attempts that a person granted on top of the limit. Unit: attempts."""

    not_before: Time | None
    """The time that it waits for."""

    cause: str
    """The fingerprint of the card that it waits for."""

    submission: str
    """The commit in the factory repository that is judged next."""

    base: str
    """The trunk commit that the submission is based on."""

    commit: str
    """Its commit on trunk; empty until it has landed."""

    landed: Time | None
    """When it landed."""

    approved: Sequence[str]
    """The kinds of cards that a person let pass for it."""

    resume: bool
    """Whether the next attempt continues the last session if it can."""

    fresh: bool
    """Whether the next attempt starts from trunk and not from the last tree."""

    proven: str
    """The trunk commit on which its `accept` commands failed; `none` if it has none."""

    on_trunk: bool
    """Whether trunk holds its commit now."""

    task: Task | None
    """Its task file."""

    attempts: Sequence[Attempt]
    """Its attempts, oldest first."""

    verdicts: Sequence[Verdict]
    """What gates said about it, oldest first."""

    escalations: Sequence[Card]
    """The cards that concern it, oldest first, closed ones too."""

    remarks: Sequence[Remark]
    """What was told to its agents, and what they asked."""


class RequestArgs(Row):
    """What a command asked for."""

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
    """Its number; each later event has a higher one."""

    at: Time
    """When it happened."""

    event: EventName
    """What happened; docs/states.md has a table."""

    unit: str
    """The unit that it is about; empty if it is about none."""

    attempt: int
    """The number of that unit's attempt, 0 if it is about none."""

    worker: str
    """The worker that it is about; empty if it is about none."""

    why: str = ""
    """Why, in one sentence."""

    agent: str = ""
    """The runtime that an attempt started with."""

    reason: Reason = ""
    """Why an attempt ended."""

    name: str = ""
    """The name of a task file."""

    card: str = ""
    """A card's id."""

    kind: str = ""
    """The kind of a card, a request or a remark."""

    question: str = ""
    """What a card asks."""

    answer: str = ""
    """What was answered to a card."""

    who: str = ""
    """Who told something: agent or person."""

    text: str = ""
    """What was told, at most 400 letters of it."""

    gate: str = ""
    """The name of the gate that gave a verdict."""

    ok: bool = False
    """Whether a verdict is green."""

    cached: bool = False
    """Whether a kept verdict was taken and no gate ran."""

    before: bool = False
    """Whether an `accept` command was run without the change, where it must fail."""

    stacked: bool = False
    """Whether the tree held units before it that had not landed."""

    state: str = ""
    """What is known of trunk: green, red, unknown or judging."""

    commit: str = ""
    """The commit on trunk."""

    was: str = ""
    """The commit before it."""

    to: str = ""
    """The commit that trunk moves to, or was moved to."""

    rewritten: bool = False
    """Whether trunk was moved to a commit that does not contain the one before."""

    recognized: bool = False
    """Whether the unit's commit was found on trunk: another life of the store landed it."""

    units: Sequence[str] = ()
    """The units of a landing."""

    moved: bool = False
    """Whether an open landing was written anew because the repository was moved."""

    pid: int = 0
    """The process id of the git that moves trunk."""

    outcome: str = ""
    """How a landing or a request ended."""

    request: int = 0
    """The number of a request."""

    args: RequestArgs | None = None
    """What a request asks for."""

    proven: str = ""
    """The trunk commit on which the unit's `accept` commands failed, as they must."""

    path: str = ""
    """The folder of an abandoned workspace."""

    count: int = 0
    """How many attempts were archived. Unit: attempts."""

    runs: int = 0
    """How many folders of attempts were pruned. Unit: folders."""

    logs: int = 0
    """How many outputs of gates were pruned. Unit: folders."""

    workspaces: Sequence[str] = ()
    """The abandoned workspaces that were removed."""

    fact: str = ""
    """The name of what changed."""

    identity: str = ""
    """The store's identity."""

    left_out: Sequence[str] = ()
    """The gates that no longer judge, by your answer."""

    restores: Mapping[str, Sequence[str]] = {}
    """Gates, and the files that are put back after each, by your answer."""


class Outcome(Row):
    """What became of a request."""

    state: Literal["pending", "done", "refused"]
    outcome: str
