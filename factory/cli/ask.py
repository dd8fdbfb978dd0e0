"""What a command asks of the daemon: checked and written in one transaction, so that it holds with the daemon down too.

Invariant: nothing but the request's row is written here; the daemon alone changes anything else.
"""

import os
import sqlite3
import time
from argparse import Namespace
from collections.abc import Callable

from factory.cli import place, say
from factory.ground.errors import NotYet, RefusedByState, UsageError, did_you_mean
from factory.store import views
from factory.store.views import Json

WAIT_S = 2.0
FINAL = ("landed", "split", "cancelled")


def answer(args: Namespace) -> int:
    """Decides a card: an option's number, or your own words. Acts at once; a card takes one answer.

    factory answer E7 2
    factory answer E7 "use the session store that the admin pages have"
    """
    if args.always:
        raise NotYet("answer --always writes no rule so far. Answer without it.")
    return _ask("answer", lambda con: _answer(con, args.card.upper(), args.option))


def tell(args: Namespace) -> int:
    """Says something to a unit's agent: its next prompt has it. Work that is done goes back to it before it lands.

    factory tell fix-login "keep the old cookie name"
    """
    text = " ".join(args.text).strip()
    if not text:
        raise UsageError(f'there is nothing to tell. Write: factory tell {args.id} "…"')
    return _ask("tell", lambda con: {"unit": _open_unit(con, args.id), "text": text})


def retry(args: Namespace) -> int:
    """Gives a unit that is held, or waits, another attempt, with a fresh context.

    A unit that was cancelled, or that landed and is not on trunk any more, is done again as a new unit.

    factory retry fix-login
    """
    return _ask("retry", lambda con: {"unit": _again(con, args.id)})


def cancel(args: Namespace) -> int:
    """Drops a unit: its agent is ended, and the tree of each of its attempts is kept.

    factory cancel fix-login
    """
    return _ask("cancel", lambda con: {"unit": _open_unit(con, args.id)})


def pause(_: Namespace) -> int:
    """Starts nothing new; what runs goes on to its end, and what is green lands.

    factory pause
    """
    return _ask("pause", lambda con: {})


def resume(_: Namespace) -> int:
    """Goes on after `factory pause`.

    factory resume
    """
    return _ask("resume", lambda con: {})


def soon(look: Callable[[], Json | None]) -> Json | None:
    """What `look` finds within the time that a command waits for the daemon, or None."""
    deadline = time.monotonic() + WAIT_S
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def _ask(kind: str, check: Callable[[sqlite3.Connection], Json]) -> int:
    """Ask with the arguments that `check` gives, or raise its refusal; where the daemon is up, say the outcome."""
    top = place.root()
    if original := place.copied_from(top):
        raise RefusedByState(
            f"this repository is a copy of {original}, and its factory was never started here: nothing was asked.\n"
            "  to have a factory here: factoryd start"
        )
    with place.store(top, write=True) as con:
        with views.writing(con):
            request = views.make_request(con, kind, check(con), views.now_text())
        with open(place.within(top, "wake"), "a") as mark:  # noqa: PTH123 -- see place.py
            os.utime(mark.fileno())
        if views.daemon(con)["state"] == "stopped":
            print("queued for the next start; the daemon is not running (factoryd start)")
            return 0
        closed = soon(lambda: _closed(con, request))
    if closed is None:
        print("asked; the daemon is busy and takes it next (factory log says when)")
    elif closed["state"] == "refused":
        raise RefusedByState(closed["outcome"])
    else:
        print(say.clean(closed["outcome"]) or "done")
    return 0


def _closed(con: sqlite3.Connection, request: int) -> Json | None:
    seen = views.request_outcome(con, request)
    return seen if seen and seen["state"] != "pending" else None


def _answer(con: sqlite3.Connection, name: str, words: list[str]) -> Json:
    said = " ".join(words).strip()
    card = views.card(con, name)
    if card is None:
        known = [each["id"] for each in views.cards(con, open_only=True)]
        raise RefusedByState(
            f"there is no card {name}{did_you_mean(name, known)}\n  the open ones: factory status"
        )
    if card["state"] != "open":
        raise RefusedByState(
            f"{name} is closed: {card['answer'] or card['closed_why']}. A card takes one answer."
        )
    if any(asked["card"] == name for asked in views.pending(con, "answer")):
        raise RefusedByState(
            f"{name} has an answer that the daemon takes next. A card takes one answer."
        )
    keys = [option["key"] for option in card["options"]]
    if not said or (said.isdigit() and said not in keys):
        there = ", ".join(keys) or "none"
        raise UsageError(
            f"{name} has no option {said}; it has {there}, or say it in a few words (factory show {name})"
        )
    if (
        len(words) > 1 and words[0] in keys
    ):  # an option, or words that begin with a number? In quotes it is plain
        raise UsageError(
            f"{name} takes one option, or words. The option: factory answer {name} {words[0]}\n"
            f'  words that begin with a number, in quotes: factory answer {name} "{say.line(said)}"'
        )
    of = {"card": name, "unit": card["unit"], "always": False}
    return of | ({"option": said} if said in keys else {"text": said})


def _again(con: sqlite3.Connection, name: str) -> str:
    """The id, where the unit may be tried again; else raise RefusedByState."""
    unit = place.unit(con, name, refusal=RefusedByState)
    is_gone = unit["state"] == "landed" and not unit["on_trunk"]
    if unit["state"] == "cancelled" or is_gone:
        return name
    return _open_unit(con, name, idle=True)


def _open_unit(con: sqlite3.Connection, name: str, *, idle: bool = False) -> str:
    """The id, where the unit has not ended (`idle`: and nobody works on it); else raise RefusedByState."""
    unit = place.unit(con, name, refusal=RefusedByState)
    state = unit["state"]
    if state == "split":
        raise RefusedByState(
            f"{name} is split: what it was to do its parts do now: {', '.join(unit['needs'])}."
        )
    if state in FINAL:
        raise RefusedByState(
            f"{name} is {state}: nothing more happens to it. To have more done, add a new task."
        )
    if idle and state in ("running", "queued"):
        raise RefusedByState(f"{name} is {state}: it is being worked on already.")
    return name
