"""One unit (state, attempts, verdicts) or one card (question, evidence, options), with all that is known of it.

factory show fix-login
factory show fix-login --json
factory show E7            a card, with its evidence
"""

import json
from argparse import Namespace
from collections.abc import Iterator
from datetime import datetime

from factory.cli import place, say, status
from factory.cli.place import Seen
from factory.stores import views


def run(args: Namespace) -> int:
    """Print it."""
    now = place.now()
    with place.store(place.root()) as con:
        card = None if views.show(con, args.id) else views.card(con, args.id.upper())
        seen = card or place.unit(con, args.id)
    if args.json:
        print(json.dumps(seen, ensure_ascii=False))
    else:
        print("\n".join(_card(seen, now) if card else _unit(seen, now)))
    return 0


def _card(card: Seen, now: datetime) -> Iterator[str]:
    yield from status.card_lines(card, now)
    if card["state"] != "open":
        yield f"      closed: {say.line(card['answer'] or card['closed_why'])}"
    if card["units"]:
        yield f"      stops: {', '.join(card['units'])}"
    if card["where"]:
        yield f"      read: {say.line(card['where'])}"
    if card["evidence"]:
        yield ""
        yield say.clean(card["evidence"])


def _unit(unit: Seen, now: datetime) -> Iterator[str]:
    yield say.paint(say.line(unit["title"]), "bold")
    yield f"{unit['id']} · {unit['state']} {say.ago(unit.get('since'), now)}".rstrip()
    if unit.get("why"):
        yield from say.wrap(unit["why"], indent="  ", room=say.columns())
    if unit["commit"]:
        yield f"commit {unit['commit']}" + ("" if unit["on_trunk"] else " (trunk has been rewritten since: not on it)")
    yield from _table("ATTEMPTS", [_attempt(attempt, now) for attempt in unit["attempts"]])
    yield from _table("VERDICTS", [_verdict(verdict) for verdict in unit["verdicts"]])


def _table(title: str, rows: list[tuple[str, ...]]) -> Iterator[str]:
    if rows:
        yield ""
        yield say.paint(title, "bold")
        yield from say.table(rows)


def _attempt(attempt: Seen, now: datetime) -> tuple[str, ...]:
    tokens = attempt["tokens"]
    spent = f"{tokens['input']}+{tokens['output']} tokens" if any(tokens.values()) else ""
    cost = f"${attempt['cost_usd']:.2f}" if attempt["cost_usd"] else ""
    reason = attempt["reason"] or "running"
    started = say.moment(attempt["start"], now)
    return str(attempt["number"]), started, attempt["agent"], reason, " ".join([spent, cost]), attempt.get("detail", "")


def _verdict(verdict: Seen) -> tuple[str, ...]:
    ok = "green" if verdict["ok"] else "red"
    return (
        ok,
        verdict["gate"],
        verdict["tree"][:10],
        say.lasted(verdict["seconds"]),
        "kept" if verdict["cached"] else "",
    )
