"""Shows one unit or card: what it is, what it changes, and why it is in its state."""

import os
import sqlite3
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from factory.cli import log, named, place, say, status
from factory.ground.errors import FactoryError, UsageError
from factory.store import list_rows, rows, unit_rows, unit_views, views
from factory.store.spending import charge
from factory.store.states import FINAL, UnitState


def show(args: Namespace) -> int:
    """Shows a unit with its attempts, or a card with its evidence and options."""
    with place.store(place.root()) as con:
        card = None if unit_views.has_unit(con, args.id) else views.card(con, args.id.upper())
        unit = None if card else named.the_unit(con, args.id)
    now = datetime.now(UTC)
    if args.prompt:
        print(_prompt(card.id if card else args.id, unit), end="")
    elif card and args.json:
        print(say.as_json(rows.ShownCard(schema=rows.VERSION, **vars(card))))
    elif card:
        print("\n".join(_card(card, now)))
    elif args.json:
        print(say.as_json(unit))
    elif unit:
        print("\n".join(_unit(unit, now)))
    return 0


def why(args: Namespace) -> int:
    """Shows why a unit is in its state, what it waits for, and what led there."""
    with place.store(place.root()) as con:
        unit = named.the_unit(con, args.id)
        if args.json:
            print(say.as_json(_why(con, unit)))
            return 0
        for text in _chain(con, unit):
            print(text)
    return 0


def diff(args: Namespace) -> int:
    """Shows the change of a unit."""
    from pathlib import Path  # imported here, because the other two commands do not need them

    import anyio

    from factory.repo.git import Git

    top = place.root()
    with place.store(top) as con:
        base, commit = _ends(named.the_unit(con, args.id), args.attempt)
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


# ── a card ──


def _card(card: rows.Card, now: datetime) -> Iterator[str]:
    yield from status.card_lines(card, now)
    if card.state != "open":
        yield f"      closed: {say.line(card.answer or card.closed_why)}"
    if card.units:
        yield f"      stops: {', '.join(card.units)}"
    if card.where:
        yield f"      read: {say.line(card.where)}"
    if card.evidence:
        yield f"\n{say.clean(card.evidence)}"


# ── a unit ──


def _unit(unit: unit_rows.Unit, now: datetime) -> Iterator[str]:
    yield say.paint(say.line(unit.title), "bold")
    yield f"{unit.id} · {unit.state} {say.ago(unit.since, now)}"
    yield from say.wrap(unit.why, indent="  ")
    yield from _clash(unit)
    if unit.commit:
        gone = "" if unit.on_trunk else " (trunk has been rewritten since: not on it)"
        yield f"commit {unit.commit}{gone}"
    kept = [_kept(attempt) for attempt in unit.attempts if attempt.end]
    yield from say.section("ATTEMPTS", [_attempt(attempt, now) for attempt in unit.attempts])
    yield from say.section("KEPT", kept)
    yield from _left_out(unit.attempts)
    yield from say.section("VERDICTS", [_verdict(verdict) for verdict in unit.verdicts])


def _attempt(attempt: unit_rows.Attempt, now: datetime) -> Sequence[str]:
    return (
        str(attempt.number),
        say.moment(attempt.start, now),
        attempt.agent,
        attempt.reason or "running",
        _used(attempt),
        attempt.detail,
    )


def _clash(unit: unit_rows.Unit) -> Iterator[str]:
    """Yield which landed unit the last change does not fit, if `why` does not say so already."""
    if unit.state in FINAL:
        return
    for attempt in unit.attempts[-2:]:  # the newest one may still run
        if attempt.clashes and attempt.detail not in unit.why:
            yield from say.wrap(f"attempt {attempt.number}: {attempt.detail}", indent="  ")


def _used(attempt: unit_rows.Attempt) -> str:
    tokens = attempt.tokens
    used = f"{tokens.input}+{tokens.output} tokens" if tokens.input or tokens.output else ""
    # If usage was not reported, the reservation is charged.
    charged = charge(attempt.cost_usd, attempt.reserved_usd) if attempt.end else attempt.cost_usd
    if not charged:
        return used
    about = "≈ " if attempt.estimated or charged > attempt.cost_usd else ""
    return f"{used} {about}${charged:.2f}"


def _kept(attempt: unit_rows.Attempt) -> Sequence[str]:
    """Return where the tree of an attempt is, and which other files of the attempt are left."""
    kind, _, rest = attempt.ref.removeprefix("refs/factory/").partition("/")
    held = {"attempts": "ref", "archive": f"archive {rest}"}.get(kind, "no tree")
    tree = f"tree {attempt.tree[:10]}" if attempt.tree else ""
    is_there = os.path.isdir(attempt.run_dir)  # noqa: PTH112
    folder = attempt.run_dir if is_there else "run dir pruned"
    return str(attempt.number), held, attempt.commit[:10], tree, folder, ""


def _left_out(attempts: Sequence[unit_rows.Attempt]) -> Iterator[str]:
    """Yield the paths that git could not take, in full, so that a person can search for them."""
    found = []
    for attempt in attempts:
        for path in attempt.left_out:
            found.append(f"  {attempt.number}  {say.line(path)}")
    if found:
        yield ""
        yield say.paint("LEFT OUT (git does not accept or could not read these paths)", "bold")
        yield from found


def _verdict(verdict: unit_rows.Verdict) -> Sequence[str]:
    answer = "green" if verdict.ok else "red"
    kept = "kept" if verdict.cached else ""
    return answer, verdict.gate, verdict.tree[:10], say.lasted(verdict.seconds), kept


def _prompt(name: str, unit: unit_rows.Unit | None) -> str:
    attempts = unit.attempts if unit else ()
    for attempt in reversed(attempts):  # the last attempt may have ended before it got a prompt
        path = f"{attempt.run_dir}/prompt.md"
        with suppress(OSError), open(path, encoding="utf-8") as file:  # noqa: PTH123
            return say.clean(file.read())
    raise FactoryError(f"of {name} there is no prompt: not begun yet, pruned, or a card")


# ── why ──


def _chain(con: sqlite3.Connection, unit: unit_rows.Unit) -> Iterator[str]:
    because = f": {unit.why}" if unit.why else ""
    yield from say.wrap(f"{unit.id} is {unit.state}{because}")
    if unit.state == UnitState.LANDED and not unit.on_trunk:
        again = f"again: factory retry {unit.id}"
        yield f"  trunk was rewritten and does not hold {unit.commit[:10]} any more; {again}"
    yield from _clash(unit)
    what = "fail on trunk" if _is_unproven(unit) else "pass on the change"
    for accept in _accept(con, unit):
        within = say.lasted(int(accept.limit_s))
        yield f"  accept must {what}, within {within}: `{say.line(accept.command)}`"
    yield from _needs(con, unit)
    for card in _open_cards(unit):
        yield f"  {card} waits for your answer: factory show {card}"
    yield ""
    for entry in unit_views.log(con, unit=unit.id):
        yield from log.told(entry, of_one=True)


def _why(con: sqlite3.Connection, unit: unit_rows.Unit) -> list_rows.Why:
    return list_rows.Why(
        schema=rows.VERSION,
        unit=unit.id,
        state=unit.state,
        since=unit.since,
        why=unit.why,
        on_trunk=unit.on_trunk,
        accept=_accept(con, unit),
        needs=[*_missing(con, unit)],
        cards=_open_cards(unit),
        events=[*unit_views.log(con, unit=unit.id)],
    )


def _accept(con: sqlite3.Connection, unit: unit_rows.Unit) -> list[list_rows.Accept]:
    """Return the accept commands that must still run, each with its time limit."""
    if unit.state in FINAL:
        return []
    commands = unit_views.accept_commands(con, unit.id)
    if not commands:
        return []
    from factory.judging.measured import PROOF_SECONDS, time_limit

    setting = (views.settings(con) or {}).get("gates.timeout_s")
    found = []
    for command, runs in commands.items():
        limit = setting.value if setting else 0
        if not limit and _is_unproven(unit) and not runs:
            limit = PROOF_SECONDS
        limit = limit or time_limit(runs, runs=0)
        found.append(list_rows.Accept(command=command, limit_s=limit))
    return found


def _is_unproven(unit: unit_rows.Unit) -> bool:
    """Whether the accept commands must still fail on trunk."""
    return not unit.proven and "accept" not in unit.approved


def _open_cards(unit: unit_rows.Unit) -> list[str]:
    return [card.id for card in unit.escalations if card.state == "open"]


def _needs(con: sqlite3.Connection, unit: unit_rows.Unit) -> Iterator[str]:
    what = "its part" if unit.state == UnitState.SPLIT else "needs"
    for need in _missing(con, unit):
        if need.state is None:
            meant = named.meant(con, need.unit, own=unit.id)
            yield f"  {what} {say.line(need.unit)}, which is no unit{meant}"
        else:
            because = f" ({say.line(need.why)})" if need.why else ""
            yield f"  {what} {need.unit}, which is {need.state}{because}: factory why {need.unit}"


def _missing(con: sqlite3.Connection, unit: unit_rows.Unit) -> Iterator[list_rows.Need]:
    """Yield what the unit needs, or its parts, if they have not landed."""
    for name in unit.needs:
        need = unit_views.show(con, name)
        if need is None:
            yield list_rows.Need(unit=name, state=None, why="")
        elif need.state != UnitState.LANDED:
            yield list_rows.Need(unit=name, state=need.state, why=need.why)


# ── what it changes ──


def _ends(unit: unit_rows.Unit, number: str | None) -> tuple[str, str]:
    """Return the two commits to compare; raise FactoryError if there are none."""
    if number is not None:
        return _ends_of_attempt(unit, number)
    ends = [(f"{unit.commit}^", unit.commit), (unit.base, unit.submission)]
    for attempt in reversed(unit.attempts):
        ends.append((attempt.base, attempt.commit))
    for base, commit in ends:
        if commit:
            return base, commit
    raise FactoryError(f"{unit.id} has changed nothing yet: none of its attempts has left a tree.")


def _ends_of_attempt(unit: unit_rows.Unit, number: str) -> tuple[str, str]:
    by_number = {str(attempt.number): attempt for attempt in unit.attempts}
    attempt = by_number.get(number)
    if attempt is None:
        numbers = ", ".join(by_number)
        raise UsageError(f"{unit.id} has no attempt {number}; it has {numbers or 'none yet'}")
    if not attempt.commit:
        kept = f"what is kept: factory show {unit.id}"
        raise FactoryError(f"attempt {number} of {unit.id} left no tree.\n  {kept}")
    return attempt.base, attempt.commit
