"""Makes a store that migrations are tested from, with the code that is checked out: `python -m tests.stores.make`.

A real line is brought into every state at once and its daemon is killed. What is left is packed as it lies on disk, by
the number of the store's format: the checkout with its `.factory`, and the workspaces. Nothing is made by hand, so run
this before the format changes, not after.
"""

import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from factory.store.opening import SCHEMA
from factory.store.records import Attempt, Card, CardKind, Fact
from factory.store.unit import Unit, UnitState
from tests.acceptance.line import AGENT, CONFIG, GATE, Line

LIMITED = """\
command = ["sh", "-c", "echo limit reached, resets $AT; exit 1"]
[set]
AT = "{reset}"
[limit]
patterns = ["limit reached, resets (?P<reset>[0-9]+)"]
"""
SCRIPTED = 'command = ["scripted", "{prompt_file}"]\nstop = { grace_s = 0.3 }\n'  # on PATH: no path of a machine
GO = 'os.environ["HOME"] + "/go"'  # where agents wait for a file; gates wait for one beside all work folders
SLOW_GATE = f"""{GATE.rstrip()} || exit 1
n=0; while [ -e slow.txt ] && [ ! -e ../../../../../../go ] && [ $n -lt 300 ]; do n=$((n+1)); sleep 0.1; done
"""
YEAR_3000 = 32503680000
OPEN = {
    "asks": UnitState.HELD,
    "meddles": UnitState.HELD,
    "works": UnitState.RUNNING,
    "queues": UnitState.QUEUED,
    "after": UnitState.WAITING,
    "rests": UnitState.WAITING,
    "rests-for-ever": UnitState.WAITING,
    "unable": UnitState.WAITING,
    "behind": UnitState.READY,
}


def make(folder: Path) -> None:
    """Bring the line in `folder` into every state, and kill its daemon."""
    contents = {
        "conventions/gates/10-whole.sh": SLOW_GATE,
        "conventions/runtimes/scripted.toml": SCRIPTED,
        "conventions/runtimes/tired.toml": LIMITED.format(reset=int(time.time()) + 3 * 86400),
        "conventions/runtimes/endless.toml": LIMITED.format(reset=YEAR_3000),
    }
    line = Line(folder, contents | {"factory.toml": CONFIG, "story.txt": "once upon a time\n"})
    (line.bin / "scripted").write_text(f"#!/usr/bin/env python3\n{AGENT.read_text()}")
    (line.bin / "scripted").chmod(0o755)
    line.start()

    line.drop(
        "first",
        'write("first.txt", "x"); leave("done.md", "The first of all\\n\\nIt wrote a file.\\n")',
    )
    line.drop("second", 'write("second.txt", "BROKEN" if attempt == 1 else "x")')
    for name in ("first", "second"):
        line.unit(name)
    parts = 'Path(OUTBOX, "split").mkdir(); leave("split/a.md", "Write a\\n"); leave("split/b.md", "Write b\\n")'
    line.drop("whole", f"import os; OUTBOX = os.environ['FACTORY_OUTBOX']; {parts}", attempts=1)
    line.unit("whole", UnitState.SPLIT)
    for name in ("whole-a", "whole-b"):
        line.unit(name, UnitState.HELD)
        line.factory("cancel", name)
        line.unit(name, UnitState.CANCELLED)

    ask = "---\\noptions: [left, right]\\n---\\nWhich way?\\n"
    line.drop(
        "asks",
        f'write("asks.txt", "x"); leave("question.md", "{ask}")',
        accept=["test -e asks.txt"],
    )
    line.drop(
        "meddles",
        'write("conventions/gates/20-more.sh", "true\\n")',
        scope=["conventions/**", "*.txt"],
    )
    line.drop("rests", "pass", agent="tired", minutes=2.5)
    line.drop("rests-for-ever", "pass", agent="endless")
    line.drop("unable", "pass", agent="nowhere")
    line.drop("queues", 'write("slow.txt", "x")', priority=1)
    line.drop("after", 'write("after.txt", "x")', needs=["queues"])
    for name in ("asks", "meddles", "rests", "rests-for-ever", "unable", "queues", "after"):
        line.unit(name, OPEN[name])
    line.drop("works", f'write("works.txt", "x"); hold({GO})')
    line.unit("works", UnitState.RUNNING)
    line.drop("works-too", f'write("works-too.txt", "x"); hold({GO})')
    line.unit("works-too", UnitState.RUNNING)
    line.drop("behind", 'write("behind.txt", "x")')
    line.unit("behind", UnitState.READY)
    for name in ("works", "works-too"):
        begun = line.workspace(name) / f"{name}.txt"
        line.until(f"{name} has begun", begun.exists)
    line.factory("tell", "works", "Mind the gap.")

    line.kill()
    _check(line)
    while left := line.left():
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _check(line: Line) -> None:
    """What is packed holds all that it is made for."""
    states = {unit.id: unit.state for unit in line.store.select(Unit)}
    assert states == OPEN | {
        "first": UnitState.LANDED,
        "second": UnitState.LANDED,
        "whole": UnitState.SPLIT,
        "whole-a": UnitState.CANCELLED,
        "whole-b": UnitState.CANCELLED,
        "works-too": UnitState.RUNNING,
    }, states
    assert {CardKind.QUESTION, CardKind.GUARD, CardKind.RUNTIME} <= {
        card.kind for card in line.store.open(Card)
    }
    assert {"tired", "endless"} <= line.fact("pauses").keys()
    assert line.attempts("second") == ["gate_red", "submitted"]
    assert len(line.store.open(Attempt)) == 2
    assert line.store.get(Fact, "trunk")
    line.store.close()


def main() -> None:
    """Pack a store of today's format beside this file, at a path that is nobody's."""
    target = Path(__file__).with_name(f"format-{SCHEMA}.tar.gz")
    folder = Path(tempfile.gettempdir()) / "example"
    folder.mkdir()
    make(folder)
    keep = ("repo", "state", "home", "bin")
    with tarfile.open(target, "w:gz") as packed:
        for name in keep:
            packed.add(folder / name, name)
    subprocess.run(["rm", "-rf", folder], check=True)
    print(f"{target.name}: {target.stat().st_size >> 10} KiB", file=sys.stderr)


if __name__ == "__main__":
    main()
