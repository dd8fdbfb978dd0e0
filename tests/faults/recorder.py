"""`python -m tests.faults.recorder ROOT FILE`: the daemon, with each of its mutating calls and their brackets in FILE.

Python's own audit events tell of every file that is opened for writing, moved, made or removed, of every process that
is started or signalled; of the store's statements its connection tells.
"""

import json
import os
import sqlite3
import sys
from typing import Any

from factory import daemon
from factory.ground import faults

FILES = {"os.rename": (0, 1), "os.remove": (0,), "os.mkdir": (0,), "os.rmdir": (0,), "os.link": (0, 1),
         "os.symlink": (0, 1), "os.chmod": (0,), "os.truncate": (0,), "os.utime": (0,), "shutil.rmtree": (0,),
         "shutil.copyfile": (0, 1), "shutil.move": (0, 1), "os.mkfifo": (0,), "os.setxattr": (0,)}  # fmt: skip
SIGNALS = (
    "os.kill",
    "os.killpg",
    "signal.pthread_kill",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = ("INSERT", "UPDATE", "DELETE", "REPLACE", "CREATE", "DROP", "ALTER")
READS = {"version", "blame", "rev-parse", "ls-tree", "cat-file", "diff-tree", "diff-index", "for-each-ref", "ls-files",
         "check-ignore",
         "symbolic-ref", "reflog", "rev-list", "worktree", "status", "config", "log", "merge-base", "check-attr",
         "diff-files", "pack-objects", "show"}  # fmt: skip


class Recorder:
    """Writes down each mutating call as a line of JSON: what, on what, and the open brackets."""

    def __init__(self, out: int) -> None:
        self._out, self._connect = out, sqlite3.connect

    def watch(self) -> None:
        """From now on."""
        sqlite3.connect = self.connect  # type: ignore[assignment]
        sys.addaudithook(self.heard)

    def tell(self, event: str, what: str) -> None:
        """One call."""
        os.write(self._out, (json.dumps([event, what, faults.OPEN.get()]) + "\n").encode())

    def heard(self, event: str, args: tuple[Any, ...]) -> None:
        """One audit event."""
        if event == "open":
            path, _, flags = args
            if isinstance(flags, int) and flags & WRITES and not isinstance(path, int):
                self.tell(event, os.fsdecode(path))
        elif event in FILES:
            self.tell(event, " ".join(str(args[at]) for at in FILES[event]))
        elif event == "subprocess.Popen" and (
            said := _mutates([os.fsdecode(part) for part in args[1]])
        ):
            self.tell(event, said)
        elif event in SIGNALS:
            self.tell(event, repr(args))

    def connect(self, *args: Any, **named: Any) -> sqlite3.Connection:
        """A connection that tells of what it commits."""
        made: sqlite3.Connection = self._connect(*args, **named)
        changed = False

        def traced(statement: str) -> None:
            nonlocal changed
            changed = changed or statement.startswith(CHANGES)
            if changed and (statement == "COMMIT" or not made.in_transaction):
                self.tell("sqlite", statement[:60])
                changed = False

        made.set_trace_callback(traced)
        return made


def _mutates(argv: list[str]) -> str:
    """The command, unless it is a git that only reads."""
    if "git" not in argv:
        return " ".join(argv)
    rest = argv[argv.index("git") + 1 :]
    while rest and rest[0].startswith("-"):
        rest = rest[2 if rest[0] == "-c" else 1 :]
    return "" if rest[0] in READS else " ".join(["git", *rest])


if __name__ == "__main__":
    Recorder(os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)).watch()
    sys.exit(daemon.main(sys.argv[1:2]))
