"""The demo: a real line on a small shop in a temporary folder, with a scripted agent.

Invariant: no process of the demo is left, whether it succeeds, fails or gets a Ctrl-C.
"""

import os
import re
import shlex
import shutil
import signal
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import chdir, contextmanager
from pathlib import Path

import anyio

from factory.child import process
from factory.cli import life, main, named, place, say, scratch
from factory.demo import apprentice, shop
from factory.ground.errors import FactoryError
from factory.store import rows, unit_rows, unit_views, views

PATIENCE_S = 120.0  # seconds for all tasks together
QUIET_S = 1.0  # seconds without a new event before a terminal shows the progress
POLL_S = 0.1
LEAVE_S = 60.0  # seconds that the daemon may take to stop
INTERRUPTED = 130
BIN = Path(sys.executable).parent
PROGRAMS = {"factory": main.factory, "factoryd": main.factoryd}

INTRODUCTION = """\
factoryd demo: {tasks} tasks for a small shop, done by agents, landed on main.

  factoryd, the git repository and its tests are real.
  The agent is a script that knows these tasks by heart: no model, no network.
  The answers that you would give are typed for you.

It takes about 15 seconds. Ctrl-C stops it. Its folder {keeps}:
{folder}
"""
QUESTION = (
    "Card E1 is an agent's question. No worker waits for your answer: all other tasks",
    "go on. (The two agents at work are scripted to wait here, so that you see them.)",
    "You would answer with a number, or in your own words:",
    "",
)
GOODBYE = (
    "The demo is over, and its folder is removed. To keep it and look around:",
    "",
    "    factoryd demo --keep",
    "",
    "To begin in your own repository, run this in it:",
    "",
    "    factoryd start",
)
PLAIN = ""
ENDS = {  # words and style for the end of an attempt
    "submitted": ("is finished, and is judged now", PLAIN),
    "asked": ("asks you a question, and frees its worker", "yellow"),
    "gate_red": ("does not land", "red"),
    "not_proven": ("does not land", "red"),
    "conflict": ("does not land", "red"),
}
FAILURE = re.compile(r"(FAIL|ERROR): |\w*Error\b")
MARGIN = " " * 25


def demo(args: Namespace) -> int:
    """Shows factoryd at work on a small shop, with a scripted agent."""
    on_path = shutil.which("factory") == str(BIN / "factory")
    folder, kept = Path(), False
    with _interruptible():
        try:
            with life.interrupts_held():
                folder = Path(tempfile.mkdtemp(prefix="factoryd-demo-")).resolve()
            entering = _entering(folder / "shop", on_path=on_path)
            say_lines(_introduction(folder, keep=args.keep))
            with _environment(folder):
                good = _show(folder / "shop", entering)
            kept = args.keep
        except KeyboardInterrupt:
            say_lines("", "The demo is stopped, and its folder is removed.")
            raise
        finally:
            _clean_up(folder, kept=kept)
    say_lines(*(_looking_around(folder, entering) if kept else GOODBYE))
    return 0 if good else 1


def _introduction(folder: Path, *, keep: bool) -> str:
    keeps = "is kept" if keep else "is removed at the end"
    return INTRODUCTION.format(tasks=len(shop.TASKS), folder=folder, keeps=keeps)


def _entering(top: Path, *, on_path: bool) -> list[str]:
    """Return commands for a person to paste; then `factory` is this program and uses this shop."""
    path = f"export PATH={shlex.quote(str(BIN))}:$PATH"
    return [shlex.join(["cd", str(top)]), *([] if on_path else [path])]


def _looking_around(folder: Path, entering: Sequence[str]) -> list[str]:
    state = shlex.join([f"XDG_STATE_HOME={folder / 'state'}", "factoryd", "start"])
    commands = [
        *entering,
        f"factory show {shop.SHOWN}",
        f"factory log {shop.SHOWN}",
        "factory why readme-hours",
        state,
        "factory status",
    ]
    return [
        "The shop is kept. To look around, paste:",
        "",
        *(f"    {command}" for command in commands),
        "",
        "To remove it:",
        "",
        "    factoryd stop",
        f"    {shlex.join(['rm', '-rf', str(folder)])}",
    ]


def _show(top: Path, entering: Sequence[str]) -> bool:
    """Run the whole demo; return whether every expected event came."""
    _make_shop(top)
    with chdir(top):
        _show_the_shop(entering)
        _show_the_tasks(top)
        watch = Watch(top)
        title("3. The line at work")
        if not watch.until(lambda: _is_telling(top)):
            return watch.say_what_is_missing()
        _answer(top)
        if not watch.until(watch.is_over):
            return watch.say_what_is_missing()
        _show_the_result(top)
    return True


def _show_the_shop(entering: Sequence[str]) -> None:
    title("1. The shop")
    say_lines(
        "The shop is a Python package with three tests. They pass, but it has bugs.",
        f"Its gate is {shop.GATE}. A change lands only if that passes:",
        "",
        f"    {shop.FILES[shop.GATE].strip()}",
        "",
        "To watch from a second terminal, paste:",
        "",
        *(f"    {command}" for command in entering),
        "    factory status --watch",
        "",
    )
    type_command("factoryd start")


def _show_the_tasks(top: Path) -> None:
    title("2. The tasks")
    say_lines(
        f"A task is a Markdown file that you drop into inbox/. This is {shop.SHOWN}.md:",
        "",
        *(f"  {line}".rstrip() for line in shop.TASKS[shop.SHOWN].splitlines()),
        "",
        "`accept` is its proof: a command that must fail before the change and pass",
        f"after it. The demo drops {len(shop.TASKS)} such files:",
        "",
        *say.table([(name, shop.title(name)) for name in shop.TASKS], indent="    "),
        "",
    )
    for name, task in shop.TASKS.items():
        (top / "inbox" / f"{name}.md").write_text(task, encoding="utf-8")


def _answer(top: Path) -> None:
    say_lines("")
    type_command("factory status")
    card = _card(top, shop.ASKS)
    say_lines(*QUESTION)
    type_command(f"factory answer {card.id} 1")
    _release(top, shop.SLOW)


def _show_the_result(top: Path) -> None:
    say_lines("")
    title("4. The result")
    type_command("factory status")
    card = _card(top, shop.FAILS)
    say_lines(
        f"No change makes {shop.FAILS} pass its proof, so it comes back to you as card",
        f"{card.id}. All other tasks landed, each as one commit. main was never red.",
        "",
        f"{shop.SHOWN} took two attempts. This is what landed:",
        "",
    )
    type_command(f"factory diff {shop.SHOWN}")
    type_command("factoryd stop")


# ── the shop ──


def _make_shop(top: Path) -> None:
    for name, text in shop.shop_files():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    scratch.commit_all(top, "Open a shop")


@contextmanager
def _environment(folder: Path) -> Iterator[None]:
    """Yield an environment with the demo's state folder and Python, and no user settings."""
    before = dict(os.environ)
    foreign = [name for name in before if name.startswith(("GIT_", "FACTORY_"))]
    for name in foreign:
        del os.environ[name]
    os.environ["XDG_STATE_HOME"] = str(folder / "state")
    os.environ["PATH"] = _path(before)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _path(environ: Mapping[str, str]) -> str:
    """Return a PATH with the python3 that runs factoryd, but without the installed packages."""
    python = Path(sys.base_prefix) / "bin"
    told = environ.get("PATH") or os.defpath
    others = [part for part in told.split(os.pathsep) if part and Path(part) != BIN]
    return os.pathsep.join([str(python), *others])


def _release(top: Path, units: Set[str]) -> None:
    """Let the scripted agents of these units continue."""
    for unit in units:
        run_dir = place.run_dir(str(top), unit, 1)
        (Path(run_dir) / "outbox" / apprentice.RELEASED).touch()


def _status(top: Path) -> rows.Status:
    with place.store(str(top)) as con:
        return views.status(con, views.now_text())


def _card(top: Path, unit: str) -> rows.Escalation:
    for card in _status(top).escalations:
        if card.unit == unit:
            return card
    raise FactoryError(f"no card asks about {unit}")


def _is_telling(top: Path) -> bool:
    """Whether the line shows a card, two agents at work, two waiting tasks and five landed."""
    seen = _status(top)
    states = {unit.id: unit.state for unit in seen.units_open}
    is_behind = any(shop.SHOWN in unit.why for unit in seen.units_open)
    at_work = {worker.unit for worker in seen.workers if worker.phase == "working"}
    return states == shop.TELLING and at_work == shop.SLOW and not is_behind


# ── what happens ──


class Watch:
    """Prints events, one a line, until a condition holds."""

    def __init__(self, top: Path) -> None:
        self._top = top
        self._began = time.monotonic()
        self._seen = 0  # the number of the last journal entry
        self._started = set[str]()
        self._landed = set[str]()
        self._has_failed = False
        self._is_terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self._shows_progress = False

    def until(self, holds: Callable[[], bool]) -> bool:
        """Print events until the condition holds; return whether it held in time."""
        news = time.monotonic()
        while time.monotonic() < self._began + PATIENCE_S:
            entries = self._entries()
            for entry in entries:
                self._note(entry)
                self._show(entry)
            if holds():
                self._clear_progress()
                return True
            if entries:
                news = time.monotonic()
            if self._is_terminal and time.monotonic() > news + QUIET_S:
                self._show_progress()
            time.sleep(POLL_S)
        return False

    def is_over(self) -> bool:
        """Return whether every task has landed, except the task that cannot land."""
        return self._landed >= shop.LANDS and self._has_failed

    def say_what_is_missing(self) -> bool:
        """Print the expected results that did not come in time; always return False."""
        self._clear_progress()
        missing = ", ".join(sorted(shop.LANDS - self._landed)) or f"the card of {shop.FAILS}"
        text = f"After {PATIENCE_S:.0f} s this has not come: {missing}."
        say_lines("", say.paint(text, "red"), "")
        type_command("factory status")
        return False

    def _entries(self) -> list[unit_rows.Entry]:
        with place.store(str(self._top)) as con:
            entries = list(unit_views.log(con, after=self._seen))
        if entries:
            self._seen = entries[-1].seq
        return entries

    def _note(self, entry: unit_rows.Entry) -> None:
        match entry.event:
            case "attempt.started":
                self._started.add(entry.unit)
                if self._started >= {shop.FIRST, shop.SECOND}:
                    _release(self._top, {shop.FIRST})
            case "unit.landed":
                self._landed.add(entry.unit)
                if entry.unit == shop.FIRST:
                    _release(self._top, {shop.SECOND})
            case "card.raised":
                self._has_failed |= entry.unit == shop.FAILS

    def _show(self, entry: unit_rows.Entry) -> None:
        """Print the line about an event that matters to a person, and its details."""
        told = _told(entry)
        if told is None:
            return
        text, style = told
        self._clear_progress()
        words = say.paint(text, style) if style else text
        say_lines(f"{self._elapsed()}  {entry.unit:<15} {words}")
        for line in _evidence(self._top, entry):
            say_lines(*(say.paint(part, "dim") for part in say.wrap(line, indent=MARGIN)))

    def _show_progress(self) -> None:
        at_work = [worker.unit for worker in _status(self._top).workers if worker.unit]
        doing = f"at work: {', '.join(at_work)}" if at_work else "the gates judge"
        text = f"{self._elapsed()}  {len(self._landed)} landed; {doing}"
        room = say.columns() or say.COLUMNS
        print(f"\r\x1b[K{say.clip(text, room - 1)}", end="", flush=True)
        self._shows_progress = True

    def _clear_progress(self) -> None:
        if self._shows_progress:
            print("\r\x1b[K", end="")
            self._shows_progress = False

    def _elapsed(self) -> str:
        return f"{time.monotonic() - self._began:5.1f} s"


def _told(entry: unit_rows.Entry) -> tuple[str, str] | None:
    """Return an event in words, with its style; None if the event does not matter to a person."""
    number, worker = entry.attempt, entry.worker
    match entry.event:
        case "attempt.started" if entry.agent == "run":
            return f"{worker} runs its command", PLAIN
        case "attempt.started" if number == 1:
            return f"{worker} starts attempt 1", PLAIN
        case "attempt.started" if entry.unit == shop.ASKS:
            return f"{worker} starts attempt {number}, and knows your answer", PLAIN
        case "attempt.started":
            return f"{worker} starts attempt {number}, and knows why {number - 1} failed", PLAIN
        case "attempt.ended":
            words, style = ENDS.get(entry.reason, (f"ended: {entry.reason}", "red"))
            return f"attempt {number} {words}", style
        case "unit.landed":
            return f"landed on main as {entry.commit[:10]}", "green"
    return None


def _evidence(top: Path, entry: unit_rows.Entry) -> list[str]:
    """Return what the agent said at the end of its attempt, or which gate was red."""
    if entry.event != "attempt.ended":
        return []
    with place.store(str(top)) as con:
        unit = named.the_unit(con, entry.unit)
    attempt = next(each for each in unit.attempts if each.number == entry.attempt)
    if entry.reason in ("submitted", "asked"):
        return [f"“{line}”" for line in attempt.said.splitlines()]
    lines = attempt.digest.splitlines()
    failures = [line.partition(" (")[0] for line in lines if FAILURE.match(line)]
    return [attempt.detail, *failures]


# ── beginning and end ──


@contextmanager
def _interruptible() -> Iterator[None]:
    """Make a closed terminal or SIGTERM end the demo in the same way as Ctrl-C."""
    before = {number: signal.getsignal(number) for number in life.ENDING}
    for number in life.ENDING:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _clean_up(folder: Path, *, kept: bool) -> None:
    """End the daemon and everything it started; unless `kept`, remove the folder."""
    for number in life.ENDING:
        signal.signal(number, signal.SIG_IGN)
    if folder == Path():
        return
    _end(folder / "shop")
    if not kept:
        shutil.rmtree(folder, ignore_errors=True)
    if not kept and folder.exists():
        say_lines(f"{folder} could not be removed completely.")


def _end(top: Path) -> None:
    pid = place.daemon(str(top)).pid
    if not pid:
        return
    try:
        life.leave(pid, signal.SIGINT, seconds=LEAVE_S)
    except FactoryError:
        os.kill(pid, signal.SIGKILL)
    for begun in (top / ".factory").rglob("start.json"):
        anyio.run(process.end, begun.parent)


# ── showing ──


def type_command(text: str) -> None:
    """Print a command and run it, as if you typed it."""
    say_lines(say.paint(f"$ {text}", "bold"))
    program, *argv = text.split()
    code = PROGRAMS[program](argv)
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code:
        raise FactoryError(f"{text} failed (exit code {code})")
    say_lines("")


def title(text: str) -> None:
    """Print the heading of a part."""
    say_lines(say.paint(f"── {text} ──", "bold"), "")


def say_lines(*lines: str) -> None:
    """Print the lines at once, because the reader waits for them."""
    for line in lines:
        print(line)
    sys.stdout.flush()
