"""What a unit costs a daemon with a long history: CPU and bytes written, on stores with few and with many finished units.

The stores are filled by tests/finished.py. Each line lands the same units in turn, some at a time, so that whatever else
the machine does meets all of them. `make growth` measures 100 to 100,000 finished units and draws docs/growth.svg.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.line import Line, files
from tests.finished import fill, multiply

SIZES = (100, 1000, 10_000, 100_000)
UNITS = 200
AT_A_TIME = 20
MOST_FILLED = 2000  # more finished units are copies of these
MOST = 1.2  # so many times the cost with the shortest history is allowed with the longest
PATIENCE_S = 300.0
LOOK_S = 0.25  # a reader that looks more often keeps SQLite from starting its log anew
PICTURE = Path(__file__).parents[2] / "docs/growth.svg"
PLANS = Path(__file__).with_name("plans.py")
_TICK = os.sysconf("SC_CLK_TCK")
_LANDED = "SELECT count(*) FROM journal WHERE seq > ? AND event = 'unit.landed'"


@dataclass(frozen=True, slots=True)
class Cost:
    """What so many units cost a daemon and all its children."""

    cpu_s: float = 0.0
    written: int = 0  # bytes that had to go to a disk
    units: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.cpu_s + other.cpu_s, self.written + other.written, self.units + other.units
        )

    @property
    def cpu_ms(self) -> float:
        """Milliseconds for a unit."""
        return 1000 * self.cpu_s / self.units

    @property
    def kib(self) -> float:
        """KiB for a unit."""
        return self.written / 1024 / self.units


class Grown:
    """A line with so many finished units, and its daemon."""

    def __init__(
        self, folder: Path, finished: int, *, plans: Path | None = None, restarts: bool = True
    ) -> None:
        """`plans`: the file for queries that scan the history; without it nobody looks at plans.

        `restarts`: whether another daemon starts with the filled store.
        """
        # One worker, because a workspace is made once for each. The worst case: nothing is compacted.
        config = 'agent = "scripted"\nworkers = 1\n[keep]\ndays = 0\n'
        folder.mkdir()
        self.line = Line(folder, files() | {"factory.toml": config})
        self._count = 0
        self._finished = finished
        self._plans = plans
        self._restarts = restarts

    @contextmanager
    def running(self) -> Iterator["Grown"]:
        """Fill the store and run the daemon inside the block; two units land before it."""
        try:
            if self._plans:
                self._plans.touch()
                self.line.program = (str(PLANS), str(self.line.root), str(self._plans))
            self.line.start()
            self.land(1)
            filled = min(self._finished, MOST_FILLED)
            fill(self.line.store, filled)
            multiply(self.line.store, self._finished // filled - 1)
            if self._restarts:
                self.line.stop()
                self._reopen()
                self.line.start()
            self.land(1)
            # the log begins empty, so that its pages cost each line the same
            self.line.store._con.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            yield self
        finally:
            self._end()

    def _reopen(self) -> None:
        self.line.store.close()
        self.line._store = None

    def _end(self) -> None:
        """Stop the daemon. The line's own check at its end would look for the filled commits."""
        daemon = self.line.daemon
        if daemon is not None:
            daemon.send_signal(signal.SIGINT)
            daemon.wait(PATIENCE_S)
            self.line.daemon = None
        self._reopen()

    def land(self, units: int) -> Cost:
        """Drop so many tasks, and return what they cost once they have landed."""
        store = self.line.store
        mark = store.last_seq()
        cpu_s, written = self._used()
        for _ in range(units):
            self._count += 1
            name = f"page-{self._count}"
            self.line.drop_text(name, f"---\nrun: echo {name} > {name}.txt\n---\n")
        deadline = time.monotonic() + PATIENCE_S
        while store._con.execute(_LANDED, (mark,)).fetchone()[0] < units:
            assert time.monotonic() < deadline, self.line.story()
            time.sleep(LOOK_S)
        time.sleep(LOOK_S)  # the last pass of the line belongs to its units
        cpu_after, written_after = self._used()
        return Cost(cpu_after - cpu_s, written_after - written, units)

    def _used(self) -> tuple[float, int]:
        """CPU seconds and bytes written of the daemon and of all children that have ended."""
        assert self.line.daemon is not None
        proc = Path(f"/proc/{self.line.daemon.pid}")
        fields = (proc / "stat").read_text().rpartition(")")[2].split()
        ticks = sum(map(int, fields[11:15]))
        told = dict(row.split(": ") for row in (proc / "io").read_text().splitlines())
        return ticks / _TICK, int(told["write_bytes"])


def measure(folder: Path, sizes: Sequence[int], *, units: int, at_a_time: int) -> dict[int, Cost]:
    """The cost of so many units, by the number of finished units."""
    lines = dict[int, Grown]()
    with ExitStack() as running:
        for size in sizes:
            began = time.monotonic()
            lines[size] = running.enter_context(Grown(folder / str(size), size).running())
            took = time.monotonic() - began
            print(f"{size} finished units are there after {took:.0f} s", file=sys.stderr)
        costs = dict.fromkeys(sizes, Cost())
        for _ in range(units // at_a_time):
            for size, grown in lines.items():
                costs[size] += grown.land(at_a_time)
        return costs


def ratios(costs: Mapping[int, Cost]) -> tuple[float, float]:
    """CPU and bytes of a unit with the longest history, over those with the shortest."""
    few, many = costs[min(costs)], costs[max(costs)]
    return many.cpu_ms / few.cpu_ms, many.kib / few.kib


def table(costs: Mapping[int, Cost]) -> str:
    """The costs, and how often the longest history costs the shortest."""
    rows = [f"{'finished units':>14} {'CPU ms a unit':>14} {'KiB a unit':>11}"]
    for size, cost in costs.items():
        rows.append(f"{size:14,} {cost.cpu_ms:14.1f} {cost.kib:11.0f}")
    cpu, written = ratios(costs)
    rows.append(f"{'ratio':>14} {cpu:14.2f} {written:11.2f}")
    rows.append(f"{'at most':>14} {MOST:14.2f} {MOST:11.2f}")
    return "\n".join(rows)


# ── the picture ──

WIDE, HIGH, LEFT, TOP = 420, 200, 60, 50
HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">
<title>What a unit costs, by the number of finished units in the store</title>
<style>
text {{ font: 13px system-ui, sans-serif; fill: #e6edf3 }} .dim {{ fill: #9198a1; font-size: 12px }}
.grid {{ stroke: #30363d }} .line {{ fill: none; stroke: #56d364; stroke-width: 2 }} .dot {{ fill: #56d364 }}
</style>
<rect width="100%" height="100%" rx="8" fill="#0d1117"/>
"""


def draw(costs: Mapping[int, Cost]) -> str:
    """Two curves: CPU and bytes for a unit. The axes begin at zero."""
    width, height = 2 * (WIDE + LEFT) + LEFT // 2, HIGH + TOP + 60
    rows = [HEAD.format(width=width, height=height)]
    cpu = {size: cost.cpu_ms for size, cost in costs.items()}
    written = {size: cost.kib for size, cost in costs.items()}
    rows += _curve("CPU of the daemon and its children, ms a unit", cpu, LEFT)
    rows += _curve("Written to disk, KiB a unit", written, WIDE + 2 * LEFT)
    return "".join([*rows, "</svg>\n"])


def _curve(title: str, values: Mapping[int, float], left: int) -> list[str]:
    top = max(values.values()) * 1.25
    bottom = TOP + HIGH
    rows = [f'<text x="{left}" y="{TOP - 22}">{title}</text>\n']
    for part in range(5):
        y = bottom - HIGH * part / 4
        rows.append(f'<path class="grid" d="M{left} {y:.0f}h{WIDE}"/>\n')
        label = f"{top * part / 4:,.0f}"
        rows.append(
            f'<text class="dim" x="{left - 8}" y="{y + 4:.0f}" text-anchor="end">{label}</text>\n'
        )
    points = []
    for at, (size, value) in enumerate(values.items()):
        x = left + WIDE * (at + 0.5) / len(values)
        y = bottom - HIGH * value / top
        points.append(f"{x:.0f},{y:.0f}")
        rows.append(f'<circle class="dot" cx="{x:.0f}" cy="{y:.0f}" r="4"/>\n')
        rows.append(
            f'<text x="{x:.0f}" y="{y - 10:.0f}" text-anchor="middle">{value:,.0f}</text>\n'
        )
        rows.append(
            f'<text class="dim" x="{x:.0f}" y="{bottom + 20}" text-anchor="middle">{size:,}</text>\n'
        )
    rows.append(f'<polyline class="line" points="{" ".join(points)}"/>\n')
    middle = left + WIDE // 2
    rows.append(
        f'<text class="dim" x="{middle}" y="{bottom + 42}" text-anchor="middle">finished units in the store</text>\n'
    )
    return rows


def main() -> int:
    """Measure, print the table, and draw the picture; 1 if a long history costs too much."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="finished units")
    parser.add_argument("--units", type=int, default=UNITS, help="units that each line lands")
    parser.add_argument("--draw", action="store_true", help="write docs/growth.svg")
    args = parser.parse_args()
    sizes = [int(size) for size in args.sizes.split(",")]
    with tempfile.TemporaryDirectory(prefix="growth-", dir=os.environ.get("TMPDIR")) as folder:
        costs = measure(Path(folder), sizes, units=args.units, at_a_time=AT_A_TIME)
    print(table(costs))
    if args.draw:
        PICTURE.write_text(draw(costs))
    return int(max(ratios(costs)) > MOST)


if __name__ == "__main__":
    sys.exit(main())
