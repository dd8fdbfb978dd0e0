"""Drops a task file into the inbox, whole at once; `-` reads it from standard input. Says what became of it.

factory add fix-login.md
echo "Fix the login redirect" | factory add -
"""

import sys
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

from factory.cli import place, say
from factory.cli.check import content, read
from factory.stores import views
from factory.task_file import decode, numbered, slug

WAIT_S = 2.0


def run(args: Namespace) -> int:
    """Check it, drop it, and where the daemon is up say its unit."""
    top = Path(place.root())
    if args.file == "-":
        raw, name = sys.stdin.buffer.read(), ""
    else:
        raw, name = content(Path(args.file)), Path(args.file).name
    task = read(raw, name or "standard input")
    name = name if name.endswith(".md") else f"{name}.md" if name else _free(top, slug(task.title))
    with place.store(str(top)) as con:
        before = views.last_seq(con)
        _drop(top / "inbox", name, decode(raw))
        if views.daemon(con)["state"] == "stopped":
            print(f"dropped as inbox/{name}; the next start takes it (factoryd start)")
            return 0
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            for entry in views.log(con, after=before):
                if entry["event"].startswith("task.") and entry.get("name") == name:
                    return _told(entry)
            time.sleep(0.02)
    print(f"dropped as inbox/{name}; the daemon takes it soon (factory status)")
    return 0


def _told(entry: Mapping[str, str]) -> int:
    verb = entry["event"].removeprefix("task.")
    print(f"{verb}: {entry['unit'] or entry['name']}" + (f": {say.line(entry['why'])}" if entry.get("why") else ""))
    return 1 if verb == "rejected" else 0


def _free(top: Path, base: str) -> str:
    """A file name that stands for no other task that waits: standard input never replaces one."""
    with place.store(str(top)) as con:
        names = (base, *(numbered(base, number) for number in range(2, 10_000)))
        return next(f"{name}.md" for name in names if not views.show(con, name) and not _waits(top, f"{name}.md"))


def _waits(top: Path, name: str) -> bool:
    return (top / "inbox" / name).exists() or any((top / ".factory" / "intake").glob(f"*-{name}"))


def _drop(inbox: Path, name: str, text: str) -> None:
    # Renamed into place, so that the daemon never sees half of it; names with a dot in front are not its business.
    inbox.mkdir(exist_ok=True)
    half = inbox / f".{name}.{time.monotonic_ns()}"
    half.write_text(text, encoding="utf-8", newline="")
    half.replace(inbox / name)
