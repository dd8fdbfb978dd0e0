"""The screen: what needs you first, then what is moving, what is queued, what waits, what landed last.

Invariant: imports next to nothing, for people type it often and scripts in loops.
"""

import os
import re
import sys
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime

from factory.cli import place, say
from factory.ground import disk
from factory.store import views
from factory.store.views import Json

MOST = 8  # rows of one section
ENDED = "ENDED, AND TAKEN UP BY THE NEXT START"
WHOLE = 3  # cards shown with their options


def status(args: Namespace) -> int:
    """One screen: what needs you first, then what is moving, what is queued, what landed last.

    factory status             the screen
    factory status --watch     the same, kept up to date until Ctrl-C
    factory status --json      for programs; "schema": 1, only ever added to
    """
    top = place.root()
    with place.store(top) as con:
        while True:
            seen = views.status(con, views.now_text())
            # Said here too: the store may have no room for the daemon to say so.
            seen["warnings"] = [
                *filter(None, [disk.complaint(place.within(top))]),
                *seen["warnings"],
            ]
            asked = seen["daemon"]["state"] == "stopped" or not any(seen["units"].values())
            left = _left_in_inbox(f"{top}/{seen['inbox']}") if asked and not args.json else 0
            shown = say.as_json(seen) if args.json else "\n".join(_screen(seen, left))
            print(
                "\x1b[H\x1b[J" + shown if args.watch and sys.stdout.isatty() else shown, flush=True
            )
            if not args.watch:
                return 0
            time.sleep(1)


def card_lines(card: Json, now: datetime) -> Iterator[str]:
    """A card as a person reads it: the question, the options with their effects, how to answer."""
    about = f" · {card['count']} units" if card["count"] > 1 else ""
    if (
        card["count"] <= 1
        and card["units"]
        and card["units"][0] not in re.findall(r"[\w-]+", card["question"])
    ):
        about = f" · {say.clip(card['units'][0], 40)}"
    head = f"{card['kind']}{about} · {say.ago(card['since'], now)}"
    yield f"  {say.paint(card['id'], 'cyan')}  " + say.paint(head, "dim")
    yield from (say.paint(each, "bold") for each in say.wrap(card["question"], indent="      "))
    yield from _options(
        [(option["key"], option["label"], option["effect"]) for option in card["options"]]
    )
    first = card["recommended"] or (card["options"][0]["key"] if card["options"] else '"…"')
    due = (
        f"   (by itself {card['default']} at {say.moment(card['deadline'], now)})"
        if card["deadline"]
        else ""
    )
    yield say.paint(f"      factory answer {card['id']} {first}{due}", "dim")


def _options(options: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    """Labels and effects whole, however long, for a person decides by them: in columns where they fit."""
    aligned = say.table(options, indent="      ")
    if not any("…" in line for line in aligned):
        yield from aligned
        return
    for key, label, effect in options:
        head, *more = say.wrap(": ".join(filter(None, (label, effect))), indent=" " * 9)
        yield from (f"      {key:<3}{head[9:]}", *more)


def _left_in_inbox(folder: str) -> int:
    """How many task files lie there, those that git tracks and that were taken among them."""
    with suppress(OSError), os.scandir(folder) as entries:
        return sum(
            entry.name.lower().endswith(".md") and entry.name[0] not in ".#~" for entry in entries
        )
    return 0


def _screen(seen: Json, left: int) -> Iterator[str]:
    now = datetime.fromisoformat(seen["at"])
    title = {unit["id"]: unit["title"] for unit in seen["units_open"]}
    above = [card for card in seen["escalations"] if not card["answer"]][:WHOLE]
    asked = {
        card["units"][0] for card in above if len(card["units"]) == 1
    }  # said there, and of no other
    moving = [_moving(worker, title, now) for worker in seen["workers"] if worker["alive"]]
    ended = [
        (each["unit"], _of(each)) for each in seen["workers"] if each["unit"] and not each["alive"]
    ]
    queue = [
        (str(each["position"]), each["unit"], each["state"], title[each["unit"]])
        for each in seen["queue"]
    ]
    waiting = [
        (unit["id"], f"{unit['state']} {say.ago(unit['since'], now)}", unit["why"] or unit["title"])
        for unit in seen["units_open"]
        if unit["state"] in ("waiting", "ready", "held") and unit["id"] not in asked
    ]
    landed = [_landed(unit, now) for unit in seen["last_landed"]]
    yield from _head(seen, left)
    if left and seen["daemon"]["state"] == "stopped":
        yield say.paint(
            f"task files in {seen['inbox']}/, taken by the next start: {left}", "yellow"
        )
    yield from _cards(seen["escalations"], now)
    for heading, rows in (
        ("MOVING", moving),
        (ENDED, ended),
        ("QUEUE", queue),
        ("WAITING", waiting),
        ("LANDED LAST", landed),
    ):
        yield from say.section(heading, rows[:MOST])
        yield from _more(rows)
    if 0 < len(landed) < seen["units"]["landed"]:
        yield f"  … and {seen['units']['landed'] - len(landed)} more (factory log has all)"
    yield from _foot(seen)


def _head(seen: Json, left: int) -> Iterator[str]:
    daemon, trunk = seen["daemon"], seen["trunk"]
    state = daemon["state"] + (", paused" if seen["paused"] else "")
    parts = [
        say.paint("factoryd", "bold")
        + " "
        + say.paint(state, "green" if state == "running" else "yellow")
    ]
    if daemon["state"] == "stopped":
        parts.append("start it: factoryd start")
    else:
        busy = sum(1 for worker in seen["workers"] if worker["unit"])
        parts.append(f"{busy} of {len(seen['workers'])} workers busy")
    if trunk["commit"]:
        parts.append(f"{say.line(trunk['branch'])} {trunk['commit'][:10]} {trunk['state']}")
    yield " · ".join(parts)
    numbers = [f"{count} {state}" for state, count in seen["units"].items() if count]
    inbox = f"{seen['inbox']}/"
    none = (
        f"no units yet: what lies in {inbox} is looked at"
        if left
        else f"no units yet: drop a task file into {inbox}"
    )
    yield say.paint(" · ".join(numbers) or none, "dim")


def _cards(cards: Sequence[Json], now: datetime) -> Iterator[str]:
    yield ""
    for card in cards:
        if card["answer"]:  # its cause is not gone yet, and everything is said about it
            yield say.paint(
                f"  {card['id']}  {card['kind']}: you said “{say.line(card['answer'])}”", "dim"
            )
    cards = [card for card in cards if not card["answer"]]
    yield say.paint("NEEDS YOU", "bold") if cards else say.paint("Nothing needs you.", "green")
    for card in cards[:WHOLE]:
        yield from card_lines(card, now)
    rest = [(card["id"], card["kind"], card["question"]) for card in cards[WHOLE:]]
    yield from say.table(rest[:MOST])
    yield from _more(rest)
    if rest:
        yield say.paint(f"  each with its options: factory show {rest[0][0]}", "dim")


def _moving(worker: Json, title: Json, now: datetime) -> Sequence[str]:
    go = f"{worker['phase'] or worker['state']} {say.ago(worker['since'], now)}"
    return worker["name"], worker["unit"], go, _of(worker), title.get(worker["unit"], "")


def _of(worker: Json) -> str:
    return f"attempt {worker['attempt']}, {worker['agent']}"


def _landed(unit: Json, now: datetime) -> Sequence[str]:
    gone = "" if unit["on_trunk"] else f"not on trunk any more; again: factory retry {unit['unit']}"
    return unit["commit"][:10], unit["unit"], f"{say.ago(unit['at'], now)} ago", gone


def _more(rows: Sequence[object]) -> Iterator[str]:
    if len(rows) > MOST:
        yield f"  … and {len(rows) - MOST} more (factory status --json has all)"


_FORMS = {"usd": "${:.2f}", "tokens": "{:,} tokens", "minutes": "{:,.1f} minutes"}


def _money(budget: Json) -> Iterator[str]:
    """What is spent and held back today, and the caps."""
    about = "≈" if budget["estimated"] else ""
    rest = ", no cap today, by your answer" if budget["regardless"] else ""
    caps = [(kind, budget[f"day_{kind}"], form) for kind, form in _FORMS.items()]
    for kind, cap, form in caps:
        if cap or (kind == "usd" and not any(each for _, each, _ in caps)):
            spent, held = (form.format(budget[f"{name}_{kind}"]) for name in ("spent", "reserved"))
            of = f" of {form.format(cap)}" if cap else ""
            yield f"today {about if kind == 'usd' else ''}{spent}{of} spent, {held} held back{rest}"
    unit = [
        form.format(budget[f"unit_{kind}"])
        for kind, form in _FORMS.items()
        if budget[f"unit_{kind}"]
    ]
    if unit:
        yield f"a unit may use {' and '.join(unit)}"


def _foot(seen: Json) -> Iterator[str]:
    sandbox = (seen["sandbox"] or {}).get("says")
    budget = "" if seen["budget"] else "no budget: spending has no cap"
    yield ""
    if seen["budget"]:
        yield say.paint(" · ".join(_money(seen["budget"])), "dim")
    for text in filter(None, [*seen["warnings"][:MOST], sandbox, budget]):
        yield from (say.paint(line, "yellow") for line in say.wrap(f"! {text}"))
    yield from _more(seen["warnings"])
