"""Prints the journal for a person or a program; for one unit, also the output of its agent.

Invariant: with --follow, each event is printed once, in the order in which it happened.
"""

import json
import re
import sqlite3
import time
from argparse import Namespace
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from factory.agents.tail import Tail
from factory.cli import named, place, say
from factory.ground.errors import UsageError
from factory.ground.times import stamp
from factory.store import rows, unit_rows, unit_views
from factory.store.states import FINAL

POLL_S = 0.2
BEFORE = 100  # most lines of an agent's earlier output
LOOKS = 600  # most reads of the output between two reads of the journal
SHOWN = 2000  # most letters shown of a line
_NOISE = (  # events of no use to a person; a landing is shown once, by its unit
    *("fact.changed", "hook.filled", "attempt.noted", "request.made", "worker.joined"),
    *("landing.opened", "landing.closed"),
)
_SPAN = re.compile(r"(\d{1,9}) ?(s|min|m|h|d|w)")
_SPANS = {"s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_HASH = re.compile(r"\b([0-9a-f]{10})[0-9a-f]{30}(?:[0-9a-f]{24})?\b")
_FRAME = ("schema", "seq", "at", "event", "unit", "attempt", "worker")
_SENTENCES = ("why", "reason", "detail", "sentence", "outcome", "answer")
# An event in words for a person. Any other event is shown by its own name, with its details.
_SAYS = {
    "daemon.started": "daemon: {state}",
    "daemon.stopped": "daemon: stopped",
    "task.accepted": "accepted as {name}: {why}",
    "task.replaced": "its task was saved again: {name}",
    "task.rejected": "{name} was not accepted: {why}",
    "unit.ready": "ready: {why}",
    "unit.waiting": "{why}",
    "unit.held": "held: {why}",
    "unit.queued": "queued: {why}",
    "unit.cancelled": "cancelled: {why}",
    "unit.retried": "tried again: {why}",
    "unit.prioritized": "priority {was} → {priority}",
    "unit.submitted": "submitted as attempt {attempt}: {why}",
    "unit.landed": "landed as {commit}",
    "attempt.started": "attempt {attempt} started on {worker}: {agent}",
    "attempt.adopted": "attempt {attempt} still ran and was taken over by {worker}",
    "attempt.ended": "attempt {attempt} ended: {reason}: {why}",
    "attempt.explained": "attempt {attempt}: {why}",
    "verdict.given": "{gate} is {verdict}",
    "card.raised": "{card} asks ({kind}): {question}",
    "card.answered": "{card} was answered: {answer}",
    "card.closed": "{card} is closed: {why}",
    "unit.told": "{who}: {text}",
    "card.folded": "{card} asks now: {question}",
    "attempts.archived": "trees of {count} attempts went into the archive",
    "request.done": "by factory {kind}: {outcome}",
    "trunk.judged": "trunk at {commit}: {state}",
    "trunk.moved": "trunk was moved by others from {was} to {to}",
}


class Begin(NamedTuple):
    """Where the shown lines begin."""

    seen: int = 0  # the seq of the last event that is not shown
    lines: int = BEFORE  # most lines of an agent's earlier output


EVERYTHING = Begin()


def log(args: Namespace) -> int:
    """Shows the events of all units, or the events of one unit and the output of its agent."""
    since = _since(args.since, datetime.now(UTC)) if args.since is not None else ""
    top = place.root()
    with place.store(top) as con:
        if args.id:
            named.the_unit(con, args.id)
        begin = _begin(con, args, since)
        for text in follow(con, top, args.id, as_json=args.json, on=args.follow, begin=begin):
            print(text, flush=args.follow)
    return 0


def _begin(con: sqlite3.Connection, args: Namespace, since: str) -> Begin:
    seen = unit_views.seq_before(con, since) if since else 0
    if args.newest is None:
        return Begin(seen)
    before = _before_newest(con, args.newest, args.id, as_json=args.json)
    return Begin(max(seen, before), args.newest)


def _since(text: str, now: datetime) -> str:
    """Return the time that `--since` names, in the store's format; raise UsageError."""
    try:
        if span := _SPAN.fullmatch(text.strip()):
            length = timedelta(**{_SPANS[span[2]]: int(span[1])})
            return stamp(now - length)
        return stamp(datetime.fromisoformat(text.strip()).astimezone(UTC))
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"--since {say.clip(text, 40)}: this is neither a duration nor a date\n"
            '  for example: --since 2h, --since 2026-11-28, --since "2026-11-28 14:30"'
        ) from error


def _before_newest(con: sqlite3.Connection, count: int, unit: str, *, as_json: bool) -> int:
    """Return the seq of the event before the newest `count` events that are shown; 0 if none."""
    left = count
    for entry in unit_views.newest_first(con, unit=unit):
        if not as_json and _is_noise(entry):
            continue
        if left == 0:
            return entry.seq
        left -= 1
    return 0


def follow(
    con: sqlite3.Connection,
    top: str,
    unit: str,
    *,
    as_json: bool,
    on: bool,
    begin: Begin = EVERYTHING,
) -> Iterator[str]:
    """Yield the lines from `begin` on; with `on`, also new lines, until the unit has ended."""
    seen, lines = begin
    output = Output("")
    while True:
        # Only what can change is read again, because this runs five times a second.
        state, number = unit_views.progress(con, unit) if unit else (None, 0)
        is_over = not on or state in FINAL
        for entry in unit_views.log(con, after=seen, unit=unit):
            seen = entry.seq
            if as_json:
                yield say.as_json(entry)
            else:
                yield from told(entry, of_one=bool(unit))
        if unit and not as_json:
            folder = place.run_dir(top, unit, number) if number else ""
            output = output if folder == output.folder else Output(folder, lines)
            for text in output.read():
                yield say.paint("  │ ", "dim") + text
        if is_over:
            return
        lines = BEFORE  # an attempt that starts later is shown from its first line
        time.sleep(POLL_S)


def told(entry: unit_rows.Entry, *, of_one: bool) -> Iterator[str]:
    """Yield a journal event as one line; nothing if a person does not need it."""
    if _is_noise(entry):
        return
    subject = "" if of_one or not entry.unit else f"{entry.unit}: "
    when = say.paint(say.moment(entry.at, datetime.now(UTC)), "dim")
    yield f"{when}  " + say.clip(subject + _sentence(entry), 400)


def _is_noise(entry: unit_rows.Entry) -> bool:
    return entry.event in _NOISE or (entry.event == "card.folded" and bool(entry.unit))


class Output(Tail):
    """The output file of one run folder; if the folder is "", there is no output."""

    def __init__(self, folder: str, before: int = BEFORE) -> None:
        """Take the most lines that the first call of `read` returns."""
        super().__init__(folder)
        self._before = before
        self._was_read = False

    def read(self) -> Iterator[str]:
        """Yield the lines added since the last call, with control characters removed.

        The first call returns the last lines only.
        """
        lines: Iterable[bytes] = self._looks()
        if not self._was_read:
            self.skip()
            self._was_read = True
            lines = deque(lines, maxlen=self._before)
        for line in lines:
            yield from readable(line.decode(errors="replace"))

    def _looks(self) -> Iterator[bytes]:
        for _ in range(LOOKS):
            yield from self.lines()
            if not self.is_behind:
                return


def readable(text: str) -> Iterator[str]:
    """Yield an agent's line for a person: the text or command of a JSON event, else the line."""
    try:
        said = list(_words(json.loads(text))) if text.lstrip().startswith("{") else [text]
    except (ValueError, RecursionError):
        said = [say.clip(text, 400)]
    for part in said:
        for line in say.clean(part).rstrip().split("\n"):
            if line:
                yield line if len(line) <= SHOWN else line[:SHOWN] + "…"


def _words(value: object, name: str = "") -> Iterator[str]:
    match name, value:
        case "text", str():
            yield value
        case "command", str():
            yield f"$ {value}"
        case _, dict():
            for key, item in value.items():
                yield from _words(item, key)
        case _, list():
            for item in value:
                yield from _words(item)


def _sentence(entry: unit_rows.Entry) -> str:
    form = _SAYS.get(entry.event)
    if form is None:
        details = "; ".join(_details(entry))
        name = entry.event.replace(".", " ")
        return f"{name}: {details}" if details else name
    words = defaultdict(str, verdict=_verdict(entry))
    for name, value in vars(entry).items():
        words[name] = _plain(value)
    return form.format_map(words).replace(": :", ":").rstrip(": ")


def _verdict(entry: unit_rows.Entry) -> str:
    known = ", known from before" if entry.cached else ""
    if entry.ok:
        return f"green{_without(entry)}{known}"
    below = " on top of units that had not landed" if entry.stacked else ""
    return f"red{_without(entry) or below}{known}"


def _without(entry: unit_rows.Entry) -> str:
    if entry.on:
        return f" on the older trunk {entry.on[:10]}"
    return " without the change" if entry.before else ""


def _details(entry: unit_rows.Entry) -> Iterator[str]:
    for name, value in vars(entry).items():
        if name in _FRAME or (name == "cached" and not value):
            continue
        if isinstance(value, bool):
            yield name if value else f"not {name}"
        elif value:
            yield _plain(value) if name in _SENTENCES else f"{name} {say.clip(_plain(value), 80)}"


def _plain(value: object) -> str:
    """Return a value in a form for people: hashes short, lists with commas."""
    if isinstance(value, rows.Row):
        value = vars(value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(each)}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return _HASH.sub(r"\1", str(value))
