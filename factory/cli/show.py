"""One unit or card, with all that is known of it: what it is, what it changes, and why it is where it is."""

import os
import sqlite3
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from factory.cli import log, place, say, status
from factory.ground.errors import FactoryError, UsageError
from factory.store import views
from factory.store.views import Json


def show(args: Namespace) -> int:
    """One unit (state, attempts, verdicts, what is kept) or one card (question, evidence, options).

    factory show fix-login
    factory show fix-login --prompt    what its last attempt was told
    factory show fix-login --json
    factory show E7            a card, with its evidence
    """
    now = datetime.now(UTC)
    with place.store(place.root()) as con:
        card = None if views.show(con, args.id) else views.card(con, args.id.upper())
        seen = card or place.unit(con, args.id)
    if args.prompt:
        print(_prompt(seen), end="")
    elif args.json:
        print(say.as_json(seen))
    else:
        print("\n".join(_card(seen, now) if card else _unit(seen, now)))
    return 0


def why(args: Namespace) -> int:
    """The causal chain of a unit: why it is where it is, what it waits for, and what led there.

    factory why fix-login
    """
    with place.store(place.root()) as con:
        for text in _chain(con, place.unit(con, args.id)):
            print(text)
    return 0


def diff(args: Namespace) -> int:
    """What a unit changes: its commit on trunk, what is queued, or what its newest attempt left.

    factory diff fix-login
    factory diff fix-login --attempt 2     what that attempt left, also of a unit that has ended
    factory diff fix-login | git apply     exact bytes when piped
    """
    from pathlib import Path  # here, for the other two commands do without all this

    import anyio

    from factory.repo.git import Git

    top = place.root()
    with place.store(top) as con:
        base, commit = _ends(place.unit(con, args.id), args.attempt)
    own = Git(git_dir=Path(place.within(top, "git")), own=True, environ=dict(os.environ))
    patch = anyio.run(
        own.run, "diff-tree", "-p", "-M", "--no-ext-diff", "--no-textconv", base, commit
    ).out
    if not patch:
        print(f"{args.id}: nothing was changed", file=sys.stderr)
    elif sys.stdout.isatty():
        print(say.clean(patch.decode(errors="replace")), end="")
    else:
        sys.stdout.buffer.write(patch)
    return 0


def _card(card: Json, now: datetime) -> Iterator[str]:
    yield from status.card_lines(card, now)
    if card["state"] != "open":
        yield f"      closed: {say.line(card['answer'] or card['closed_why'])}"
    if card["units"]:
        yield f"      stops: {', '.join(card['units'])}"
    if card["where"]:
        yield f"      read: {say.line(card['where'])}"
    if card["evidence"]:
        yield f"\n{say.clean(card['evidence'])}"


def _unit(unit: Json, now: datetime) -> Iterator[str]:
    yield say.paint(say.line(unit["title"]), "bold")
    yield f"{unit['id']} · {unit['state']} {say.ago(unit['since'], now)}"
    yield from say.wrap(unit["why"], indent="  ")
    if unit["commit"]:
        yield f"commit {unit['commit']}" + (
            "" if unit["on_trunk"] else " (trunk has been rewritten since: not on it)"
        )
    yield from say.section("ATTEMPTS", [_attempt(attempt, now) for attempt in unit["attempts"]])
    yield from say.section(
        "KEPT", [_kept(attempt) for attempt in unit["attempts"] if attempt["end"]]
    )
    yield from _left_out(unit["attempts"])
    yield from say.section("VERDICTS", [_verdict(verdict) for verdict in unit["verdicts"]])


def _attempt(attempt: Json, now: datetime) -> tuple[str, ...]:
    tokens = attempt["tokens"]
    spent = f"{tokens['input']}+{tokens['output']} tokens" if any(tokens.values()) else ""
    # What it did not tell is charged as it was held back.
    charged = max(attempt["cost_usd"], attempt["reserved_usd"] if attempt["end"] else 0)
    about = "≈ " if attempt["estimated"] or charged > attempt["cost_usd"] else ""
    cost = f" {about}${charged:.2f}" if charged else ""
    started = say.moment(attempt["start"], now)
    reason = attempt["reason"] or "running"
    return (
        str(attempt["number"]),
        started,
        attempt["agent"],
        reason,
        spent + cost,
        attempt["detail"],
    )


def _left_out(attempts: Sequence[Json]) -> Iterator[str]:
    """The paths that git could not take, whole: a reader looks for them in the agent's words."""
    rows = [(attempt["number"], path) for attempt in attempts for path in attempt["left_out"]]
    if rows:
        yield ""
        yield say.paint("LEFT OUT (git takes no such path, or could not read it)", "bold")
        yield from (f"  {number}  {say.line(path)}" for number, path in rows)


def _verdict(verdict: Json) -> tuple[str, ...]:
    ok, kept = "green" if verdict["ok"] else "red", "kept" if verdict["cached"] else ""
    return ok, verdict["gate"], verdict["tree"][:10], say.lasted(verdict["seconds"]), kept


def _chain(con: sqlite3.Connection, unit: Json) -> Iterator[str]:
    because = f": {unit['why']}" if unit["why"] else ""
    yield from say.wrap(f"{unit['id']} is {unit['state']}{because}")
    if unit["state"] == "landed" and not unit["on_trunk"]:
        again = f"again: factory retry {unit['id']}"
        yield f"  trunk was rewritten and does not hold {unit['commit'][:10]} any more; {again}"
    yield from _needs(con, unit)
    if unit["state"] == "ready" and views.fact(con, "paused"):
        yield "  the line is paused: factory resume"
    for card in unit["escalations"]:
        if card["state"] == "open":
            yield f"  {card['id']} waits for your answer: factory show {card['id']}"
    yield ""
    for entry in views.log(con, unit=unit["id"]):
        yield from log.told(entry, of_one=True)


def _needs(con: sqlite3.Connection, unit: Json) -> Iterator[str]:
    what = "its part" if unit["state"] == "split" else "needs"
    for name in unit["needs"]:
        need = views.show(con, name)
        if need is None:
            yield f"  {what} {say.line(name)}, which is no unit{place.meant(con, name)}"
        elif need["state"] != "landed":
            because = f" ({say.line(need['why'])})" if need["why"] else ""
            yield f"  {what} {name}, which is {need['state']}{because}: factory why {name}"


def _ends(unit: Json, number: str | None) -> tuple[str, str]:
    attempts = [(attempt["base"], attempt["commit"]) for attempt in reversed(unit["attempts"])]
    ends = [(f"{unit['commit']}^", unit["commit"]), (unit["base"], unit["submission"]), *attempts]
    if number is not None:
        ends = [
            (each["base"], each["commit"])
            for each in unit["attempts"]
            if str(each["number"]) == number
        ]
        if not ends:
            numbers = ", ".join(str(each["number"]) for each in unit["attempts"])
            raise UsageError(
                f"{unit['id']} has no attempt {number}; it has {numbers or 'none yet'}"
            )
    for base, commit in ends:
        if commit:
            return base, commit
    if number is not None:
        raise FactoryError(
            f"attempt {number} of {unit['id']} left no tree.\n  what is kept: factory show {unit['id']}"
        )
    raise FactoryError(
        f"{unit['id']} has changed nothing yet: no attempt of it has ended with a tree."
    )


def _kept(attempt: Json) -> tuple[str, ...]:
    """Where the tree of an attempt is, and what else is left of it."""
    kind, _, month = attempt["ref"].removeprefix("refs/factory/").partition("/")
    held = {"attempts": "ref", "archive": f"archive {month}"}.get(kind, "no tree")
    tree = f"tree {attempt['tree'][:10]}" if attempt["tree"] else ""
    folder = attempt["run_dir"] if os.path.isdir(attempt["run_dir"]) else "run dir pruned"  # noqa: PTH112
    return str(attempt["number"]), held, attempt["commit"][:10], tree, folder


def _prompt(seen: Json) -> str:
    for attempt in reversed(
        seen.get("attempts") or []
    ):  # the last may have ended before it was told anything
        with suppress(OSError), open(f"{attempt['run_dir']}/prompt.md", encoding="utf-8") as file:  # noqa: PTH123
            return say.clean(file.read())
    raise FactoryError(f"of {seen['id']} there is no prompt: not begun yet, pruned, or a card")
