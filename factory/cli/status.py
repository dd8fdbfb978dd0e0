"""Prints the screen: cards, running units, the queue, waiting units, the last landings.

Invariant: imports very little, because people type `factory status` often and scripts call it in
loops.
"""

import re
import sys
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from datetime import datetime

from factory.cli import place, say
from factory.store import rows, views
from factory.store.states import UnitState

MOST = 8  # most rows of one section
ENDED = "ENDED; THE NEXT START PROCESSES THEM"
WHOLE = 3  # number of cards shown with their options
STILL = (UnitState.WAITING, UnitState.READY, UnitState.HELD)
CLEAR = "\x1b[H\x1b[J"


def status(args: Namespace) -> int:
    """Shows open cards, running, queued and waiting units, and the last landings."""
    top = place.root()
    with place.store(top) as con:
        while True:
            seen = views.status(con, views.now_text())
            shown = say.as_json(seen) if args.json else "\n".join(_screen(seen, top))
            if args.watch and sys.stdout.isatty():
                shown = CLEAR + shown
            print(shown, flush=True)
            if not args.watch:
                return 0
            time.sleep(1)


def card_lines(card: rows.Escalation, now: datetime) -> Iterator[str]:
    """Yield a card as a person reads it: the question, options with effects, how to answer."""
    first = f"{say.paint(card.id, 'cyan')}  {say.paint(card.kind, 'dim')}"
    more = filter(None, (_about(card), say.ago(card.since, now)))
    yield from say.joined([first, *(say.paint(part, "dim") for part in more)], indent="  ")
    for line in say.wrap(card.question, indent="      "):
        yield say.paint(line, "bold")
    yield from _options(card.options)
    due = ""
    if card.deadline:
        due = f"   (by itself {card.default} at {say.moment(card.deadline, now)})"
    yield say.paint(f"      factory answer {card.id} {_likely_answer(card)}{due}", "dim")


def _about(card: rows.Escalation) -> str:
    """Return how many units the card stops; for one unit, its name unless the question has it."""
    if card.count > 1:
        return f"{card.count} units"
    if not card.units or card.units[0] in re.findall(r"[\w-]+", card.question):
        return ""
    return say.line(card.units[0])


def _likely_answer(card: rows.Escalation) -> str:
    if card.recommended:
        return card.recommended
    return card.options[0].key if card.options else '"…"'


def _options(options: Sequence[rows.Choice]) -> Iterator[str]:
    """Yield labels and effects in full, because a person needs them; in columns if they fit."""
    cells = [(option.key, option.label, option.effect) for option in options]
    aligned = say.table(cells, indent="      ", room=say.columns() or say.COLUMNS)
    if "…" not in "".join(aligned) and len(aligned) == len(cells):
        yield from aligned
        return
    for option in options:
        text = ": ".join(filter(None, (option.label, option.effect)))
        head, *more = say.wrap(text, indent=" " * 9)
        yield f"      {option.key:<3}{head[9:]}"
        yield from more


def _screen(seen: rows.Status, top: str) -> Iterator[str]:
    now = datetime.fromisoformat(seen.at)
    left = _left_in_inbox(seen, top)
    yield from _head(seen, left)
    for note in place.which_inbox(top, seen.inbox):
        yield from say.wrap(note)
    if left and seen.daemon.state == "stopped":
        text = f"task files in {seen.inbox}/, accepted by the next start: {left}"
        yield say.paint(text, "yellow")
    step = _next_step(seen, left)
    yield from _cards(seen.escalations, now, is_calm=not step)
    yield from _section("MOVING", _moving(seen, now))
    yield from command_lines(seen.running, seen.trunk.branch or "trunk", now)
    yield from _section(ENDED, _ended(seen))
    yield from _section("QUEUE", _queue(seen))
    yield from _section("WAITING", _waiting(seen, now))
    yield from _rejected(seen)
    yield from _section("LANDED LAST", [_landed(unit, now) for unit in seen.last_landed])
    more = seen.units[UnitState.LANDED] - len(seen.last_landed)
    if seen.last_landed and more > 0:
        yield f"  … and {more} more (factory log has all)"
    yield from _foot(seen)
    if step:
        yield ""
        yield from step


def command_lines(commands: Sequence[rows.Command], branch: str, now: datetime) -> Iterator[str]:
    """Yield the setups and gates that run now, each with the last line of its output."""
    if not commands:
        return
    yield ""
    yield say.paint("SETUP AND GATES", "bold")
    for command in commands[:MOST]:
        about, lasts = what_runs(command, now)
        name = say.line(command.name)
        yield from say.joined([command.unit or branch, about, lasts, name], indent="  ")
        if command.said:
            yield say.paint("    " + say.clip(command.said, (say.columns() or 200) - 4), "dim")
    yield from _more(commands)


def what_runs(command: rows.Command, now: datetime) -> tuple[str, str]:
    """Return what runs, and for how long; with the usual time, if it is known."""
    lasts = say.ago(command.since, now)
    if command.usual_s is not None:
        lasts += f", usually {say.lasted(command.usual_s)}"
    elif command.what == "setup":
        lasts += ", first time"
    if command.step is None:
        return "gate", lasts
    return f"setup {command.step} of {command.steps}", lasts


def _left_in_inbox(seen: rows.Status, top: str) -> int:
    """Return the number of task files in the inbox; 0 if the daemon runs, because it takes them."""
    if seen.daemon.state != "stopped" and any(seen.units.values()):
        return 0
    return place.task_files(f"{top}/{seen.inbox}")


def _head(seen: rows.Status, left: int) -> Iterator[str]:
    state = seen.daemon.state + (", paused" if seen.paused else "")
    style = "green" if state == "running" else "yellow"
    parts = [f"{say.paint('factoryd', 'bold')} {say.paint(state, style)}"]
    if seen.daemon.state == "stopped":
        parts.append("start it: factoryd start")
    else:
        busy = [worker for worker in seen.workers if worker.unit]
        parts.append(f"{len(busy)} of {len(seen.workers)} workers busy")
    trunk = seen.trunk
    if trunk.commit:
        parts.append(f"{say.line(trunk.branch or '')} {trunk.commit[:10]} {trunk.state}")
    yield from say.joined(parts)
    numbers = [f"{count} {state}" for state, count in seen.units.items() if count]
    for text in say.joined(numbers or [_no_units(seen.inbox, left)]):
        yield say.paint(text, "dim")


def _no_units(inbox: str, left: int) -> str:
    if left:
        return f"no units yet: the daemon is reading {inbox}/"
    return f"no units yet: drop a task file into {inbox}/"


def _next_step(seen: rows.Status, left: int) -> list[str]:
    """Return the one command that helps most now, and why; nothing if nothing needs a person."""
    asking = _asking(seen.escalations)
    if seen.daemon.state == "stopped" and (left or seen.units_open or asking):
        return _step("factoryd start", "until then nothing moves")
    if asking:
        more = f"; {len(asking) - 1} more after it" if len(asking) > 1 else ""
        return _step(f"factory show {asking[0].id}", f"the evidence, before you answer{more}")
    if seen.paused and seen.units_open:
        return _step("factory resume", "the line is paused, and nothing new starts")
    if seen.rejected:
        from shlex import quote  # needed only now

        path = quote(f"{seen.inbox}/rejected/{say.line(seen.rejected[0].file)}")
        return _step(f"factory check {path}", f"once it is correct, move it into {seen.inbox}/")
    for unit in seen.last_landed:
        if not unit.on_trunk:
            return _step(f"factory retry {unit.unit}", "trunk has lost its commit")
    return []


def _step(command: str, why: str) -> list[str]:
    text = f"next: {say.paint(command, 'bold')}"
    room = say.columns()
    if room is None or say.width(f"next: {command}  ({why})") <= room:
        return [f"{text}  {say.paint(f'({why})', 'dim')}"]
    below = say.wrap(f"({why})", indent="      ")
    return [text, *(say.paint(part, "dim") for part in below)]


def _cards(cards: Sequence[rows.Escalation], now: datetime, *, is_calm: bool) -> Iterator[str]:
    yield ""
    for card in cards:
        if card.answer:  # a person answered it, but its cause still exists
            begin = f"  {card.id}  "
            said = say.wrap(f"{card.kind}: you said “{card.answer}”", indent=" " * len(begin))
            for part in (begin + said[0].lstrip(), *said[1:]):
                yield say.paint(part, "dim")
    asking = _asking(cards)
    if not asking:
        if is_calm:
            yield say.paint("Nothing needs you.", "green")
        else:
            yield "No question is open."
        return
    yield say.paint("NEEDS YOU", "bold")
    for card in asking[:WHOLE]:
        yield from card_lines(card, now)
    rest = asking[WHOLE:]
    yield from say.table([(card.id, card.kind, card.question) for card in rest[:MOST]])
    yield from _more(rest)
    if rest:
        yield say.paint(f"  each with its options: factory show {rest[0].id}", "dim")


def _asking(cards: Sequence[rows.Escalation]) -> list[rows.Escalation]:
    return [card for card in cards if not card.answer]


def _moving(seen: rows.Status, now: datetime) -> list[Sequence[str]]:
    titles = _titles(seen)
    found: list[Sequence[str]] = []
    for worker in seen.workers:
        if worker.unit and worker.alive:
            doing = f"{worker.phase or worker.state} {say.ago(worker.since, now)}"
            title = titles.get(worker.unit, "")
            found.append((worker.name, worker.unit, doing, _attempt_of(worker), title))
    return found


def _ended(seen: rows.Status) -> list[Sequence[str]]:
    found: list[Sequence[str]] = []
    for worker in seen.workers:
        if worker.unit and not worker.alive:
            found.append((worker.unit, _attempt_of(worker)))
    return found


def _attempt_of(worker: rows.Worker) -> str:
    return f"attempt {worker.attempt}, {worker.agent}"


def _queue(seen: rows.Status) -> list[Sequence[str]]:
    titles = _titles(seen)
    found: list[Sequence[str]] = []
    for queued in seen.queue:
        is_moving = queued.state in ("judging", "landing")
        title = titles[queued.unit]
        what = title if is_moving else queued.why or title
        found.append((str(queued.position), queued.unit, queued.state, what))
    return found


def _titles(seen: rows.Status) -> dict[str, str]:
    return {unit.id: unit.title for unit in seen.units_open}


def _waiting(seen: rows.Status, now: datetime) -> list[Sequence[str]]:
    """Return the stopped units, except units that are shown above in a full card."""
    asked = set()
    for card in _asking(seen.escalations)[:WHOLE]:
        if len(card.units) == 1:
            asked.add(card.units[0])
    found: list[Sequence[str]] = []
    for unit in seen.units_open:
        if unit.state in STILL and unit.id not in asked:
            state = f"{unit.state} {say.ago(unit.since, now)}"
            found.append((unit.id, state, unit.why or unit.title))
    return found


def _landed(unit: rows.Landed, now: datetime) -> Sequence[str]:
    gone = "" if unit.on_trunk else f"not on trunk any more; again: factory retry {unit.unit}"
    return unit.commit[:10], unit.unit, f"{say.ago(unit.at, now)} ago", gone


def _rejected(seen: rows.Status) -> Iterator[str]:
    shown = [(file.file, file.why) for file in seen.rejected[:MOST]]
    yield from say.section("REJECTED", shown)
    more = seen.rejected_count - len(shown)
    if more > 0:
        yield f"  … and {more} more (in {seen.inbox}/rejected/)"


def _section(heading: str, found: Sequence[Sequence[str]]) -> Iterator[str]:
    yield from say.section(heading, found[:MOST])
    yield from _more(found)


def _more(found: Sequence[object]) -> Iterator[str]:
    if len(found) > MOST:
        yield f"  … and {len(found) - MOST} more (factory status --json has all)"


def _foot(seen: rows.Status) -> Iterator[str]:
    yield ""
    if seen.budget:
        for text in say.joined(_spending(seen.budget)):
            yield say.paint(text, "dim")
    notes = list(seen.warnings[:MOST])
    if seen.sandbox and seen.sandbox.says:
        notes.append(seen.sandbox.says)
    if not seen.budget:
        notes.append("no spending limit set (budget.day_usd)")
    for note in notes:
        for line in say.wrap(f"! {note}"):
            yield say.paint(line, "yellow")
    yield from _more(seen.warnings)


def _spending(budget: rows.Budget) -> Iterator[str]:
    """Yield what is spent and held back today, and the limits."""
    about = "≈" if budget.estimated else ""
    if budget.day_usd or not (budget.day_tokens or budget.day_minutes):
        spent = f"{about}{_usd(budget.spent_usd)}"
        yield _of_today(budget, spent, _usd(budget.reserved_usd), _usd(budget.day_usd))
    if budget.day_tokens:
        held = _tokens(budget.reserved_tokens)
        yield _of_today(budget, _tokens(budget.spent_tokens), held, _tokens(budget.day_tokens))
    if budget.day_minutes:
        held = _minutes(budget.reserved_minutes)
        yield _of_today(budget, _minutes(budget.spent_minutes), held, _minutes(budget.day_minutes))
    limits = (_usd(budget.unit_usd), _tokens(budget.unit_tokens), _minutes(budget.unit_minutes))
    of_unit = " and ".join(filter(None, limits))
    if of_unit:
        yield f"a unit may use {of_unit}"


def _of_today(budget: rows.Budget, spent: str, held: str, cap: str) -> str:
    of = f" of {cap}" if cap else ""
    rest = ", no limit today, by your answer" if budget.regardless else ""
    return f"today {spent}{of} spent, {held} held back{rest}"


def _usd(value: float | None) -> str:
    return "" if value is None else f"${value:.2f}"


def _tokens(value: int | None) -> str:
    return "" if value is None else f"{value:,} tokens"


def _minutes(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f} minutes"
