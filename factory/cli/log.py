"""What happened, oldest first; with an ID only of that unit, and what its agent is saying now.

factory log                the whole journal
factory log fix-login -f   one unit, followed until it ends; with its agent's words
factory log --json -f      one event a line, for programs
"""

import json
import sqlite3
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from factory.cli import ask, place, say
from factory.cli.output import Output
from factory.cli.place import Seen
from factory.stores import views

POLL_S = 0.2
NOISE = ("fact.changed", "hook.filled", "attempt.noted", "request.made", "worker.joined")  # of no use to a person
_FRAME = ("seq", "at", "event", "unit", "attempt", "worker")
_SENTENCES = ("why", "reason", "detail", "sentence", "outcome", "answer")


def run(args: Namespace) -> int:
    """Print what happened, and go on where asked to."""
    top = place.root()
    with place.store(top) as con:
        if args.id:
            place.unit(con, args.id)
        for text in follow(con, top, args.id, as_json=args.json, on=args.follow):
            print(text, flush=args.follow)
    return 0


def follow(con: sqlite3.Connection, top: str, unit: str, *, as_json: bool, on: bool) -> Iterator[str]:
    """The lines so far; with `on` also those to come, until the unit has ended."""
    seen, output = 0, Output("")
    while True:
        over = not on or (bool(unit) and place.unit(con, unit)["state"] in ask.FINAL)
        for entry in views.log(con, after=seen, unit=unit):
            seen = entry["seq"]
            if as_json:
                yield json.dumps(entry, ensure_ascii=False)
            elif entry["event"] not in NOISE:
                yield sentence(entry, place.now(), of_one=bool(unit))
        if unit and not as_json:
            output = _newest(con, top, unit, output)
            yield from (say.paint("  │ ", "dim") + text for text in output.read())
        if over:
            return
        time.sleep(POLL_S)


def sentence(entry: Seen, now: datetime, *, of_one: bool = False) -> str:
    """A journal event on one line."""
    noun, verb = entry["event"].split(".")
    number = f" {entry['attempt']}" if noun == "attempt" else ""
    subject = "" if of_one or not entry["unit"] else f"{entry['unit']}: "
    told = "; ".join(_details({name: value for name, value in entry.items() if name not in _FRAME}))
    when = say.paint(say.moment(entry["at"], now), "dim")
    return f"{when}  {say.clip(f'{subject}{noun}{number} {verb}' + (f': {told}' if told else ''), 400)}"


def _details(detail: Mapping[str, Any]) -> Iterator[str]:
    for name, value in detail.items():
        if isinstance(value, bool):
            yield name if value else f"not {name}"
        elif value:
            yield str(value) if name in _SENTENCES else f"{name} {say.clip(str(value), 80)}"


def _newest(con: sqlite3.Connection, top: str, unit: str, output: Output) -> Output:
    attempts = place.unit(con, unit)["attempts"]
    folder = place.run_dir(top, unit, attempts[-1]["number"]) if attempts else ""
    return output if folder == output.folder else Output(folder)
