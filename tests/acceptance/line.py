"""A real line for the acceptance tests: a repository, a daemon of its own process, and an agent that is a script.

Nothing is read but what a user can read (the store, the checkout, the run dirs), and nothing waits by sleeping blindly:
`until` looks at the store until what is asked for is there, or says what happened instead.
"""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import factory
from factory.cli import main
from factory.ground.places import Places, places
from factory.store import unit_views, views
from factory.store.journal import Event
from factory.store.records import Attempt, Card, CardKind, Fact
from factory.store.sqlite import SqliteStore
from factory.store.unit import Unit, UnitState
from tests import printed
from tests.git_repo import git, make_repo, write
from tests.journal import Entry, entries_of, fold
from tests.store_contract import tables

PATIENCE_S = 60.0  # on a busy machine, a program gets a tenth of its usual time
AGENT = Path(__file__).parent / "agents" / "scripted.py"
GATE = "#!/bin/sh\n! grep -rn BROKEN --include=*.txt .\n"
RUNTIME = (
    'command = ["{python}", "-I", "-S", "{agent}", "{{prompt_file}}"]\nstop = {{ grace_s = 0.3 }}\n'
)
SESSIONS = """
command = ["{python}", "-I", "-S", "{agent}", "{{prompt_file}}", "{{resume}}"]
resume = ["--session", "{{session}}"]
stop = {{ grace_s = 0.3 }}
[set]
SCRIPTED_JSONL = "1"
[output]
format = "jsonl"
session = "begin:session"
done_if = "end"
"""
CONFIG = 'agent = "scripted"\nworkers = 2\n'

T = TypeVar("T")


def task(code: str, **front: object) -> str:
    """A task file whose work is the Python in it."""
    head = "".join(f"{key}: {json.dumps(value)}\n" for key, value in front.items())
    return f"---\n{head}---\nDo this.\n\n```python\n{textwrap.dedent(code).strip()}\n```\n"


def files(**more: str) -> dict[str, str]:
    """What a repository of the tests holds: a gate, two runtimes, a setting, and a text."""
    filled = {"python": sys.executable, "agent": str(AGENT)}
    return {
        "conventions/gates/10-whole.sh": GATE,
        "conventions/runtimes/scripted.toml": RUNTIME.format(**filled),
        "conventions/runtimes/sessions.toml": SESSIONS.format(**filled),
        "factory.toml": CONFIG,
        "story.txt": "".join(f"line {number}\n" for number in range(1, 10)),
    } | {name.replace("__", "/"): text for name, text in more.items()}


class Line:
    """The factory of one repository, and the daemon that runs it at present."""

    def __init__(
        self,
        folder: Path,
        contents: Mapping[str, str] | None = None,
        *,
        name: str = "repo",
        sandbox: str = "off",  # what an agent of a test does is to be seen, and lies in the test's own folder
    ) -> None:
        self.folder, self.environ = folder, {"FACTORY__SANDBOX__MODE": sandbox}
        self.root = folder / name
        if not self.root.exists():
            make_repo(self.root, contents if contents is not None else files())
        self.home, self.bin = folder / "home", folder / "bin"
        for each in (self.home, self.bin):
            each.mkdir(exist_ok=True)
        self.begin = git(self.root, "rev-parse", "HEAD", ok=False) if not self._bare() else ""
        self.daemon: subprocess.Popen[bytes] | None = None
        self.is_checked = True  # not where the store was filled with units that trunk lacks
        self.program: tuple[str, ...] = ("-m", "factory.daemon", str(self.root))
        self._store: SqliteStore | None = None

    # ── the daemon ──

    def environment(self) -> dict[str, str]:
        """All that a daemon of the tests knows of this machine: where git and a shell are."""
        tools = [Path(found).parent for tool in ("git", "sh") if (found := shutil.which(tool))]
        path = os.pathsep.join(
            map(str, dict.fromkeys([self.bin, *tools, Path("/usr/bin"), Path("/bin")]))
        )
        return {
            "PATH": path,
            "HOME": str(self.home),
            "XDG_STATE_HOME": str(self.folder / "state"),
            "LANG": "C.UTF-8",
        } | self.environ

    def start(self, **environ: str) -> "Line":
        """Start the daemon, and return when it is up."""
        self.launch(**environ)
        self.until("the daemon is up", self.is_up)
        return self

    def launch(self, **environ: str) -> subprocess.Popen[bytes]:
        """Start the daemon and do not wait for it."""
        with (self.folder / "daemon.out").open("wb") as said:
            self.daemon = subprocess.Popen(
                [sys.executable, *self.program],
                cwd=Path(factory.__file__).parents[1],
                env=self.environment() | environ,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        return self.daemon

    def refused(self) -> tuple[int, str]:
        """Start a daemon that has to refuse: its exit code and its word."""
        code = self.launch().wait(PATIENCE_S)
        self.daemon = None
        return code, (self.folder / "daemon.out").read_text()

    def stop(self, number: int = signal.SIGINT) -> None:
        """Signal the daemon (INT: hand back at once; HUP: leave the agents) and wait until it is gone."""
        assert self.daemon is not None
        self.daemon.send_signal(number)
        assert self.daemon.wait(PATIENCE_S) == 0, self.story()
        self.daemon = None

    def kill(self) -> None:
        """`kill -9` of the daemon alone."""
        assert self.daemon is not None
        self.daemon.kill()
        self.gone()

    def gone(self) -> None:
        """Wait for a daemon that somebody else kills."""
        assert self.daemon is not None
        assert self.daemon.wait(PATIENCE_S) == -signal.SIGKILL
        self.daemon = None

    def close(self) -> None:
        """Stop what runs, and see that all which must hold at the end of any run does."""
        try:
            if self.daemon is not None and self.daemon.poll() is None:
                self.stop()
            has_store = (self.root / ".factory/store.sqlite").exists()
            if self.is_checked and has_store and not self._bare():
                self.check()
        finally:
            deadline = time.monotonic() + 2
            while (left := self.left()) and time.monotonic() < deadline:
                time.sleep(0.01)  # a git that a killed daemon had just started comes to its end
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if self.daemon is not None:
                self.daemon.wait()
            if self._store:
                self._store.close()
        assert left == {}, f"left running: {left}"

    def left(self) -> dict[int, str]:
        """The processes of this line that run: all of them have its folder in their environment."""
        found = {}
        mark = os.fsencode(self.folder)
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes() and int(entry.name) != os.getpid():
                    found[int(entry.name)] = (
                        (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    )
        return found

    # ── what a person does ──

    def drop(self, name: str, code: str, **front: object) -> str:
        """Drop a task into the inbox; the unit's id."""
        return self.drop_text(name, task(code, **front))

    def drop_text(self, name: str, text: str) -> str:
        """Drop a task file as it is."""
        inbox = self.root / "inbox"
        inbox.mkdir(exist_ok=True)
        (inbox / f"{name}.md").write_text(text)
        return name

    def factory(self, *argv: str) -> tuple[int, str]:
        """Run a command of `factory` in the checkout: exit code and all that it printed."""
        return self._say(main.factory, argv)

    def factoryd(self, *argv: str) -> tuple[int, str]:
        """The same with `factoryd`."""
        return self._say(main.factoryd, argv)

    def _say(self, program: Callable[[Sequence[str]], int], argv: Sequence[str]) -> tuple[int, str]:
        said = io.StringIO()
        with (
            contextlib.chdir(self.root),
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
        ):
            code = program(argv)
        return code, said.getvalue()

    def answer(self, card: Card, choice: str) -> str:
        """Answer a card by the label's beginning, or with free text; what the command said."""
        keys = [option.key for option in card.options if option.label.startswith(choice)]
        code, said = self.factory("answer", card.id, keys[0] if keys else choice)
        assert code == 0, said
        return said

    def commit(self, contents: Mapping[str, str], message: str = "by hand") -> str:
        """Commit files on what is checked out, those alone, and return the commit."""
        write(self.root, contents)
        git(self.root, "add", "--", *contents)
        git(self.root, "commit", "-q", "-m", message, "--", *contents)
        return git(self.root, "rev-parse", "HEAD")

    def configure(self, text: str) -> None:
        """Save factory.toml anew, as editors do."""
        fresh = self.root / ".factory" / "config.new"
        fresh.write_text(text)
        fresh.replace(self.root / "factory.toml")

    def configure_before(self, text: str) -> None:
        """Save factory.toml before the first start."""
        (self.root / "factory.toml").write_text(text)

    def wrap_git(self, *, on: str, before: str = "", after: str = "") -> None:
        """Put a git on the daemon's PATH that does something, once, around the first call that holds `on`."""
        real, once = shutil.which("git"), self.folder / "once"
        with contextlib.suppress(FileNotFoundError):  # an earlier wrap has acted
            once.rmdir()
        script = f"""\
            #!/bin/sh
            git={real}
            case " $* " in *"{on}"*)
                if mkdir {once} 2> /dev/null; then
                    {before or ":"}
                    $git "$@"; code=$?
                    {after or ":"}
                    exit $code
                fi;;
            esac
            exec $git "$@"
            """
        (self.bin / "git").write_text(textwrap.dedent(script))
        (self.bin / "git").chmod(0o755)

    # ── what is seen ──

    @property
    def places(self) -> Places:
        """Where its files lie."""
        return places(self.root, self.root / ".git", self.environment())

    @property
    def store(self) -> SqliteStore:
        """The store, read beside the daemon."""
        if self._store is None:
            self._store = SqliteStore(self.places.store)
        return self._store

    def until(self, what: str, look: Callable[[], T | None], *, seconds: float = PATIENCE_S) -> T:
        """Look until there is something to see (a true value) and return it; fail with the line's story."""
        deadline = time.monotonic() + seconds
        while not (seen := look()):
            if time.monotonic() > deadline:
                raise AssertionError(f"never happened: {what}\n{self.story()}")
            if self.daemon is not None and self.daemon.poll() is not None:
                raise AssertionError(f"the daemon died before: {what}\n{self.story()}")
            time.sleep(0.01)
        return seen

    def unit(
        self, name: str, state: UnitState = UnitState.LANDED, *, attempt: int = 0, why: str = ""
    ) -> Unit:
        """Wait until the unit is in that state (at that attempt, for that reason)."""

        def look() -> Unit | None:
            unit = self.store.get(Unit, name)
            fits = unit and unit.state is state and attempt in (0, unit.attempt)
            return unit if fits and (not why or why in self.why(name)) else None

        return self.until(f"{name} is {state} {attempt or ''} {why}", look)

    def why(self, name: str) -> str:
        """Why the unit is in its state, as the commands say it."""
        with contextlib.closing(views.open_store(str(self.places.store))) as con:
            shown = unit_views.show(con, name)
        return shown.why if shown else ""

    def event(self, event: Event, *, after: int = 0, **told: object) -> Entry:
        """Wait for the journal's first entry of that event with those fields."""

        def look() -> Entry | None:
            return next(
                (each for each in self.entries(event, after=after) if _tells(each, told)), None
            )

        return self.until(f"{event} {told}", look)

    def entries(self, event: Event, *, after: int = 0, unit: str = "") -> list[Entry]:
        """The journal's entries of that event."""
        return [
            each for each in entries_of(self.store, after=after, unit=unit) if each.event is event
        ]

    def mark(self) -> int:
        """The newest entry of the journal, to look from later."""
        return max((entry.seq for entry in entries_of(self.store)), default=0)

    def card(self, kind: CardKind, *, count: int = 0) -> Card:
        """Wait for the open card of a kind (that stops so many units)."""

        def look() -> Card | None:
            cards = [
                card
                for card in self.store.open(Card)
                if card.kind is kind and count in (0, card.count)
            ]
            assert len(cards) < 2, f"one cause, one card: {cards}"
            return cards[0] if cards else None

        return self.until(f"a card of kind {kind}", look)

    def no_card(self, kind: CardKind) -> None:
        """Wait until no card of that kind is open."""
        self.until(
            f"no {kind} card", lambda: all(card.kind is not kind for card in self.store.open(Card))
        )

    def attempts(self, name: str) -> list[str]:
        """The end reasons of a unit's attempts."""
        return [str(attempt.reason) for attempt in self.store.select(Attempt, unit=name)]

    def attempt(self, name: str, number: int = 1) -> Attempt:
        """Wait until that attempt's agent is at work."""
        self.event(Event.ATTEMPT_STARTED, unit=name, attempt=number)
        found = self.store.get(Attempt, name, number)
        assert found is not None
        return found

    def workspace(self, name: str, number: int = 1) -> Path:
        """Where that attempt's agent works, once it does."""
        return self.places.work / self.attempt(name, number).workspace

    def prompt(self, name: str, attempt: int) -> str:
        """What the agent was told."""
        return (self.places.run_dir(name, attempt) / "prompt.md").read_text()

    def fact(self, name: str) -> Any:
        """One of the daemon's facts."""
        found = self.store.get(Fact, name)
        return json.loads(found.value) if found else None

    def status(self) -> dict[str, Any]:
        """What programs read."""
        code, said = self.factory("status", "--json")
        assert code == 0, said
        seen = dict(json.loads(said))
        printed.check("status", seen)
        return seen

    def git(self, *argv: str, ok: bool = True) -> str:
        """Git in the user's checkout."""
        return git(self.root, *argv, ok=ok)

    def on_trunk(self, branch: str = "main") -> list[str]:
        """The units whose commits trunk holds, oldest first."""
        log = self.git(
            "log", "--reverse", "--format=%(trailers:key=Factory-Unit,valueonly,separator=)", branch
        )
        return [name for name in log.splitlines() if name]

    def ours_on_trunk(self, branch: str = "main") -> list[str]:
        """The same, less what other factories, and earlier lives of this one, have landed."""
        form = "%(trailers:key=Factory-Run,valueonly,separator=)/%(trailers:key=Factory-Unit,valueonly,separator=)"
        pairs = [
            line.partition("/") for line in self.git("log", f"--format={form}", branch).splitlines()
        ]
        mine = self.fact("identity")["id"]
        return [unit for run, _, unit in pairs if run.startswith(mine)]

    def story(self) -> str:
        """What happened, for whoever reads a failure."""
        said = (self.folder / "daemon.out").read_text(errors="replace")
        log = self.places.log.read_text(errors="replace") if self.places.log.exists() else ""
        journal = [] if not self.places.store.exists() else list(entries_of(self.store))
        lines = [
            f"{e.seq} {e.at:%S.%f} {e.event} {e.unit} {e.attempt} {dict(e.detail)}"[:400]
            for e in journal[-60:]
        ]
        return "\n".join([*lines, said[-2000:], log[-4000:]])

    # ── what always holds ──

    def _check_printed(self, units: Sequence[Unit]) -> None:
        """What programs read is as docs/json/ says."""
        self.status()
        _, told = self.factory("log", "--json")
        for entry in told.splitlines():
            printed.check("log", json.loads(entry))
        for unit in units:
            _, told = self.factory("show", unit.id, "--json")
            printed.check("show-unit", json.loads(told))

    def check(self) -> None:
        """The invariants that a finished run can show (line.md §6)."""
        assert fold(entries_of(self.store)) == tables(self.store), "the journal is not the store"
        units = self.store.select(Unit)
        self._check_printed(units)
        for unit in units:
            if unit.state is UnitState.LANDED:
                self._check_landed(unit)
        branch = (self.fact("trunk") or {}).get("branch", "")
        if branch and self.git("branch", "--list", branch):
            landed = {unit.id for unit in units if unit.state is UnitState.LANDED}
            found = self.ours_on_trunk(branch)
            assert len(found) == len(set(found)), f"landed twice: {found}"
            assert set(found) <= landed, f"on trunk, not on record: {set(found) - landed}"

    def _check_landed(self, unit: Unit) -> None:
        trailers = self.git(
            "log", "-1", "--format=%(trailers:key=Factory-Unit,valueonly,separator=)", unit.commit
        )
        assert trailers == unit.id
        if not {"no_gate", "trunk_red"} & set(unit.approved):
            broken = self.git("grep", "-l", "BROKEN", unit.commit, "--", "*.txt", ok=False)
            assert broken == "", f"trunk was not green at {unit.id}: {broken}"

    def is_up(self) -> bool:
        """Whether the daemon that was launched last has told its pid."""
        assert self.daemon is not None
        with contextlib.suppress(FileNotFoundError):
            return self.places.pid.read_text().strip() == str(self.daemon.pid)
        return False

    def _bare(self) -> bool:
        return not (self.root / ".git").exists()


def _tells(entry: Entry, told: Mapping[str, object]) -> bool:
    known = {"unit": entry.unit, "attempt": entry.attempt, "worker": entry.worker, **entry.detail}
    return all(known.get(key) == value for key, value in told.items())


@contextmanager
def line_in(
    folder: Path, contents: Mapping[str, str] | None = None, *, sandbox: str = "off", **environ: str
) -> Iterator[Line]:
    """A line whose daemon runs until the end of the block."""
    line = Line(folder, contents, sandbox=sandbox)
    try:
        yield line.start(**environ)
    finally:
        line.close()
