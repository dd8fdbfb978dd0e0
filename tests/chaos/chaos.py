"""Chaos: a line at work, a person beside it, and SIGKILL for the daemon, agents, shims, gates and git, from a seed.

`python -m tests.chaos.chaos --units 200 --kills 1000 --seed 7` is `make chaos`. A kill counts only while a step is
open or an attempt is alive, as the store says at that very moment: the daemon is stopped, looked at, and then killed.
The seed decides what is tried; what is hit, time does too.
"""

import argparse
import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.acceptance.line import AGENT, RUNTIME, Line
from tests.chaos import disk, procs
from tests.chaos.checker import FINAL, Checker, Found
from tests.chaos.disasters import Disasters
from tests.chaos.person import MINE, Busy, Person
from tests.chaos.work import GATE, Work, works
from tests.journal import entries_of, fold
from tests.store_contract import tables

AT_ONCE = 18  # units that are open while the run lasts: many wait for the pause after a crash
HIT_S = 0.5  # how long a process is waited for that lives for milliseconds
SETTLE_S = 240.0
TELL_S = 60.0
EXPECTED = {
    "attempts_exhausted",
    "conflict",
    "crash_loop",
    "question",
    "landing_blocked",
    "runtime",
}
KILLS = {"daemon": 4, "git": 5, "gate": 4, "agent": 4, "shim": 3}


class Chaos:
    """One run in `folder`."""

    def __init__(
        self,
        folder: Path,
        *,
        seed: int,
        units: int,
        kills: int,
        workers: int,
        seconds: float,
        disasters: int = 0,
    ) -> None:
        self._rng = random.Random(seed)
        self._disasters_wanted = disasters
        self._units, self._wanted = units, kills
        self._deadline = time.monotonic() + seconds
        contents = {
            "conventions/gates/10-whole.sh": GATE,
            "conventions/runtimes/scripted.toml": RUNTIME.format(
                python=sys.executable, agent=AGENT
            ),
            "factory.toml": f'agent = "scripted"\nworkers = {workers}\ntrunk = "main"\n',
            "story.txt": "".join(f"line {number}\n" for number in range(1, 10)),
            MINE: "what was committed\n",
        }
        self.line = Line(folder, contents)
        self._person = Person(self.line.root, random.Random(seed + 1), self._still)
        self._checker = Checker(folder, self.line.root)
        self._works = works(random.Random(seed + 2))
        self.dropped: dict[str, Work] = {}
        self.found = Found()
        self.disasters = Disasters(self.line, random.Random(seed + 3), self.found.lost)
        self.kills = Counter[str]()
        self.steps = Counter[str]()
        self.uncounted = 0
        self.odd_cards: list[str] = []
        self._gate_hit = 0.0
        self._judged = False

    def run(self) -> None:
        """Until all units are over and enough was killed, or time is up; then let the line settle, and judge."""
        self.line.start()
        told = time.monotonic()
        while self._goes_on():
            self._feed()
            if time.monotonic() - told > TELL_S:
                told = time.monotonic()
                print(f"  {self.kills.total()} kills, {len(self.dropped)} units", flush=True)
            time.sleep(self._rng.uniform(0, 0.15))
            self._turn()
        self._settle()
        self.line.stop(signal.SIGTERM)
        self._judge()

    def _goes_on(self) -> bool:
        done = self.disasters.hit.events.total()
        missing = (
            len(self.dropped) < self._units
            or self.kills.total() < self._wanted
            or done < self._disasters_wanted
        )
        return missing and time.monotonic() < self._deadline

    def _turn(self) -> None:
        deeds: dict[Callable[[], None], int] = {
            self._person.act: 4,
            self._answer: 2,
            self._hurry: 1,
        }
        if self.kills.total() < self._wanted:
            deeds |= {self._kill: 10}
        if self.disasters.hit.events.total() < self._disasters_wanted:
            deeds |= {self._strike: 6, self.disasters.back_up: 1}
        (deed,) = self._rng.choices([*deeds], [*deeds.values()])
        deed()

    def _strike(self) -> None:
        """The disaster that was met least so far, or that had the fewest states under way."""
        todo = self.disasters.all()
        counts = self.disasters.hit.events
        name = min(todo, key=lambda name: (counts[name], self._rng.random()))
        if self._rng.random() < 0.5:
            name = self._rng.choice([*todo])
        self._await_some_state()
        if not todo[name]():
            return
        if self.line.daemon is None:
            self._start()
        if name == "delete":
            self._drop_again()

    def _await_some_state(self) -> None:
        """Landings are short: now and then one is waited for."""
        wanted = self._rng.choice(["agent", "judging", "landing"])
        deadline = time.monotonic() + HIT_S
        while wanted not in self.disasters.states() and time.monotonic() < deadline:
            pass

    def _drop_again(self) -> None:
        """What had not landed when the factory was deleted is dropped again, as its person would."""
        forgotten = self.disasters.forgotten
        # Of a unit that was split, parts may have landed: to drop it again would ask for them a second time.
        forgotten |= {
            name for name in self.dropped if any(part.startswith(f"{name}-") for part in forgotten)
        }
        self._checker.forgotten = forgotten
        for name, work in self.dropped.items():
            if name not in forgotten:
                text = _without_needs(work.text, self.disasters.forgotten)
                self.line.drop_text(work.name, text)

    # ── the killing ──

    def _kill(self) -> None:
        (kind,) = self._rng.choices([*KILLS], [*KILLS.values()])
        if kind == "daemon":
            self._kill_daemon()
        elif kind == "git":
            self._kill_one(kind, self._git_child)
        elif kind != "gate" or time.monotonic() - self._gate_hit > 1.5:
            # Two gates in a row would be two reds on one tree: that is a verdict, and rightly so.
            self._kill_one(kind, lambda: self._marked(kind))

    def _kill_one(
        self, kind: str, find: Callable[[], procs.Process | None], patience: float = HIT_S
    ) -> None:
        deadline = time.monotonic() + patience
        while not (target := find()):
            if time.monotonic() > deadline:
                return
        open_now = self._open()
        if procs.kill(target):
            self._count(f"git {target.git}" if kind == "git" else kind, open_now)
            self._gate_hit = time.monotonic() if kind == "gate" else self._gate_hit

    def _git_child(self) -> procs.Process | None:
        assert self.line.daemon is not None
        found = filter(None, map(procs.look, procs.children(self.line.daemon.pid)))
        return next((each for each in found if each.git), None)

    def _marked(self, kind: str) -> procs.Process | None:
        place = self.line.root / ".factory" / ("judged" if kind == "gate" else "attempts")
        found = [
            each
            for each in procs.marked(place)
            if kind == "gate" or each.is_shim == (kind == "shim")
        ]
        return self._rng.choice(found) if found else None

    def _kill_daemon(self) -> None:
        assert self.line.daemon is not None
        if (
            self._rng.random() < 0.5
        ):  # a landing takes a hundredth of a second: without help it would hardly be met
            deadline = time.monotonic() + HIT_S
            while "landing" not in self._open() and time.monotonic() < deadline:
                pass
            time.sleep(self._rng.uniform(0, 0.01))
        self._shoot("daemon")
        self._while_it_is_dead()
        while self._rng.random() < 0.2:
            self.line.launch()
            time.sleep(self._rng.uniform(0.1, 0.9))
            self._shoot("starting daemon")
        self._start()

    def _shoot(self, kind: str) -> None:
        assert self.line.daemon is not None
        os.kill(self.line.daemon.pid, signal.SIGSTOP)
        self._count(kind, self._open())
        self.line.kill()

    def _start(self) -> None:
        """Start the daemon, sometimes against the death of a git that it starts with: it may say so and go."""
        daemon = self.line.launch()
        if self._rng.random() < 0.2 and self.kills.total() < self._wanted:
            self._kill_one("git", self._git_child)
        while not self.line.is_up():
            if daemon.poll() is not None:
                said = (self.line.folder / "daemon.out").read_text()
                if "Traceback" in said or "ended with -9" not in said:
                    self.found.lost.append(f"a start that failed: {said}")
                daemon = self.line.launch()
            if (
                self._rng.random() < 0.05 and self.kills.total() < self._wanted
            ):  # they live on meanwhile
                self._kill_one("agent", lambda: self._marked("agent"), patience=0)
            time.sleep(0.02)

    def _while_it_is_dead(self) -> None:
        chance = self._rng.random()
        if chance < 0.3:
            self._person.act()
        elif chance < 0.4:
            self._feed(1)
        elif chance < 0.5:
            self._kill_one("agent", lambda: self._marked("agent"))
        elif chance < 0.55:
            self._checker.look(self.found, self._marks())

    def _count(self, kind: str, open_now: list[str]) -> None:
        if not open_now:
            self.uncounted += 1
            return
        self.kills[kind] += 1
        self.steps.update({f"{kind.partition(' ')[0]} in {step}" for step in open_now})

    def _open(self) -> list[str]:
        """Open steps and live attempts, as the store has them now; none while a start makes a deleted one anew."""
        query = (
            "SELECT kind FROM step WHERE done = 0 UNION ALL SELECT phase FROM hook WHERE unit != ''"
        )
        try:
            return [step for (step,) in self._select(query)]
        except sqlite3.OperationalError:
            if self.line.is_up():
                raise
            return []

    # ── the line's people ──

    @contextmanager
    def _still(self) -> Iterator[None]:
        """Hold the daemon, and see that no git which it started is at work."""
        daemon = self.line.daemon
        if daemon:
            daemon.send_signal(signal.SIGSTOP)
        try:
            while any(procs.at_work_in(self.line.root)):
                time.sleep(0.01)
            yield
        finally:
            if daemon:
                daemon.send_signal(signal.SIGCONT)

    def _feed(self, count: int = 0) -> None:
        if not count and self._count_open() >= AT_ONCE:
            return
        for work in itertools.islice(self._works, count or self._rng.randrange(1, 5)):
            self.line.drop_text(work.name, work.text)
            self.dropped[work.name] = work

    def _count_open(self) -> int:
        units = {row[0]: row[1] for row in self._select("SELECT id, state FROM unit")}
        landed_before = self.disasters.forgotten  # by a factory that was deleted
        known = (self.dropped.keys() - landed_before) | units.keys()
        return sum(units.get(name) not in FINAL for name in known)

    def _answer(self) -> None:
        """Decide every open card, mostly as is recommended."""
        for name, kind, question, options, answer in self._select(
            "SELECT id, kind, question, options, answer FROM card WHERE state = 'open'"
        ):
            if kind not in EXPECTED:
                self.odd_cards.append(f"{name} {kind}: {question}")
            elif kind == "landing_blocked":
                with contextlib.suppress(Exception):
                    self._person.out_of_the_way()
            elif not answer:
                keys = {option["action"]: option["key"] for option in json.loads(options)}
                often = 0.3 if kind == "attempts_exhausted" else 0.05
                cancel = "cancel" in keys and self._rng.random() < often
                self.line.factory(
                    "answer", name, keys["cancel"] if cancel else next(iter(keys.values()))
                )

    def _hurry(self) -> None:
        """Somebody does not want to wait until a crash is forgiven."""
        waiting = self._select(
            "SELECT id FROM unit WHERE state = 'waiting' AND not_before IS NOT NULL LIMIT 3"
        )
        for (name,) in waiting:
            self.line.factory("retry", name)

    def _settle(self) -> None:
        """No more killing; the person goes home, answers what is asked, and the line comes to its end."""
        try:
            self._person.home()
        except Busy as error:
            self.found.changed.append(f"their own checkout does not get free: {error}")
        deadline = time.monotonic() + SETTLE_S
        while self._count_open() and time.monotonic() < deadline:
            self._answer()
            self._hurry()
            time.sleep(0.2)

    def _select(self, query: str) -> list[tuple[str, ...]]:
        with closing(
            sqlite3.connect(f"file:{self.line.root}/.factory/store.sqlite?mode=ro", uri=True)
        ) as con:
            return con.execute(query).fetchall()

    # ── the judging ──

    def _marks(self) -> dict[str, tuple[str, str]]:
        return {name: work.marks for name, work in self.dropped.items()}

    def _judge(self) -> None:
        theirs = self._person.theirs
        self._person.look()
        self._checker.settled(
            self.found,
            self._marks(),
            files=theirs.files,
            commits=theirs.commits,
            branches=theirs.branches,
        )
        self.found.changed += theirs.changed
        self._judged = True
        if fold(entries_of(self.line.store)) != tables(self.line.store):
            self.found.lost.append("the journal folded from empty is not the store")

    def report(self, seconds: float) -> str:
        """What was done, and what was found."""
        tables = ("state FROM unit", "coalesce(reason, 'open') FROM attempt", "kind FROM card")
        states, reasons, cards = (
            Counter(each for (each,) in self._select(f"SELECT {table}")) for table in tables
        )
        lines = [
            f"units {len(self.dropped)} ({_listed(states)}); attempts {_listed(reasons)}; cards {_listed(cards)}",
            f"kills {self.kills.total()} ({_listed(self.kills)}); not counted {self.uncounted}",
            f"per open step: {_listed(self.steps)}",
            f"disasters {self.disasters.hit.events.total()}: {self.disasters.hit}",
            f"person: {_listed(self._person.did)}; trunk by hand judged with {self._checker.gates_run} gate runs",
            f"wall time {seconds:.0f} s",
            str(self.found),
            *(f"odd card {each}" for each in self.odd_cards),
            *self.found.all,
        ]
        return "\n".join(lines)

    @property
    def good(self) -> bool:
        """Whether everything was as promised."""
        return self._judged and not self.found.all and not self.odd_cards


def _without_needs(text: str, names: set[str]) -> str:
    """The task file less what it needs of those units: the new life of the factory does not know them."""
    return "\n".join(
        line
        for line in text.split("\n")
        if not (line.startswith("needs:") and any(name in line for name in names))
    )


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common()) or "none"


def _full_disk(folder: Path) -> str:
    how = "tmpfs" if disk.tmpfs_works() else "injected"
    folder.mkdir()
    wrong = disk.run(folder, how)
    return f"full disk ({how}): {wrong or 'one card, nothing lost, went on by itself'}"


def main() -> int:
    """Run chaos as asked; 0 where nothing was found."""
    asked = argparse.ArgumentParser(prog="make chaos")
    asked.add_argument("--units", type=int, default=200)
    asked.add_argument("--kills", type=int, default=1000)
    asked.add_argument("--disasters", type=int, default=0)
    asked.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    asked.add_argument("--workers", type=int, default=4)
    asked.add_argument("--minutes", type=float, default=60)
    args = asked.parse_args()
    what = f"{args.units} units, {args.kills} kills, {args.disasters} disasters, {args.workers} workers"
    print(f"seed {args.seed}: {what}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    began = time.monotonic()
    chaos = Chaos(
        folder,
        seed=args.seed,
        units=args.units,
        kills=args.kills,
        workers=args.workers,
        seconds=60 * args.minutes,
        disasters=args.disasters,
    )
    try:
        chaos.run()
        print(_full_disk(folder / "disk"), flush=True)
    finally:
        print(chaos.report(time.monotonic() - began), flush=True)
        chaos.line.close()
        print(
            f"seed {args.seed}: {'all as promised' if chaos.good else f'see {folder}'}", flush=True
        )
    if chaos.good:
        shutil.rmtree(folder)
    return 0 if chaos.good else 1


if __name__ == "__main__":
    sys.exit(main())
