"""Measures factoryd and, in the same run on the same machine, the floor: bare processes or bare git for the same work.

start       the time from the drop of a task file until the agent reads the clock, on an idle worker
status      `factory status` with 5,000 finished units; the floor is `python -c pass`
idle        a daemon without work: processes started, CPU, memory. The floor is a process that imports the same
            modules, wakes up as often and visits all its objects (some systems take memory from sleeping processes)
throughput  100 units whose work and gate do nothing, on 4 workers; the floor is bare git (floor.py)
confined    start and throughput with the sandbox on, compared with the same without it

python benchmarks/run.py            about three minutes
python benchmarks/run.py --long     ten minutes idle, and more measurements
python benchmarks/run.py --write    the same, and writes the figures into docs/benchmarks.md and README.md
python benchmarks/run.py start idle --json
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import floor
from scene import BIN, Line, quantile, scratch

from factory.daemon import SCAN_SECONDS
from factory.store.accepted import spec_again
from factory.store.journal import Event
from factory.store.records import Attempt, Task
from factory.store.sqlite import SqliteStore
from factory.store.unit import EndReason, Unit, UnitState

FILES = 200
MODES = ("off", "required")
SLEEPER = f"import gc, time, factory.daemon\nwhile True: time.sleep({SCAN_SECONDS}); gc.collect()"
STAMP = "stamp.txt"  # in the tree that the agent works in
GREEN = {"conventions/gates/10-true.sh": "true\n"}
ROOT = Path(__file__).parent.parent
MARK = "<!-- bench -->"  # before and after a table that --write replaces
IN_README = (
    "drop → agent started, p50",
    "factory status",
    "units a minute",
)  # how the rows that it has too begin


@dataclass(frozen=True)
class Row:
    """One figure: as measured, its floor, and what one is of the other."""

    name: str
    ours: str
    floor: str
    ratio: str


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    drops: int
    looks: int
    idle_s: float
    units: int
    rounds: int


SHORT = Sizes(drops=100, looks=15, idle_s=60, units=100, rounds=3)
LONG = Sizes(drops=500, looks=40, idle_s=600, units=400, rounds=5)


# ── start ──


def start(folder: Path, sizes: Sizes) -> Iterator[Row]:
    ours = starts(folder, sizes.drops)
    bare = floor.starts(
        folder / "floor", times=sizes.drops, files=FILES, agent=stamping(), stamp=STAMP
    )
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        a, b = quantile(ours, share), quantile(bare, share)
        yield Row(f"drop → agent started, {name} of {len(ours)}", ms(a), ms(b), f"{a / b:.1f} ×")


def starts(folder: Path, drops: int, *, sandbox: str = "off") -> list[float]:
    """Each drop waits until the one before has landed, so that all workers are idle and nothing is being judged."""
    more = GREEN | {"conventions/runtimes/stamp.toml": f"command = {json.dumps(stamping())}\n"}
    line = Line(folder, files=FILES, more=more, workers=1, sandbox=sandbox)
    found = []
    with line.running():
        for number in range(drops + 1):
            began = line.drop(
                {f"unit-{number}.md": f"---\nagent: stamp\n---\nChange file {number}.\n"}
            )
            line.until(lambda least=number: line.landed() > least, "landing")
            found.append(float((line.root / STAMP).read_text()) - began)
    return found[1:]  # the first makes the workspace


def stamping() -> list[str]:
    """A program that writes down the time as the first thing it does."""
    if subprocess.run(["bash", "-c", "test -n $EPOCHREALTIME"], check=False).returncode == 0:
        return ["bash", "-c", f"echo $EPOCHREALTIME > {STAMP}"]
    return [
        sys.executable,
        "-I",
        "-S",
        "-c",
        f"import time; n = repr(time.time()); open({STAMP!r}, 'w').write(n)",
    ]


# ── status ──


def status(folder: Path, sizes: Sizes) -> Iterator[Row]:
    """Whole processes, turn and turn about."""
    line = Line(folder, files=1, more=GREEN)
    (line.root / ".factory").mkdir()
    remember(line.root / ".factory/store.sqlite", finished=5000)
    bare = [sys.executable, "-c", "pass"]
    ours: list[float] = []
    python: list[float] = []
    for _ in range(sizes.looks):
        ours.append(seconds([BIN / "factory", "status"], line))
        python.append(seconds(bare, line))
    a, b = statistics.median(ours), statistics.median(python)
    yield Row(
        "factory status, 5,000 finished units", ms(a), f"{ms(b)} (python -c pass)", f"{a / b:.1f} ×"
    )


def remember(path: Path, *, finished: int) -> None:
    """A store with so many landed units, each as the line leaves it: task, attempt, journal."""
    store = SqliteStore(path)
    at = datetime.now(UTC) - timedelta(days=30)
    with store.transaction():
        for number in range(finished):
            name, at = f"unit-{number}", at + timedelta(seconds=60)
            unit = Unit(
                id=name, title=f"Unit {number}", state=UnitState.LANDED, since=at, accepted=at
            )
            landed = replace(unit, attempt=1, commit="0" * 40, landed=at)
            text, file_name = "Do it.\n", f"{name}.md"
            spec = spec_again(text, unit=name, name=file_name, source=f"{number}-{file_name}")
            attempt = Attempt(unit=name, number=1, worker="w1", agent="claude", start=at)
            store.write(
                Event.TASK_ACCEPTED, unit, spec, Task(unit=name, text=text), now=at, unit=name
            )
            store.write(Event.HOOK_FILLED, attempt, now=at, unit=name, attempt=1)
            ended = replace(attempt, end=at, reason=EndReason.SUBMITTED)
            store.write(Event.ATTEMPT_ENDED, ended, now=at, unit=name, attempt=1)
            store.write(Event.UNIT_LANDED, landed, now=at, unit=name, attempt=1)
    store.close()


def seconds(argv: list[object], line: Line) -> float:
    began = time.perf_counter()
    subprocess.run(
        [str(part) for part in argv],
        cwd=line.root,
        env=line.env,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - began


# ── idle ──


def idle(folder: Path, sizes: Sizes) -> Iterator[Row]:
    """What /proc says of the daemon, and of children that it reaped, once one unit has landed and is put away."""
    line = Line(folder, files=FILES, more=GREEN)
    with line.running() as pid:
        line.drop({"unit-0.md": "---\nrun: echo 0 > unit-0.txt\n---\n"})
        line.until(lambda: line.landed() > 0, "landing")
        archived = "SELECT 1 FROM journal WHERE event = 'attempts.archived'"
        line.until(
            lambda: bool(line.ask(archived)),
            "archive of what it left, which is made within a minute",
        )
        with subprocess.Popen([sys.executable, "-c", SLEEPER]) as sleeper:
            time.sleep(3)
            before, slept_before = Process.look(pid), Process.look(sleeper.pid)
            time.sleep(sizes.idle_s)
            after, slept = Process.look(pid), Process.look(sleeper.pid)
            sleeper.kill()
    per_hour = 3600 / sizes.idle_s
    cpu, floor_cpu = (
        (after.cpu_s - before.cpu_s) * per_hour,
        (slept.cpu_s - slept_before.cpu_s) * per_hour,
    )
    wakes = (after.wakes - before.wakes) / sizes.idle_s
    started = "none" if after.child_faults == before.child_faults and not after.children else "some"
    yield Row(f"idle {sizes.idle_s:.0f} s: processes started", started, "none", "")
    yield Row(
        "idle: CPU seconds an hour",
        f"{cpu:.2f}",
        f"{floor_cpu:.2f} (wakes up as often)",
        f"{cpu / floor_cpu:.1f} ×",
    )
    yield Row("idle: wake-ups a second", f"{wakes:.2f}", "0", "")
    yield Row("idle: memory (RSS)", f"{after.rss_mib:.0f} MiB", "", "")


@dataclass(frozen=True)
class Process:
    """What /proc says of one process. No child is reaped without page faults, so these tell of every one there was."""

    cpu_s: float
    child_faults: int
    children: bool
    wakes: int
    rss_mib: float

    @classmethod
    def look(cls, pid: int) -> "Process":
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        lines = (line for each in threads for line in (each / "status").read_text().splitlines())
        return cls(
            cpu_s=sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e9,
            child_faults=int(fields[8]) + int(fields[10]),
            children=any((each / "children").read_text() for each in threads),
            wakes=sum(
                int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches")
            ),
            rss_mib=int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 2**20,
        )


# ── throughput ──


def throughput(folder: Path, sizes: Sizes) -> Iterator[Row]:
    """Turn and turn about with the floor; the middle of the rounds, and processes by a `git` that counts itself."""
    bare, ours = [], []
    for number in range(sizes.rounds):
        bare.append(
            floor.throughput(folder / f"floor{number}", units=sizes.units, workers=4, files=FILES)
        )
        ours.append(factory_throughput(folder / f"line{number}", units=sizes.units))
    a, b = statistics.median(ours), statistics.median(found["units_per_min"] for found in bare)
    yield Row(
        f"units a minute, {sizes.units} trivial ones, 4 workers",
        f"{a:.0f}",
        f"{b:.0f} (bare git)",
        f"{a / b:.0%}",
    )
    git = count_git(folder / "counted", units=40)
    yield Row(
        "git processes for a landed unit",
        f"{git:.1f}",
        f"{bare[0]['processes_per_unit'] - 2:.1f}",
        "",
    )


def factory_throughput(folder: Path, *, units: int, sandbox: str = "off") -> float:
    """Units a minute, from the first drop to the last landing, workers and bench warm."""
    line = Line(folder, files=FILES, more=GREEN, workers=4, sandbox=sandbox)
    with line.running():
        return 60 * units / land(line, units)


def land(line: Line, units: int) -> float:
    """Seconds from the drop to the last landing."""
    line.drop({f"warm-{number}.md": task(f"warm-{number}") for number in range(4)})
    line.until(lambda: line.landed() == 4, "landing of the first four")
    began = line.drop({f"unit-{number}.md": task(f"unit-{number}") for number in range(units)})
    line.until(lambda: line.landed() == units + 4, "landing of all", every=0.25)
    last = line.ask("SELECT max(landed) FROM unit")[0][0]
    return datetime.fromisoformat(last).timestamp() - began


def task(name: str) -> str:
    return f"---\nrun: echo {name} > {name}.txt\n---\n"


def count_git(folder: Path, *, units: int) -> float:
    """How often the daemon runs git for a unit."""
    calls, real = (
        folder / "calls",
        subprocess.run(["which", "git"], capture_output=True, text=True, check=True).stdout,
    )
    counting = folder / "bin/git"
    counting.parent.mkdir(parents=True)
    counting.write_text(f'#!/bin/sh\necho "$*" >> {calls}\nexec {real.strip()} "$@"\n')
    counting.chmod(0o755)
    line = Line(folder, files=FILES, more=GREEN, workers=4)
    line.env["PATH"] = f"{counting.parent}:{line.env['PATH']}"
    with line.running():
        line.drop({"warm.md": task("warm")})
        line.until(lambda: line.landed() == 1, "landing")
        before = len(calls.read_text().splitlines())
        line.drop({f"unit-{number}.md": task(f"unit-{number}") for number in range(units)})
        line.until(lambda: line.landed() == units + 1, "landing of all")
        return (len(calls.read_text().splitlines()) - before) / units


# ── confined ──


def confined(folder: Path, sizes: Sizes) -> Iterator[Row]:
    """Turn and turn about; where bubblewrap does not work, there is nothing to compare, and this fails."""
    begun = {
        mode: starts(folder / f"start-{mode}", sizes.drops // 2, sandbox=mode) for mode in MODES
    }
    units: dict[str, list[float]] = {mode: [] for mode in MODES}
    for number in range(sizes.rounds):
        for mode in MODES:
            units[mode].append(
                factory_throughput(folder / f"{mode}{number}", units=sizes.units, sandbox=mode)
            )
    off, on = (quantile(begun[mode], 0.5) for mode in MODES)
    yield Row(
        "in the sandbox: drop → agent started, p50",
        ms(on),
        f"{ms(off)} (without)",
        f"{on / off:.1f} ×",
    )
    off, on = (statistics.median(units[mode]) for mode in MODES)
    yield Row(
        "in the sandbox: units a minute", f"{on:.0f}", f"{off:.0f} (without)", f"{on / off:.0%}"
    )


# ── showing ──


FIGURES: Mapping[str, Callable[[Path, Sizes], Iterator[Row]]] = {
    "start": start,
    "status": status,
    "idle": idle,
    "throughput": throughput,
    "confined": confined,
}


def ms(value: float) -> str:
    return f"{1000 * value:.0f} ms"


def table(rows: list[Row]) -> Iterator[str]:
    """The rows as a table in Markdown."""
    yield "| figure | factoryd | floor | ratio |"
    yield "|---|---|---|---|"
    for row in rows:
        yield f"| {row.name} | {row.ours} | {row.floor} | {row.ratio} |"


def write(rows: list[Row]) -> None:
    """Put all rows into docs/benchmarks.md, and three of them into README.md."""
    few = [row for row in rows if row.name.startswith(IN_README)]
    _replace(ROOT / "docs/benchmarks.md", [*table(rows), "", machine()])
    _replace(ROOT / "README.md", [*table(few)])


def _replace(page: Path, lines: list[str]) -> None:
    before, _, after = page.read_text(encoding="utf-8").split(MARK)
    block = "\n".join([MARK, *lines, MARK])
    page.write_text(f"{before}{block}{after}", encoding="utf-8")


def main() -> int:
    """Measure what is asked for, and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "figure",
        nargs="*",
        metavar="FIGURE",
        choices=[[], *FIGURES],
        help="which ones; default: all",
    )
    parser.add_argument(
        "--long", action="store_true", help="ten minutes of idling, more of everything"
    )
    parser.add_argument(
        "--write", action="store_true", help="put the table into docs/benchmarks.md and README.md"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    args = parser.parse_args()
    if args.write and args.figure:
        parser.error("--write needs all figures: name none")
    rows: list[Row] = []
    for name in args.figure or FIGURES:
        print(f"measuring {name} …", file=sys.stderr)
        with scratch(f"bench-{name}-") as folder:
            rows += FIGURES[name](folder, LONG if args.long else SHORT)
    if args.write:
        write(rows)
    if args.json:
        print(
            json.dumps(
                {"machine": machine(), "figures": [asdict(row) for row in rows]},
                indent=1,
                ensure_ascii=False,
            )
        )
    else:
        print("\n".join([*table(rows), "", machine()]))
    return 0


def machine() -> str:
    release = ".".join(platform.release().split(".")[:2])
    return (
        f"{os.cpu_count()} cores, {platform.system()} {release}, Python {platform.python_version()}"
    )


if __name__ == "__main__":
    sys.exit(main())
