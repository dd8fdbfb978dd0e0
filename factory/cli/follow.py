"""Follows the judging of trunk on the screen, until there is a result.

Invariant: only the view ends with Ctrl-C; the daemon continues the judging.
"""

import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from factory.cli import place, say
from factory.cli.status import card_lines, what_runs
from factory.store import rows, trunk_views, views

PAUSE_S = 0.25
MOST = 3  # cards that are shown in full
INTERRUPTED = 130  # the exit code of a command that Ctrl-C ended


def follow(top: str) -> int:
    """Show the judging of trunk until it ends; return 0 if green, else 1, or INTERRUPTED."""
    shows = sys.stdout.isatty()
    told = ""
    try:
        while (seen := _seen(top)) is not None:
            text = _progress(seen, whole=shows)
            if shows:
                room = (say.columns() or say.COLUMNS) - 1
                print(f"\r\x1b[K{say.clip(text, room)}", end="", flush=True)
            elif text not in ("", told):
                print(f"  {text}", flush=True)
            told = text
            time.sleep(PAUSE_S)
    except KeyboardInterrupt:
        print("\nthe daemon continues; to see its state: factory status")
        return INTERRUPTED
    if shows:
        print("\r\x1b[K", end="")
    with place.store(top) as con:
        trunk = views.trunk(con)
        for line in _result(con, trunk):
            print(line)
    return 0 if trunk.state == "green" else 1


def _seen(top: str) -> tuple[str, Sequence[rows.Command]] | None:
    """Return trunk's branch and what runs for trunk; None if trunk is not being judged."""
    with place.store(top) as con:
        trunk = views.trunk(con)
        if trunk.state != "judging" or views.daemon(con).state == "stopped":
            return None
        commands = [each for each in views.commands_running(con) if not each.unit]
        return trunk.branch or "trunk", commands


def _progress(seen: tuple[str, Sequence[rows.Command]], *, whole: bool) -> str:
    """Return one line about what runs; with `whole`, also how long, and the output's last line."""
    branch, commands = seen
    now = datetime.now(UTC)
    parts = []
    for command in commands:
        about, lasts = what_runs(command, now)
        said = f"{about} ({lasts})" if whole else about
        parts.append(f"{said}: {say.line(command.name)}")
    if whole and not parts:
        return f"judging {branch}: preparing …"
    said = commands[-1].said if whole else ""
    return " · ".join(parts) + (f" │ {say.line(said)}" if said else "")


def _result(con: sqlite3.Connection, trunk: rows.Trunk) -> Iterator[str]:
    """Yield the verdicts, how long they took, and the cards that trunk's state made."""
    done = trunk_views.judged(con)
    if done:
        yield from _verdicts(done)
    branch = trunk.branch or "trunk"
    yield f"{say.line(branch)} is {say.paint(trunk.state, _style(trunk.state))}{_took(done)}"
    cards = [card for card in views.status(con, views.now_text()).escalations if not card.answer]
    now = datetime.now(UTC)
    for card in cards[:MOST]:
        yield from card_lines(card, now)
    if len(cards) > MOST:
        yield f"  … and {len(cards) - MOST} more: factory status"


def _verdicts(done: trunk_views.Judged) -> Iterator[str]:
    cells = []
    for given in done.verdicts:
        word = "green" if given.ok else "red"
        cells.append((word, given.gate, say.lasted(given.seconds), _about(given)))
    yield from say.table(cells)


def _about(given: trunk_views.Given) -> str:
    """Return what a red verdict means, and where to read more."""
    if given.ok:
        return ""
    if given.is_advisory:
        return f"advisory: it does not judge until it passes on trunk. See: {given.log}"
    return f"see: {given.log}"


def _style(state: str) -> str:
    return state if state in ("green", "red") else "yellow"


def _took(done: trunk_views.Judged | None) -> str:
    if done is None:
        return ""
    gates = say.lasted(done.seconds - done.setup_s)
    return f" after {say.lasted(done.seconds)}: setup {say.lasted(done.setup_s)}, gates {gates}"
