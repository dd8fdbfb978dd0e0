"""The store's records as frozen values, and their conversion to rows of plain scalars and back.

Invariant: `from_row(type(r), to_row(r)) == r` for every record. A store converts records only with
these two functions.
"""

import json
import types
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from factory.ground.times import from_stamp, stamp
from factory.store.spec import Spec
from factory.store.unit import EndReason, Unit

Scalar = str | int | float | None
Row = Mapping[str, Scalar]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A unit's Markdown, unchanged, for the prompt and for people. Its parsed form is the Spec."""

    unit: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Clash:
    """A commit on trunk that a change does not fit together with."""

    unit: str  # the unit that it landed; "" if it landed none
    commit: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A numbered attempt at a unit."""

    unit: str
    number: int
    worker: str
    agent: str
    start: datetime
    # the store's identity and a random part; the run dir, the shim and commands have it too
    nonce: str = ""
    workspace: str = ""  # the working tree, relative to the work folder
    base: str = ""  # the trunk commit that it started from
    heard: int = 0  # the number of the newest remark in its prompt
    session: str = ""
    resumed: bool = False
    pid: int = 0  # the shim's pid; 0 = not started yet
    end: datetime | None = None
    reason: EndReason | None = None
    detail: str = ""  # one sentence for a person
    digest: str = ""  # evidence about this attempt for the next one's prompt, at most 16 KiB
    summary: str = ""  # what the agent wrote into done.md
    said: str = ""  # the agent's last words
    handoff: str = ""  # the agent's notes for the next attempt
    ref: str = ""  # the ref in the factory repository that keeps its tree
    commit: str = ""
    tree: str = ""  # the tree of the attempt's commit; "" if the attempt changed nothing
    left_out: tuple[str, ...] = ()  # paths that git could not add to the commit
    tokens_input: int = 0
    tokens_output: int = 0
    cost_usd: float = 0.0
    estimated: bool = False  # whether the cost is computed from tokens
    # The amount held back; after the end, the least that is charged.
    reserved_usd: float = 0.0
    reserved_tokens: int = 0
    reserved_minutes: float = 0.0  # minutes held back; after the end: the minutes worked
    day: str = ""  # the day of its end in UTC; the cost counts in that day's budget
    # What landed meanwhile and does not fit its change: after a conflict, each of these commits;
    # after a red gate, one of these commits, the likeliest first.
    clashes: tuple[Clash, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """A worker's durable place for exactly one unit; an empty hook has the unit ""."""

    worker: str
    index: int  # determines FACTORY_WORKER_INDEX and the range of ports
    unit: str = ""
    attempt: int = 0  # the number of the unit's attempt
    state: str = "idle"  # idle, running, draining, paused
    phase: str = ""  # preparing, working
    since: datetime | None = None
    # the name of the worker's workspace; if one is abandoned, the next has another name
    workspace: str = ""


class CardKind(StrEnum):
    """The subject of a card."""

    QUESTION = "question"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    NO_GATE = "no_gate"
    SETUP = "setup"
    ACCEPT = "accept"
    TRUNK_RED = "trunk_red"
    GUARD = "guard"
    OUT_OF_SCOPE = "out_of_scope"
    CONFLICT = "conflict"
    REVIEW = "review"
    BUDGET = "budget"
    RUNTIME = "runtime"
    LANDING_BLOCKED = "landing_blocked"
    DISK = "disk"
    CONFIG = "config"
    CRASH_LOOP = "crash_loop"
    STUCK = "stuck"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One choice on a card. `action` is what factoryd does; the other fields are for the reader."""

    key: str
    label: str
    effect: str
    action: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A decision that only a person can make."""

    id: str
    kind: CardKind
    fingerprint: str  # identifies the cause; there is one card for each cause
    since: datetime
    question: str
    unit: str = ""  # the first unit that the card stopped
    units: tuple[str, ...] = ()
    count: int = 1
    evidence: str = ""
    where: str = ""  # where to read more
    options: tuple[Option, ...] = ()
    recommended: str = ""  # the key of the recommended option
    default: str = ""
    deadline: datetime | None = None
    state: str = "open"  # open, closed
    answer: str = ""
    closed: datetime | None = None
    closed_why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """A message between a person and a unit's agents; the next attempt's prompt contains it."""

    unit: str
    seq: int
    who: str  # agent, person
    kind: str  # question, answer, tell, review, split, simplify
    text: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A gate's answer about one exact tree, kept with its evidence."""

    key: str  # a digest of tree, gate content, environment and sandbox mode
    gate: str
    tree: str
    ok: bool
    settled: bool
    at: datetime
    flaky: bool = False
    seconds: float = 0.0
    command: str = ""  # the command that reproduces it
    tail: str = ""  # the last part of the output, at most 16 KiB
    log: str = ""  # the file with the whole output; relative to the checkout if it lies there
    # tracked files that the gate changed although it succeeded; they make the verdict red
    rewrote: tuple[str, ...] = ()
    evidence: str = ""  # not used yet

    @property
    def succeeded(self) -> bool:
        """Whether its command succeeded, even if the command changed the tree."""
        return self.ok or bool(self.rewrote)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """An unfinished effect outside the store. After a crash, a start finishes or undoes it."""

    id: str
    kind: str  # landing
    data: str  # JSON
    at: datetime
    done: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A command's request to the daemon."""

    id: int
    kind: str
    args: str  # JSON
    at: datetime
    state: str = "pending"  # pending, done, refused
    outcome: str = ""  # a sentence about the result


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A named value that commands show, such as daemon, trunk, config, warnings or paused."""

    name: str
    value: str  # JSON


Record = Unit | Spec | Task | Attempt | Hook | Card | Remark | Verdict | Step | Request | Fact
R = TypeVar("R", Unit, Spec, Task, Attempt, Hook, Card, Remark, Verdict, Step, Request, Fact)

KEYS: Mapping[type[Record], tuple[str, ...]] = {
    Unit: ("id",),
    Spec: ("unit",),
    Task: ("unit",),
    Attempt: ("unit", "number"),
    Hook: ("worker",),
    Card: ("id",),
    Remark: ("unit", "seq"),
    Verdict: ("key",),
    Step: ("id",),
    Request: ("id",),
    Fact: ("name",),
}
HINTS: Mapping[type[Record], Mapping[str, Any]] = {kind: get_type_hints(kind) for kind in KEYS}
KINDS: Mapping[str, type[Record]] = {kind.__name__.lower(): kind for kind in KEYS}


def kind_name(kind: type[Record]) -> str:
    """Return the name of the kind's table."""
    return kind.__name__.lower()


def to_row(record: Record) -> dict[str, Scalar]:
    """Return column → scalar: times as RFC 3339 in UTC, tuples as JSON, booleans as 0 and 1."""
    return {field.name: _plain(getattr(record, field.name)) for field in fields(record)}


def from_row(kind: type[R], row: Row) -> R:
    """Return the record that `to_row` wrote; ignore unknown columns."""
    read = _READERS[kind]
    return kind(**{name: read[name](value) for name, value in row.items() if name in read})


def _plain(value: Any) -> Scalar:
    if isinstance(value, datetime):
        return stamp(value)
    if isinstance(value, tuple):
        value = json.dumps(value, default=asdict, ensure_ascii=False)
    if isinstance(value, str):
        # Bytes that are not UTF-8 must not make this fail, because that would stop the line.
        return value.encode(errors="replace").decode()
    if isinstance(value, bool):
        return int(value)
    if value is None or isinstance(value, int | float):
        return value
    raise TypeError(f"a record cannot hold {type(value).__name__}")


def _reader(hint: Any) -> Callable[[Any], Any]:
    """Return the function that converts a scalar to a field's value.

    The function is cached for each field, because units are read often.
    """
    if get_origin(hint) in (Union, types.UnionType):
        given = _reader(get_args(hint)[0])
        return lambda value: None if value is None else given(value)
    if get_origin(hint) is tuple:
        return _list_reader(get_args(hint)[0])
    return from_stamp if hint is datetime else hint


def _list_reader(item: Any) -> Callable[[str], tuple[Any, ...]]:
    def read(text: str) -> tuple[Any, ...]:
        if text == "[]":  # a fast way: most fields are texts
            return ()
        entries = json.loads(text)
        if item is str:
            return tuple(entries)
        return tuple([item(**entry) for entry in entries])

    return read


def _readers(kind: type[Record]) -> dict[str, Callable[[Any], Any]]:
    return {name: _reader(hint) for name, hint in HINTS[kind].items()}


_READERS = {kind: _readers(kind) for kind in KEYS}
