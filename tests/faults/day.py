"""A day of a line: what a person drops and does while daemons come and go, and what must be true in the evening.

Judged by git, by /proc and by files alone (the store too is read as a file): nothing here trusts the product's word.
"""

import shutil
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from factory.store.unit import SPENDS, EndReason
from tests.acceptance.line import Line, files, task
from tests.git_repo import environment, git, write

PATIENCE_S = 60.0
CONFIG = 'agent = "scripted"\ntrunk = "main"\nworkers = 2\n'
SETUP = "mkdir -p .made && date > .made/stamp\n"
THEIRS = {
    "notes.txt": "untracked, mine\n",
    "kept.txt": "changed, mine\n",
    "x.log": "ignored, mine\n",
}
WRONG = "---\npriorty: 1\n---\nDo it.\n"
ANSWER = "the brass one"  # in no prompt, so that an agent that reads it was told


Step = tuple[Callable[[], object], Callable[[], object]]


class Day:
    """One repository, its person, and the units of the day."""

    def __init__(self, folder: Path, *, twice: bool = False) -> None:
        """`twice`: whatever happens on a day happens two times, for the second passages."""
        more = {
            "conventions__workspace__setup.sh": SETUP,
            "conventions__runtimes__absent.toml": 'command = ["absent"]\n',
            ".gitignore": "*.log\n.made/\n",
            "kept.txt": "kept\n",
        }
        self.line = Line(folder, files(**more) | {"factory.toml": CONFIG})
        write(self.line.root, THEIRS)
        self.begin = self.line.begin
        self.armed = ""  # the fault of the daemon that runs
        self.turns: list[Callable[[], object]] = []
        self.launches: list[Callable[[], object]] = []
        self._parts: dict[str, list[str]] = {}  # of units that are split
        self._awaited: list[str] = []
        self.hurry: Callable[[], object] = lambda: (
            True
        )  # whether what holds `clash` back may be over
        self._steps: list[Step] = []
        self._left: list[Step] = []  # of the steps, with this daemon
        self._dropped: dict[str, list[str]] = {}
        self._con: sqlite3.Connection | None = None
        self.twice = twice
        self._never = set(self.names("wrong"))
        self._branch = "main"
        self._config = (self.line.root / ".git/config").read_bytes()
        self.drop()
        if twice:
            self.once(
                lambda: self.told("trunk.moved"), lambda: self._commit("line 9", "tracked-too")
            )

    # ── the person ──

    def names(self, name: str) -> list[str]:
        """The units that take the place of one."""
        return [name, f"{name}-too"] if self.twice else [name]

    def drop(self) -> None:
        """The tasks of every day."""
        folder = self.line.folder
        for name in self.names("again"):
            again = f"more = Path('{name}.txt').exists(); write('{name}.txt', 'fine' if more else 'BROKEN')"
            self._task(name, f"{again}\nmore and write('{name}-more.txt', 'fine')")
        for name in self.names("asks"):
            answered = f"write('{name}.txt', 'fine')"
            self._task(
                name, f"leave('question.md', 'Which?') if {ANSWER!r} not in told else {answered}"
            )
        for name in self.names("wrong"):
            self.put(f"{name}.md", WRONG)
        self._task(
            "plain",
            "write('plain.txt', 'fine'); git('init', '-q', 'sub'); write('sub/plain.txt', 'fine')",
        )
        waits = f"Path({str(folder / 'begun')!r}).touch(); hold({str(folder / 'go')!r})"
        changes = "write('story.txt', Path('story.txt').read_text().replace('line 1\\n', 'line 1 of an agent\\n'))"
        self._task("clash", f"{waits}\n{changes}; write('clash.txt', 'fine')")
        self.put(
            "script.md", "---\nrun: echo made > made.txt\naccept: test -e made.txt\n---\nRun it.\n"
        )

    def _task(self, name: str, code: str) -> None:
        self.put(f"{name}.md", task(code))

    def put(self, name: str, text: str, *, lands: bool = True, alone: bool = False) -> None:
        """Drop a task file; `alone`: instead of all others so far."""
        inbox = self.line.root / "inbox"
        if alone:
            shutil.rmtree(inbox)
            self._dropped.clear()
        inbox.mkdir(exist_ok=True)
        (inbox / name).write_text(text)
        self._dropped.setdefault(name, []).append(text)
        if not lands:
            self._never.add(name.removesuffix(".md"))

    def awaits(self, name: str) -> None:
        """This unit has to land too, although no file of it is dropped."""
        self._awaited.append(name)

    def splits(self, name: str, *parts: str) -> None:
        """Drop a task whose agent writes others in its place; of these each needs the one before."""
        files = {}
        for before, part in zip(("", *parts), parts, strict=False):
            needs = f"needs: {before}\n" if before else ""
            files[f"{part}.md"] = (
                f"---\n{needs}---\nDo it.\n\n~~~python\nwrite('{name}-{part}.txt', 'fine')\n~~~\n"
            )
        folder = "Path(os.environ['FACTORY_OUTBOX'], 'split').mkdir()"
        self._task(
            name,
            f"{folder}\nfor name, text in {files!r}.items(): leave(f'split/{{name}}', text.replace('~', '`'))",
        )
        self._parts[name] = [f"{name}-{part}" for part in parts]

    def gate(self, script: str) -> None:
        """One more gate, before the first start."""
        self.begin = self.line.commit({"conventions/gates/20-more.sh": f"{script}\n"})

    def stays_on(self, branch: str) -> None:
        """The person is on a branch of their own, and commits nothing."""
        self._branch = branch
        (self.line.folder / "go").touch()

    def then(self, due: Callable[[], object], act: Callable[[], object]) -> None:
        """Act when it is due and all that was to be done before is done; and again with the next daemon."""
        self._steps.append((due, act))

    def once(self, due: Callable[[], object], act: Callable[[], object]) -> None:
        """Act, when it is due, and never again."""
        done: list[bool] = []

        def turn() -> None:
            if not done and due():
                done.append(True)
                act()

        self.turns.append(turn)

    @property
    def units(self) -> set[str]:
        """What has to land."""
        dropped = (
            {name.removesuffix(".md") for name in self._dropped} - self._never - self._parts.keys()
        )
        return dropped.union(self._tracked, self._awaited, *self._parts.values())

    @property
    def _tracked(self) -> list[str]:
        return self.names("tracked") if self._branch == "main" else []

    @property
    def begun(self) -> bool:
        """Whether the agent of `clash` is at work, and waits."""
        return (self.line.folder / "begun").exists() and not (self.line.folder / "go").exists()

    def act(self) -> None:
        """Do whatever is a person's turn now; called again and again."""
        for turn in self.turns:
            turn()
        if self._left and self._left[0][0]():
            self._left.pop(0)[1]()
        if self.begun and self.hurry():
            self._commit("line 1", "tracked")
            (self.line.folder / "go").touch()
        if card := self.card("question"):
            self.line.factory("answer", card, ANSWER)

    def _commit(self, line: str, name: str) -> None:
        """A line (`clash` changes the first one too), and a task file, which is in the inbox once git tracks it."""
        root, tracked = self.line.root, {f"{name}.md": task(f"write('{name}.txt', 'fine')")}
        write(self.line.folder, tracked)
        blob = git(root, "hash-object", "-w", str(self.line.folder / f"{name}.md"))
        story = (root / "story.txt").read_text().replace(f"{line}\n", f"{line} of a person\n")
        write(root, {"story.txt": story})
        with self._between_landings():
            git(root, "update-index", "--add", "--cacheinfo", f"100644,{blob},inbox/{name}.md")
            git(root, "commit", "-q", "-m", "by hand", "--include", "story.txt")
        write(root / "inbox", tracked)

    def mends(self) -> None:
        """Trunk, which was red when the day began."""
        with self._between_landings():
            self.line.commit({"bad.txt": "fine\n"})

    @contextmanager
    def _between_landings(self) -> Iterator[None]:
        """Nothing lands meanwhile: between a merge's index and its ref, a commit of theirs would take in what lands."""
        daemon = self.line.daemon
        if daemon is None or daemon.poll() is not None:
            yield
            return
        daemon.send_signal(signal.SIGSTOP)
        while daemon.poll() is None and self.rows(
            "step", "done = 0"
        ):  # one that dies with a step leaves it open
            daemon.send_signal(signal.SIGCONT)
            time.sleep(0.02)
            daemon.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            daemon.send_signal(signal.SIGCONT)

    def done(self) -> bool:
        """Whether everything has landed and nothing is asked."""
        landed = {row["id"] for row in self.rows("unit", "state = 'landed'")}
        rejected = all(
            (self.line.root / f"inbox/rejected/{name}.md").exists() for name in self.names("wrong")
        )
        return (
            landed == self.units
            and rejected
            and not self._left
            and not self.rows("card", "state = 'open'")
        )

    # ── daemons ──

    def dies(self, fault: str = "") -> None:
        """Run a daemon until it dies at that place; one that is told to stop after its day, and can, fails."""
        daemon = self._launch(fault or "here")
        self._until(
            lambda: daemon.poll() is not None or (self.done() and self.up), f"died at {fault}"
        )
        self.stops()
        assert daemon.wait(PATIENCE_S) == -signal.SIGKILL, (
            f"never came to {fault}\n{self.line.story()}"
        )
        self.line.daemon = None

    def stops(self) -> None:
        """Tell the daemon to hand back what runs, and go."""
        if self.line.daemon is not None and self.up:
            self.line.daemon.send_signal(signal.SIGINT)

    @property
    def up(self) -> bool:
        """Whether the daemon that was started last can be told to stop."""
        return self.line.is_up()

    def ends(self, **environ: str) -> None:
        """Run a daemon till all is done, and stop it."""
        daemon = self._launch("", **environ)
        self._until(lambda: self.done() and self.up, "all done", alive=True)
        assert daemon.poll() is None
        self.line.stop()

    def _launch(self, fault: str, **environ: str) -> subprocess.Popen[bytes]:
        self.armed, self._left = fault, list(self._steps)
        for prepare in self.launches:
            prepare()
        return self.line.launch(**{"FACTORY_FAULT": fault} | environ)

    def _until(self, look: Any, what: str, *, alive: bool = False) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not look():
            assert time.monotonic() < deadline, f"never {what}\n{self.line.story()}"
            died = alive and self.line.daemon is not None and self.line.daemon.poll() is not None
            assert not died, f"the daemon died before: {what}\n{self.line.story()}"
            self.act()
            time.sleep(0.02)

    def rows(self, table: str, where: str = "1") -> list[dict[str, Any]]:
        """Rows of the store's file."""
        path = self.line.places.store
        if self._con is None and path.exists():
            self._con = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
            self._con.row_factory = sqlite3.Row
        return (
            [dict(row) for row in self._con.execute(f"SELECT * FROM {table} WHERE {where}")]
            if self._con
            else []
        )

    def card(self, kind: str) -> str:
        """The open card of that kind that nobody has answered, or ""."""
        found = self.rows("card", f"state = 'open' AND kind = '{kind}' AND answer = ''")
        return str(found[0]["id"]) if found else ""

    def unit(self, name: str) -> bool:
        """Whether there is a unit of that name."""
        return bool(self.rows("unit", f"id = '{name}'"))

    def told(self, event: str, times: int = 1) -> bool:
        """Whether the journal has such an event, so many times."""
        return len(self.rows("journal", f"event = '{event}'")) >= times

    def paused(self) -> bool:
        """Whether the line is paused."""
        return bool(self.rows("fact", "name = 'paused' AND value != 'null'"))

    # ── the evening ──

    def check(self) -> None:
        """The nine invariants of line.md §6."""
        self._check_trunk_is_green()
        self._check_each_unit_landed_once()
        self._check_nothing_is_lost()
        self._check_nothing_runs()
        self._check_manners()
        self._check_one_voice()

    def _check_trunk_is_green(self) -> None:
        clone = self.line.folder / "clone"
        git(self.line.folder, "clone", "-q", "--no-local", str(self.line.root), str(clone))
        for commit in git(
            clone, "rev-list", "--grep=^Factory-Unit: ", f"{self.begin}..origin/main"
        ).splitlines():
            git(clone, "checkout", "-q", commit)
            for gate in sorted(clone.glob("conventions/gates/*.sh")):
                judged = subprocess.run(
                    ["sh", str(gate)], cwd=clone, env=environment(), check=False
                )
                assert judged.returncode == 0, f"{commit} is red"

    def _check_each_unit_landed_once(self) -> None:
        landed = self.line.on_trunk()
        assert sorted(landed) == sorted(self.units)
        assert git(self.line.root, "rev-list", "--merges", "main") == ""
        for unit in self.rows("unit", "state != 'cancelled'"):
            was_split = unit["id"] in self._parts
            assert (unit["state"], unit["commit"] in self._trunk()) == (
                "split" if was_split else "landed",
                not was_split,
            )

    def _check_nothing_is_lost(self) -> None:
        own = self.line.places.git
        said = git(own, "log", "--all", "--format=%B")
        for ended in self.line.places.home.glob("attempts/*/*/exit.json"):
            unit, number = ended.parts[-3:-1]
            assert f"Attempt {number} of {unit}" in said, (
                f"the tree of attempt {number} of {unit} is in no ref"
            )
        home = (
            self.line.places.home
        )  # taken, replaced, or in the folder of a unit that has ended: never deleted
        found = {path.name for path in (*home.glob("intake/*/*.md"), *home.glob("attempts/*/*.md"))}
        hung = {"repair-trunk.md", *(f"{name}.md" for name in self._awaited)}.union(
            f"{part}.md" for parts in self._parts.values() for part in parts
        )
        names = (name.partition("-")[2] for name in found)
        taken = Counter(name for name in names if name not in hung)
        wrong = [f"{name}.md" for name in self.names("wrong")]
        wanted = {name: len(texts) for name, texts in self._dropped.items() if name not in wrong}
        tracked = [f"{name}.md" for name in self._tracked]
        assert taken == wanted | dict.fromkeys(tracked, 1)
        rejected = self.line.root / "inbox/rejected"
        assert _names(rejected) == sorted([*wrong, *(f"{name}.error.txt" for name in wrong)])
        assert {(rejected / name).read_text() for name in wrong} == {WRONG}
        assert _names(self.line.root / "inbox") == sorted(["rejected", *tracked])
        reasons = {(row["unit"], row["reason"]) for row in self.rows("attempt")}
        spent = {
            (unit.removesuffix("-too"), reason)
            for unit, reason in reasons
            if SPENDS[EndReason(reason)]
        }
        assert spent <= {
            ("again", "gate_red"),
            ("hopeless", "crashed"),
            ("repair-trunk", "crashed"),
        }
        assert git(own, "fsck", "--connectivity-only", "--no-dangling") == ""

    def _check_nothing_runs(self) -> None:
        assert self.line.left() == {}

    def _check_manners(self) -> None:
        root = self.line.root
        assert {name: (root / name).read_text() for name in THEIRS} == THEIRS
        status = git(root, "status", "--porcelain").splitlines()
        assert status == [" M kept.txt", "?? notes.txt"], status
        branches = git(root, "for-each-ref", "--format=%(refname:short)").splitlines()
        assert branches == sorted({"main", self._branch})
        assert git(root, "symbolic-ref", "--short", "HEAD") == self._branch
        assert self._branch == "main" or git(root, "rev-parse", "HEAD") == self.begin
        assert git(root, "stash", "list") == ""
        assert (root / ".git/config").read_bytes() == self._config
        assert list((root / ".git").glob("**/*.lock")) == []
        assert git(root, "fsck", "--connectivity-only", "--no-dangling") == ""

    def _check_one_voice(self) -> None:
        cards = sorted(self.rows("card"), key=lambda card: (card["fingerprint"], card["since"]))
        for one, next_one in pairwise(cards):
            asked_again = one["fingerprint"] == next_one["fingerprint"]
            assert not asked_again or one["closed"] <= next_one["since"], (
                "one cause, two open cards"
            )
        for row in self.rows("hook"):
            assert row["unit"] == ""

    def _trunk(self) -> list[str]:
        return git(self.line.root, "rev-list", f"{self.begin}..main").splitlines()

    def close(self) -> None:
        """Stop whatever runs."""
        if self._con:
            self._con.close()
        self.line.close()


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
