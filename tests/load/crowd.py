"""A crowd of task files dropped at once over a long history: `make load` measures what they cost the daemon.

For each crowd the table tells the daemon's longest turn, the most CPU time that it used between a message (`factory
tell`) and its effect, how long `stop --now` took, and the daemon's CPU time for each task file. Add a crowd to CROWDS.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from factory.store.asking import make_request, writing
from factory.store.journal import Event
from factory.store.records import Fact, Hook, Request
from factory.store.sqlite import SqliteStore
from factory.store.unit import FINAL, Unit
from factory.store.views import now_text, open_store
from tests.acceptance.line import Line, files, task
from tests.finished import fill

MOST_TURN_S = 0.2
MOST_TELL_S = 0.5
TELLS = 100
INTAKE_S = 600.0
ON_S = 20.0  # how long the line works on, after the last file was accepted
TURNS = Path(__file__).with_name("turns.py")
CODE = "write(os.environ['FACTORY_UNIT'] + '.txt', 'fine')"


def scoped(number: int) -> str:
    """A task with a proof and two globs; ten tasks share a folder."""
    front = {
        "scope": [f"pages/{number // 10}/**", f"notes/{number}-*.md"],
        "accept": [f"test -f pages/{number // 10}/{number}.txt"],
    }
    return task(f"write('pages/{number // 10}/{number}.txt', 'fine')", **front)


def plain(number: int) -> str:
    """A task without a scope."""
    return task(CODE)


@dataclass(frozen=True, slots=True)
class Crowd:
    """Task files dropped at once, and the finished units before them."""

    name: str
    text: Callable[[int], str]
    size: int
    finished: int


CROWDS: Sequence[Crowd] = (
    Crowd("scoped", scoped, 500, 10_000),
    Crowd("plain", plain, 2_000, 10_000),
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one crowd cost the daemon."""

    crowd: str
    turn_s: float
    step: str
    tell_s: float  # the daemon's CPU time from a message to its effect
    tells: int  # messages with an effect
    stop_s: float
    intake_s: float  # the daemon's CPU time until the last file was accepted
    after_s: float  # the daemon's CPU time after that

    @property
    def is_fine(self) -> bool:
        """Whether all that was promised holds."""
        return self.turn_s <= MOST_TURN_S and self.tell_s <= MOST_TELL_S


class Measured:
    """One line with a history, and its measured daemon."""

    def __init__(self, folder: Path, crowd: Crowd) -> None:
        self._crowd = crowd
        self._turns = folder / "turns.jsonl"
        self.line = Line(folder, files() | {"factory.toml": 'agent = "scripted"\nworkers = 3\n'})
        self.line.is_checked = False
        self.line.program = (str(TURNS), str(self.line.root), str(self._turns))

    def run(self, *, tells: int = TELLS, on_s: float = ON_S) -> Cost:
        """Fill the store, start, let one calm unit land, drop the crowd, and measure."""
        line = self.line
        self._fill()
        line.start()
        line.drop("calm", CODE)
        line.unit("calm")
        line.drop("patient", "pass", needs=["never"])
        line.until("patient is accepted", lambda: line.store.get(Unit, "patient"))
        began, cpu = time.time(), self._cpu()
        self._drop()
        told = list(self._tell(tells))
        line.until("all files are accepted", self._are_accepted, seconds=INTAKE_S)
        accepted = self._cpu()
        time.sleep(on_s)
        done = self._cpu()
        stopped = time.monotonic()
        code, said = line.factoryd("stop", "--now")
        assert code == 0, said
        assert line.daemon is not None
        line.daemon.wait()
        line.daemon = None
        turn, step = self._longest(began)
        return Cost(
            self._crowd.name,
            turn,
            step,
            max(told),
            len(told),
            time.monotonic() - stopped,
            accepted - cpu,
            done - accepted,
        )

    def _fill(self) -> None:
        self.line.start()
        self.line.stop()
        store = SqliteStore(self.line.places.store)
        trunk = store.get(Fact, "trunk")
        hooks = store.select(Hook)
        fill(store, self._crowd.finished)
        assert trunk is not None
        store.write(Event.FACT_CHANGED, trunk, *hooks, now=datetime.now(UTC))  # as the line is now
        store.close()

    def _drop(self) -> None:
        """Put all files into the inbox with one rename each, so that all of them are complete."""
        aside = self.line.folder / "crowd"
        aside.mkdir()
        for number in range(self._crowd.size):
            (aside / f"task-{number}.md").write_text(self._crowd.text(number))
        for number in range(self._crowd.size):
            name = f"task-{number}.md"
            (aside / name).rename(self.line.root / "inbox" / name)

    def _are_accepted(self) -> bool:
        return not any((self.line.root / "inbox").glob("*.md"))

    def _tell(self, count: int) -> Iterator[float]:
        """Send messages one after the other; yield what each cost the daemon."""
        con = open_store(str(self.line.places.store), write=True)
        for number in range(count):
            unit = self._open_unit(number)
            with writing(con):
                made = make_request(con, "tell", {"unit": unit, "text": "shorter"}, now_text())
            before = self._cpu()
            (self.line.places.home / "wake").write_text("")
            done = partial(self._is_done, made)
            self.line.until("the message has an effect", done, seconds=INTAKE_S)
            yield self._cpu() - before
        con.close()

    def _open_unit(self, number: int) -> str:
        unit = self.line.store.get(Unit, f"task-{number * 7 % self._crowd.size}")
        return unit.id if unit and unit.state not in FINAL else "patient"

    def _is_done(self, number: int) -> bool:
        request = self.line.store.get(Request, number)
        assert request is not None
        return request.state != "pending"

    def _cpu(self) -> float:
        """The CPU time that the thread of the daemon's loop has used."""
        assert self.line.daemon is not None
        pid = self.line.daemon.pid
        return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9

    def _longest(self, since: float) -> tuple[float, str]:
        rows = [json.loads(row) for row in self._turns.read_text().splitlines()]
        found = [(row["cpu"], row["step"]) for row in rows if row["at"] >= since]
        return max(found, default=(0.0, ""))


def table(costs: Sequence[Cost]) -> str:
    """All costs."""
    heads = ("turn s", "tell s", "tells", "stop s", "intake s", "after s")
    rows = [f"{'crowd':10}" + "".join(f"{head:>10}" for head in heads) + "  longest step"]
    for cost in costs:
        sign = "" if cost.is_fine else "  ← too much"
        rows.append(
            f"{cost.crowd:10}{cost.turn_s:10.3f}{cost.tell_s:10.3f}{cost.tells:10}{cost.stop_s:10.2f}"
            f"{cost.intake_s:10.2f}{cost.after_s:10.2f}  {cost.step}{sign}"
        )
    rows.append(f"{'promised':10}{f'≤ {MOST_TURN_S}':>10}{f'≤ {MOST_TELL_S}':>10}{TELLS:10}")
    return "\n".join(rows)


def main() -> int:
    """Measure every crowd, or those that are named, and print the table; 1 where one cost too much."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="less for a shorter run")
    parser.add_argument("crowds", nargs="*", help="names; all without")
    args = parser.parse_args()
    costs = []
    for crowd in CROWDS:
        if args.crowds and crowd.name not in args.crowds:
            continue
        scaled = replace(
            crowd, size=int(crowd.size * args.scale), finished=int(crowd.finished * args.scale)
        )
        with tempfile.TemporaryDirectory(prefix="load-") as folder:
            measured = Measured(Path(folder), scaled)
            try:
                costs.append(measured.run())
            finally:
                measured.line.close()
    print(table(costs))
    return int(not all(cost.is_fine for cost in costs))


if __name__ == "__main__":
    sys.exit(main())
