"""An agent that does all it can to hang or fill the daemon: `make hostile` measures what that costs the daemon.

Each deed is a task whose agent runs the Python in it. For each the table tells the daemon's largest memory, its longest
turn, and how long after the agent's exit its end was recorded. Add a deed to DEEDS.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from factory.store.records import Attempt, Card, CardKind
from factory.store.unit import Unit, UnitState
from tests.acceptance.line import AGENT, Line, files
from tests.attempt.test_outbox import ALIASES

PATIENCE_S = 240.0
MOST_MB, MOST_TURN_S, MOST_LATE_S = 200, 0.2, 5.0
TURNS = Path(__file__).with_name("turns.py")
RULES = """
stop = { grace_s = 0.3 }
[output]
format = "jsonl"
session = "*:session"
tool_open = "open:ids"
tool_close = "close:ids"
step = "*:step"
result = "*:result"
error = "*:error"
[output.usage]
mode = "step"
input = "*:got"
output = "*:gave"
cost = "*:cost"
[limit]
patterns = ['limit reached, resets (?P<reset>\\S+)']
reset = "*:reset"
"""
REPORTS = '\n[output]\nformat = "text"\nreport = "report.json"\nresult = "*:info.submission"\n'
CALM = "write(os.environ['FACTORY_UNIT'] + '.txt', 'fine')"


def lands(line: Line, unit: str) -> None:
    """The work lands."""
    line.until(f"{unit} lands", lambda: _state(line, unit) is UnitState.LANDED, seconds=PATIENCE_S)


def _state(line: Line, unit: str) -> UnitState | None:
    found = line.store.get(Unit, unit)
    return found.state if found else None


def counts(line: Line, unit: str) -> None:
    """All that it told of its tokens is known, or it is said that it is not."""
    line.unit(unit)
    attempt = line.store.get(Attempt, unit, 1)
    printed = (line.places.run_dir(unit, 1) / "output.log").read_text().count("open")
    assert attempt is not None
    assert attempt.tokens_input == printed or (
        "were not read" in attempt.digest and attempt.estimated
    )


def asks(line: Line, unit: str) -> None:
    """A person is asked and answers; then the work lands."""
    line.answer(line.card(CardKind.QUESTION), "blue")
    line.unit(unit)


def rests(line: Line, unit: str) -> None:
    """The runtime rests no longer than for a limit that names no reset."""
    (rest,) = line.fact("pauses").values()
    assert datetime.fromisoformat(rest["until"]) < datetime.now(UTC) + timedelta(minutes=15)
    assert line.factory("cancel", unit)[0] == 0
    line.unit(unit, UnitState.CANCELLED)


def is_refused(line: Line, unit: str) -> None:
    """A person is asked about rules that it changed, or about how much it left, and cancels."""

    def asked() -> Card | None:
        return next((card for card in line.store.open(Card) if card.unit == unit), None)

    card = line.until(f"{unit} is asked about", asked, seconds=PATIENCE_S)
    assert card.kind is CardKind.GUARD
    line.answer(card, "Cancel")
    line.unit(unit, UnitState.CANCELLED)


def is_not_split(line: Line, unit: str) -> None:
    """What it wrote in place of a change is refused."""
    assert line.attempts(unit)[0] == "empty"
    line.unit(unit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """What the agent does; `scale` in its code is 1, or less in a short run. `then`: what the line makes of it."""

    name: str
    code: str
    agent: str = "hostile"
    then: Callable[[Line, str], None] = lands
    short: bool = True  # it is done in the short run too
    late_s: float = MOST_LATE_S  # what git takes to store its files is not the daemon's


STORING_S = 120.0
DEEDS: Sequence[Deed] = (
    Deed(
        name="yes-as-events",
        code="""
            import subprocess
            with subprocess.Popen(['yes']) as yes:
                time.sleep(14 * scale)
                yes.kill()
            write(os.environ['FACTORY_UNIT'] + '.txt', 'fine')
            """,
    ),
    Deed(
        name="yes-as-text",
        short=False,
        agent="scripted",
        code="""
            import subprocess
            with subprocess.Popen(['yes']) as yes:
                time.sleep(14 * scale)
                yes.kill()
            write(os.environ['FACTORY_UNIT'] + '.txt', 'fine')
            """,
    ),
    Deed(
        name="open-tools",
        then=counts,
        code="""
            size = number = 0
            while size < scale * (32 << 20):
                number += 1
                line = '{"type": "open", "ids": ["tool-%d"], "got": 1, "gave": 1, "cost": 0.0001}\\n' % number
                size += len(line)
                sys.stdout.write(line)
            write(os.environ['FACTORY_UNIT'] + '.txt', 'fine')
            """,
    ),
    Deed(
        name="long-line",
        code="""
            chunk = b'x' * (1 << 20)
            for _ in range(int(500 * scale)):
                os.write(1, chunk)
            write(os.environ['FACTORY_UNIT'] + '.txt', 'fine')
            """,
    ),
    Deed(
        name="small-lists",
        code="""
            event = '{"type": "say", "step": [' + '[],' * ((1 << 21) // 3 - 20) + '1]}\\n'
            for _ in range(int(10 * scale) or 1):
                sys.stdout.write(event)
            write(os.environ['FACTORY_UNIT'] + '.txt', 'fine')
            """,
    ),
    Deed(
        name="odd-values",
        code="""
            for value in ('NaN', 'Infinity', '-1', '1e308', '9' * 4000, '[' * 900 + ']' * 900, '{"a": 1}', 'null'):
                keys = ('got', 'gave', 'cost', 'result', 'session', 'error', 'step', 'ids')
                print('{"type": "open", ' + ', '.join(f'"{key}": {value}' for key in keys) + '}')
            print('{"type": "say", "got": 1e12, "gave": 1e12, "cost": 1e12}\\n' * int(20000 * scale))
            write(os.environ['FACTORY_UNIT'] + '.txt', 'fine')
            """,
    ),
    Deed(
        name="yaml-aliases",
        then=asks,
        code=f"""
            if attempt == 1:
                leave('question.md', {ALIASES + "options: [*l, *m]" + chr(10) + "---" + chr(10) + "Red or blue?"!r})
            else:
                write(os.environ['FACTORY_UNIT'] + '.txt', 'fine')
            """,
    ),
    Deed(
        name="yaml-in-parts",
        then=is_not_split,
        code="""
            if attempt == 1:
                (Path(os.environ['FACTORY_OUTBOX']) / 'split').mkdir()
                for number in range(20):
                    leave(f'split/{number}.md', '---\\nneeds: [' + '19,' * 140 + ']\\n---\\nx')
            else:
                write(os.environ['FACTORY_UNIT'] + '.txt', 'fine')
            """,
    ),
    Deed(
        name="endless-files",
        code="""
            for name in ('done.md', 'handoff.md'):
                with open(Path(os.environ['FACTORY_OUTBOX']) / name, 'wb') as file:
                    file.write(b'Well done\\n')
                    file.truncate(8 << 30)
            write(os.environ['FACTORY_UNIT'] + '.txt', 'fine')
            """,
    ),
    Deed(
        name="large-report",
        agent="reports",
        code="""
            with open(Path(os.environ['FACTORY_OUTBOX']).parent / 'own/report.json', 'wb') as file:
                file.write(b'{"info": [')
                for _ in range(int(60 * scale) or 1):
                    file.write(b'[],' * (1 << 18))
            write(os.environ['FACTORY_UNIT'] + '.txt', 'fine')
            """,
    ),
    Deed(
        name="wide-rules",
        then=is_refused,
        code="""
            write('conventions/workspace/setup.sh', '# inputs: ' + 'a*b*c ' * int(160000 * scale) + '\\ntrue\\n')
            write('conventions/gates/20-x.toml', 'command = ' + '[' * 100000)
            write('pyproject.toml', 'a = ' + '[' * 500000)
            write('package.json', '{"a":' * 200000)
            write('mypy.ini', '[mypy]\\n' * 100000)
            write('Makefile', 'check\\n' * 150000)
            write('.gitattributes', '* text\\n' * 100000)
            """,
    ),
    Deed(
        name="many-files",
        code="""
            for number in range(int(2000 * scale)):
                write(f"{os.environ['FACTORY_UNIT']}/{number % 100}/test_{number}.py", 'def test(): ...')
            """,
    ),
    Deed(
        name="long-messages",
        code="""
            for name, line in (('done.md', 'Do it\\n' + '\\n' * 65000), ('handoff.md', '{{ ' * 20000)):
                leave(name, line)
            write(os.environ['FACTORY_UNIT'] + '.txt', 'fine')
            """,
    ),
    Deed(
        name="large-test",
        short=False,
        then=is_refused,
        late_s=STORING_S,
        code="""
            Path('a').mkdir(exist_ok=True)
            with open('a/test_big.py', 'wb') as file:  # among the first twenty tests
                file.truncate(int(scale * (700 << 20)))
            """,
    ),
    Deed(
        name="sparse-file",
        then=is_refused,
        code="""
            with open('huge.bin', 'wb') as file:
                file.truncate(18 << 30)
            """,
    ),
    Deed(
        name="too-many-files",
        short=False,
        then=is_refused,
        late_s=STORING_S,
        code="""
            for number in range(51_000 + int(scale * 149_000)):
                folder = f'many/{number // 1000}'
                os.makedirs(folder, exist_ok=True)
                os.close(os.open(f'{folder}/{number}', os.O_CREAT))
            """,
    ),
    Deed(
        name="long-paths",
        short=False,
        then=is_refused,
        late_s=STORING_S,
        code="""
            deep = '/'.join(['d' * 250] * 15)
            os.makedirs(deep)
            os.chdir(deep)
            for number in range(int(scale * 200_000)):
                os.close(os.open(str(number), os.O_CREAT))
            """,
    ),
    Deed(
        name="many-changes",
        short=False,
        late_s=STORING_S,
        code="""
            for number in range(int(scale * 49_000)):
                folder = os.environ['FACTORY_UNIT'] + f'/{number // 1000}'
                os.makedirs(folder, exist_ok=True)
                os.close(os.open(f'{folder}/{number:060}', os.O_CREAT))
            """,
    ),
    Deed(
        name="link-circles",
        code="""
            for name, to in (('loop', 'loop'), ('one', 'two/x'), ('two', 'one/y'), ('requirements', 'requirements')):
                Path(os.environ['FACTORY_UNIT'] + name).symlink_to(os.environ['FACTORY_UNIT'] + to)
            """,
    ),
    Deed(
        name="far-reset",
        agent="limited",
        then=rests,
        code="print('limit reached, resets 32503680000'); print('limit reached, resets 32503680000000'); sys.exit(1)",
    ),
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one deed cost the daemon."""

    deed: str
    memory_mb: float
    turn_s: float
    step: str
    late_s: float  # from the agent's exit to the record of its end
    may_be_late_s: float

    @property
    def is_fine(self) -> bool:
        """Whether all that was promised holds."""
        return (
            self.memory_mb < MOST_MB
            and self.turn_s <= MOST_TURN_S
            and self.late_s <= self.may_be_late_s
        )


class Hostile:
    """One line and its measured daemon."""

    def __init__(self, folder: Path, *, scale: float) -> None:
        self._scale, self._turns, self._count = scale, folder / "turns.jsonl", 0
        command = f'command = ["{sys.executable}", "-I", "-S", "{AGENT}", "{{prompt_file}}"]'
        own = {"hostile": RULES, "limited": RULES, "reports": REPORTS}
        more = {
            f"conventions/runtimes/{name}.toml": f"{command}{rules}" for name, rules in own.items()
        }
        self.line = Line(
            folder, files() | more | {"factory.toml": 'agent = "scripted"\nworkers = 4\n'}
        )
        self.line.program = (str(TURNS), str(self.line.root), str(self._turns))

    def start(self) -> None:
        """Start the daemon, and let one calm unit land: what comes first costs more."""
        self.line.start()
        self.line.drop("calm", CALM)
        self.line.unit("calm")

    def measure(self, *deeds: Deed) -> Cost:
        """Let agents do these at the same time, see what the line makes of each, and tell what it all cost."""
        line, pid = self.line, self.line.daemon.pid if self.line.daemon else 0
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the largest memory is counted anew
        began = time.time()
        names = {deed: f"{deed.name}-{self._count}" for deed in deeds}
        self._count += 1
        for deed, name in names.items():
            line.drop(
                name, f"scale = {self._scale}\n{_dedented(deed.code)}", agent=deed.agent, attempts=2
            )
        late, may_be_late = max(map(self._late, names.values())), max(deed.late_s for deed in deeds)
        for deed, name in names.items():
            deed.then(line, name)
        status = Path(f"/proc/{pid}/status").read_text()
        memory = (
            next(int(row.split()[1]) for row in status.splitlines() if row.startswith("VmHWM:"))
            / 1024
        )
        turn, step = self._longest(began)
        what = deeds[0].name if len(deeds) == 1 else f"these {len(deeds)} at once"
        return Cost(what, memory, turn, step, late, may_be_late)

    def _late(self, unit: str) -> float:
        """How long after the exit of its first agent that was on record."""
        ended = self.line.until(f"{unit} has ended", lambda: self._first(unit), seconds=PATIENCE_S)
        exited = json.loads((self.line.places.run_dir(unit, 1) / "exit.json").read_bytes())["at"]
        assert ended.end is not None
        return float(ended.end.timestamp() - exited)

    def _first(self, unit: str) -> Attempt | None:
        attempt = self.line.store.get(Attempt, unit, 1)
        return attempt if attempt and attempt.end else None

    def _longest(self, since: float) -> tuple[float, str]:
        rows = [json.loads(row) for row in self._turns.read_text().splitlines()]
        found = [(row["cpu"], row["step"]) for row in rows if row["at"] >= since]
        return max(found, default=(0.0, ""))


def _dedented(code: str) -> str:
    return "\n".join(line.removeprefix(" " * 12) for line in code.strip("\n").splitlines())


def table(costs: Sequence[Cost]) -> str:
    """All costs, and the worst of each."""
    rows = [f"{'deed':16} {'memory MB':>10} {'turn s':>8} {'late s':>7}  longest step"]
    for cost in costs:
        sign = "" if cost.is_fine else "  ← too much"
        rows.append(
            f"{cost.deed:16} {cost.memory_mb:10.0f} {cost.turn_s:8.3f} {cost.late_s:7.2f}  {cost.step}{sign}"
        )
    worst = [
        max(each) for each in zip(*((c.memory_mb, c.turn_s, c.late_s) for c in costs), strict=True)
    ]
    rows.append(f"{'worst':16} {worst[0]:10.0f} {worst[1]:8.3f} {worst[2]:7.2f}")
    rows.append(
        f"{'promised':16} {'< ' + str(MOST_MB):>10} {'≤ ' + str(MOST_TURN_S):>8} {'≤ ' + str(MOST_LATE_S):>7}"
    )
    return "\n".join(rows)


def main() -> int:
    """Do every deed, or those that are named, and print the table; 1 where one cost too much."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="less for a shorter run")
    parser.add_argument("deeds", nargs="*", help="names; all without")
    args = parser.parse_args()
    asked = [deed for deed in DEEDS if not args.deeds or deed.name in args.deeds]
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        hostile = Hostile(Path(folder), scale=args.scale)
        try:
            hostile.start()
            costs = []
            for deed in asked:
                costs.append(hostile.measure(deed))
                print(f"{deed.name} is done", file=sys.stderr)
            if len(asked) > 1:
                costs.append(hostile.measure(*asked))
        finally:
            hostile.line.close()
    print(table(costs))
    return int(not all(cost.is_fine for cost in costs))


if __name__ == "__main__":
    sys.exit(main())
