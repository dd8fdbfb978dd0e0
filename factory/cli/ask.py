"""Requests of commands to the daemon; each is checked and written in one transaction.

Invariant: this module writes only the row of the request; only the daemon changes other rows.
"""

import os
import sqlite3
import time
from argparse import Namespace
from collections.abc import Callable
from typing import TypeVar

from factory.cli import named, place, say
from factory.ground.errors import NotYet, RefusedByState, UsageError, did_you_mean
from factory.store import asking, rows, unit_rows, views
from factory.store.opening import OPEN
from factory.store.states import FINAL, PRIORITIES, UnitState

Args = dict[str, str | bool | int]
Found = TypeVar("Found")

WAIT_S = 2.0


def answer(args: Namespace) -> int:
    """Answers a card, with an option's number or your own words."""
    if args.always:
        raise NotYet("answer --always (write a rule) is not available yet. Answer without it.")
    return _ask("answer", lambda con: [_answer(con, args.card.upper(), args.option)])


def tell(args: Namespace) -> int:
    """Sends a message to a unit's agent."""
    text = " ".join(args.text).strip()
    if not text:
        raise UsageError(f'the message is empty. Write: factory tell {args.id} "…"')
    return _ask("tell", lambda con: [{"unit": _open_unit(con, args.id), "text": text}])


def retry(args: Namespace) -> int:
    """Gives held or waiting units another attempt, with a fresh context.

    Creates a new unit if a unit was cancelled, or landed and is no longer on trunk.
    """
    return _ask("retry", lambda con: _each(con, args.ids, _again))


def cancel(args: Namespace) -> int:
    """Ends units and their agents. The tree of each attempt is kept."""
    return _ask("cancel", lambda con: _each(con, args.ids, _open_unit))


def submit(args: Namespace) -> int:
    """Puts commits that a person made into the queue."""
    from factory.cli import revision  # imported here: the other commands start no git

    title = args.title.strip()
    if args.title and not title:
        raise UsageError("the title is empty; without --title, the commit's own message counts")
    top = place.root()  # first say that there is no factory
    named_commit = revision.find(args.revision)
    asked: Args = {"commit": named_commit.commit, "name": named_commit.branch, "title": title}
    code = _ask("submit", lambda con: [asked])
    if named_commit.is_dirty:
        print("! the uncommitted changes in your checkout are not part of it")
    with place.store(top) as con:
        for text in place.which_inbox(top, views.inbox(con)):
            print(text)
    return code


def priority(args: Namespace) -> int:
    """Changes the priority of a unit before its first attempt."""
    if args.priority not in PRIORITIES:
        raise UsageError(
            f"there is no priority {args.priority}: "
            f"it goes from 0 (now) to {PRIORITIES[-1]} (whenever)"
        )
    return _ask("priority", lambda con: [_priority(con, args.id, args.priority)])


def pause(_: Namespace) -> int:
    """Starts nothing new. Running attempts continue to their end, and green units land."""
    return _ask("pause", lambda con: [{}])


def resume(_: Namespace) -> int:
    """Continues after `factory pause`."""
    return _ask("resume", lambda con: [{}])


def soon(look: Callable[[], Found | None]) -> Found | None:
    """Return what `look` finds while the command waits for the daemon; None if it finds nothing."""
    deadline = time.monotonic() + WAIT_S
    found = look()
    while found is None and time.monotonic() < deadline:
        time.sleep(0.02)
        found = look()
    return found


def _ask(kind: str, check: Callable[[sqlite3.Connection], list[Args]]) -> int:
    """Write one request for each of the arguments from `check`; all of them, or none.

    If the daemon runs, print the outcomes.
    """
    top = place.root()
    if original := place.copied_from(top):
        raise RefusedByState(
            f"this repository is a copy of {original}, "
            "and its factory was never started here: nothing was done.\n"
            "  to have a factory here: factoryd start"
        )
    made = []
    with place.store(top, write=True) as con:
        with asking.writing(con):
            for args in check(con):
                made.append(asking.make_request(con, kind, args, views.now_text()))
        with open(place.within(top, "wake"), "a") as mark:  # noqa: PTH123 -- see place.py
            os.utime(mark.fileno())
        if views.daemon(con).state == "stopped":
            print("the next start does this; the daemon is not running (factoryd start)")
            return 0
        soon(lambda: _all_closed(con, made))
        return _print_outcomes(con, made)


def _all_closed(con: sqlite3.Connection, made: list[int]) -> bool | None:
    for request in made:
        if _closed(con, request) is None:
            return None
    return True


def _print_outcomes(con: sqlite3.Connection, made: list[int]) -> int:
    """Print what the daemon did; raise RefusedByState with what it refused."""
    refused = []
    is_busy = False
    for request in made:
        closed = _closed(con, request)
        if closed is None:
            is_busy = True
        elif closed.state == "refused":
            refused.append(closed.outcome)
        else:
            print(say.clean(closed.outcome) or "done")
    if is_busy:
        print("the daemon is busy and does this next (factory log says when)")
    if refused:
        raise RefusedByState("\n".join(refused))
    return 0


def _closed(con: sqlite3.Connection, request: int) -> unit_rows.Outcome | None:
    seen = asking.request_outcome(con, request)
    return seen if seen and seen.state != "pending" else None


def _each(
    con: sqlite3.Connection, names: list[str], check: Callable[[sqlite3.Connection, str], str]
) -> list[Args]:
    """Return the arguments for each unit; raise RefusedByState if `check` refuses one of them."""
    found: list[Args] = []
    for name in dict.fromkeys(names):
        try:
            found.append({"unit": check(con, name)})
        except RefusedByState as error:
            if len(names) == 1:
                raise
            raise RefusedByState(f"{error}\n  nothing was done to the other units") from error
    return found


def _answer(con: sqlite3.Connection, name: str, words: list[str]) -> Args:
    """Return the arguments of the answer; raise an error that refuses an invalid one."""
    card = _open_card(con, name)
    said = " ".join(words).strip()
    keys = [option.key for option in card.options]
    if not said or (said.isdigit() and said not in keys):
        there = ", ".join(keys) or "none"
        raise UsageError(
            f"{name} has no option {said}; it has {there}, "
            f"or say it in a few words (factory show {name})"
        )
    # This may be an option, or words that begin with a number. Quotes make it clear.
    if len(words) > 1 and words[0] in keys:
        raise UsageError(
            f"{name} takes one option, or words. The option: factory answer {name} {words[0]}\n"
            "  words that begin with a number, in quotes: "
            f'factory answer {name} "{say.line(said)}"'
        )
    how = "option" if said in keys else "text"
    return {"card": name, "unit": card.unit, "always": False, how: said}


def _open_card(con: sqlite3.Connection, name: str) -> rows.Card:
    """Return the card if it takes an answer; otherwise raise RefusedByState."""
    card = views.card(con, name)
    if card is None:
        known = [each.id for each in views.cards(con, OPEN["card"])]
        raise RefusedByState(
            f"there is no card {name}{did_you_mean(name, known)}\n  the open ones: factory status"
        )
    if card.state != "open":
        raise RefusedByState(
            f"{name} is closed: {card.answer or card.closed_why}. A card takes one answer."
        )
    if any(answer.card == name for answer in asking.pending(con, "answer")):
        raise RefusedByState(
            f"{name} has an answer already; the daemon acts on it next. A card takes one answer."
        )
    return card


def _again(con: sqlite3.Connection, name: str) -> str:
    """Return the id if the unit may be tried again; otherwise raise RefusedByState."""
    unit = named.the_unit(con, name, refusal=RefusedByState)
    is_gone = unit.state == UnitState.LANDED and not unit.on_trunk
    if unit.state == UnitState.CANCELLED or is_gone:
        return name
    _refuse_ended(unit)
    if unit.state in (UnitState.RUNNING, UnitState.QUEUED):
        raise RefusedByState(f"{name} is {unit.state}: it is being worked on already.")
    return name


def _priority(con: sqlite3.Connection, name: str, number: int) -> Args:
    """Return the arguments if the unit was never started; otherwise raise RefusedByState."""
    unit = named.the_unit(con, name, refusal=RefusedByState)
    _refuse_ended(unit)
    if unit.attempt:
        raise RefusedByState(
            f"the first attempt of {name} has begun, so its priority stays {unit.priority}"
        )
    return {"unit": name, "priority": number}


def _open_unit(con: sqlite3.Connection, name: str) -> str:
    """Return the id if the unit has not ended; otherwise raise RefusedByState."""
    _refuse_ended(named.the_unit(con, name, refusal=RefusedByState))
    return name


def _refuse_ended(unit: unit_rows.Unit) -> None:
    """Raise RefusedByState if the unit has ended."""
    if unit.state == UnitState.SPLIT:
        parts = ", ".join(unit.needs)
        raise RefusedByState(f"{unit.id} is split: its parts do its work now: {parts}.")
    if unit.state in FINAL:
        raise RefusedByState(
            f"{unit.id} is {unit.state}: nothing more happens to it. For more work, add a new task."
        )
