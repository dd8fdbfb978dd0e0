"""Decides a card: an option's number, or your own words. Acts at once; a card takes one answer.

factory answer E7 2
factory answer E7 "use the session store that the admin pages have"
"""

import sqlite3
from argparse import Namespace

from factory.cli import ask, say
from factory.cli.place import Seen
from factory.errors import NotYet, RefusedByState, UsageError
from factory.stores import views

ARGUMENTS = {
    "CARD": "as status names it, such as E7",
    "ANSWER…": "an option's number, or words",
    "--always": "not yet: write a rule",
}


def run(args: Namespace) -> int:
    """Ask for the answer to be taken."""
    if args.always:
        raise NotYet("answer --always writes no rule so far. Answer without it.")
    return ask.ask("answer", lambda con: _checked(con, args.card.upper(), " ".join(args.option).strip()))


def _checked(con: sqlite3.Connection, name: str, said: str) -> Seen:
    card = _open_card(con, name)
    _refuse_second(con, card)
    keys = [option["key"] for option in card["options"]]
    of = {"card": name, "unit": card["unit"], "always": False}
    if said in keys:
        return of | {"option": said}
    if said.isdigit():
        raise UsageError(f"{name} has no option {said}; it has {', '.join(keys) or 'none'} (factory show {name})")
    if not said:
        raise UsageError(f"an answer to {name} is an option's number or a few words (factory show {name})")
    return of | {"text": said}


def _open_card(con: sqlite3.Connection, name: str) -> Seen:
    card = views.card(con, name)
    if card is None:
        known = [each["id"] for each in views.cards(con, open_only=True)]
        raise RefusedByState(f"there is no card {name}{say.meant(name, known)}\n  the open ones: factory status")
    if card["state"] != "open":
        raise RefusedByState(f"{name} is closed: {card['answer'] or card['closed_why']}. A card takes one answer.")
    return card


def _refuse_second(con: sqlite3.Connection, card: Seen) -> None:
    for entry in views.log(con, unit=card["unit"]):
        if entry["event"] == "request.made" and entry["kind"] == "answer" and entry["args"]["card"] == card["id"]:
            made = views.request_outcome(con, entry["request"])
            if made and made["state"] == "pending":
                raise RefusedByState(f"{card['id']} has an answer that the daemon takes next. A card takes one answer.")
