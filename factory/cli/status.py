"""One screen: what needs you first, then what is moving, what is queued, what landed last.

factory status             the screen
factory status --watch     the same, kept up to date until Ctrl-C
factory status --json      for programs; "schema": 1, only ever added to
"""

import json
import sys
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from factory.cli import place, say
from factory.cli.place import Seen
from factory.stores import views

MOST = 8  # rows of one section
WHOLE = 3  # cards shown with their options
_TRUNK = {"green": "green", "red": "red", "judging": "yellow"}


def run(args: Namespace) -> int:
    """Print the screen, once or until interrupted."""
    with place.store(place.root()) as con:
        while True:
            now = place.now()
            seen = views.status(con, views.now_text())
            shown = json.dumps(seen, ensure_ascii=False) if args.json else "\n".join(screen(seen, now))
            print("\x1b[H\x1b[J" + shown if args.watch and sys.stdout.isatty() else shown, flush=True)
            if not args.watch:
                return 0
            time.sleep(1)


def screen(seen: Seen, now: datetime) -> Iterator[str]:
    """The lines for a person."""
    title = {unit["id"]: unit["title"] for unit in seen["units_open"]}
    yield from _head(seen)
    yield from _cards(seen["escalations"], now)
    yield from _section("MOVING", [_moving(worker, now, title) for worker in seen["workers"] if worker["unit"]])
    yield from _section("QUEUE", [(str(e["position"]), e["unit"], e["state"], title[e["unit"]]) for e in seen["queue"]])
    yield from _section("WAITING", _waiting(seen, now))
    landed = [(unit["commit"][:10], unit["unit"], f"{say.ago(unit['at'], now)} ago") for unit in seen["last_landed"]]
    yield from _section("LANDED LAST", landed)
    yield from _foot(seen)


def _head(seen: Seen) -> Iterator[str]:
    daemon, trunk = seen["daemon"], seen["trunk"]
    state = f"{daemon['state']}, paused" if seen["paused"] else daemon["state"]
    parts = [say.paint("factoryd", "bold") + " " + say.paint(state, "green" if state == "running" else "yellow")]
    if daemon["state"] == "stopped":
        parts.append("start it: factoryd start")
    else:
        busy = sum(1 for worker in seen["workers"] if worker["unit"])
        parts.append(f"{busy} of {len(seen['workers'])} workers busy")
    if trunk["commit"]:
        colour = _TRUNK.get(trunk["state"], "dim")
        parts.append(f"{say.line(trunk['branch'])} {trunk['commit'][:10]} " + say.paint(trunk["state"], colour))
    yield " · ".join(parts)
    numbers = [f"{count} {state}" for state, count in seen["units"].items() if count]
    yield say.paint(" · ".join(numbers) or "no units yet: drop a task file into inbox/", "dim")


def _foot(seen: Seen) -> Iterator[str]:
    sandbox = (seen["sandbox"] or {}).get("says")
    lines = [
        *seen["warnings"],
        *filter(None, [sandbox]),
        *([] if seen["budget"] else ["no budget: spending has no cap"]),
    ]
    yield ""
    for text in lines:
        yield from (say.paint(line, "yellow") for line in say.wrap(f"! {text}", indent="", room=say.columns()))


def _cards(cards: Sequence[Seen], now: datetime) -> Iterator[str]:
    yield ""
    answered = [card for card in cards if card["answer"]]
    cards = [card for card in cards if not card["answer"]]
    for card in answered:  # a cause that is not gone yet, about which everything is said
        yield say.paint(f"  {card['id']}  {card['kind']}: you said “{say.line(card['answer'])}”", "dim")
    if not cards:
        yield say.paint("Nothing needs you.", "green")
        return
    yield say.paint("NEEDS YOU", "bold")
    for card in cards[:WHOLE]:
        yield from card_lines(card, now)
    rest = cards[WHOLE : WHOLE + MOST]
    yield from say.table([(card["id"], card["kind"], card["question"]) for card in rest])
    yield from _more(cards, WHOLE + MOST)


def card_lines(card: Seen, now: datetime) -> Iterator[str]:
    """A card as a person reads it: the question, the options with their effects, how to answer."""
    count = f" · {card['count']} units" if card["count"] > 1 else ""
    age = say.ago(card["since"], now)
    yield f"  {say.paint(card['id'], 'cyan')}  " + say.paint(f"{card['kind']}{count} · {age}", "dim")
    yield from (say.paint(each, "bold") for each in say.wrap(card["question"], indent="      ", room=say.columns()))
    yield from say.table(
        [(option["key"], option["label"], option["effect"]) for option in card["options"]], indent="      "
    )
    first = card.get("recommended") or (card["options"][0]["key"] if card["options"] else '"…"')
    due = f"   (by itself {card['default']} at {say.moment(card['deadline'], now)})" if card["deadline"] else ""
    yield say.paint(f"      factory answer {card['id']} {first}{due}", "dim")


def _section(title: str, rows: Sequence[Sequence[str]]) -> Iterator[str]:
    if rows:
        yield ""
        yield say.paint(title, "bold")
        yield from say.table(rows[:MOST], most=24)
        yield from _more(rows, MOST)


def _more(rows: Sequence[object], shown: int) -> Iterator[str]:
    if len(rows) > shown:
        yield f"  … and {len(rows) - shown} more (factory status --json has all)"


def _moving(worker: Seen, now: datetime, title: Mapping[str, str]) -> Sequence[str]:
    go = f"{worker['phase'] or worker['state']} {say.ago(worker['since'], now)}"
    attempt = f"attempt {worker['attempt']}, {worker['agent']}"
    return worker["name"], worker["unit"], go, attempt, title.get(worker["unit"], "")


def _waiting(seen: Seen, now: datetime) -> list[Sequence[str]]:
    asked = {card["unit"] for card in seen["escalations"]}
    return [
        (unit["id"], f"{unit['state']} {say.ago(unit['since'], now)}", unit["why"] or unit["title"])
        for unit in seen["units_open"]
        if unit["state"] in ("waiting", "ready", "held") and unit["id"] not in asked
    ]
