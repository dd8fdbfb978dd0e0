"""A full disk: the line pauses with one card, loses nothing, and goes on by itself.

`python -m tests.chaos.disk FOLDER tmpfs` runs where FOLDER may be filled to the last byte: a small tmpfs in a name
space of its own (`unshare -Urm`). `… injected` runs anywhere: what looks for room, SQLite and git are told that there
is none, as long as a file says so.
"""

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from factory.store.records import Attempt, Card, CardKind
from factory.store.unit import Unit, UnitState
from tests.acceptance.line import Line

SIZE_MB = 256
QUIET_S = 7.0  # longer than any loop leaves alone what broke
INJECTED = """
    import os, sqlite3
    FLAG, real_statvfs, real_connect = os.environ["CHAOS_FULL"], os.statvfs, sqlite3.connect

    def statvfs(path):
        seen = real_statvfs(path)
        return os.statvfs_result((*seen[:3], 0, 0, *seen[5:10])) if os.path.exists(FLAG) else seen

    class Connection(sqlite3.Connection):
        def execute(self, sql, *args):
            if os.path.exists(FLAG + ".quite") and not sql.startswith(("SELECT", "PRAGMA", "ROLLBACK")):
                raise sqlite3.OperationalError("database or disk is full")
            return super().execute(sql, *args)

    os.statvfs = statvfs
    sqlite3.connect = lambda *args, **how: real_connect(*args, **({"factory": Connection} | how))
"""
WRITES = (
    "add",
    "commit-tree",
    "fetch",
    "merge",
    "merge-tree",
    "read-tree",
    "unpack-objects",
    "update-ref",
    "write-tree",
)


class Tmpfs:
    """A disk of SIZE_MB, filled by a file."""

    def __init__(self, line: Line) -> None:
        self._filler, self.environ = line.folder / "filler", dict[str, str]()

    def fill(self, leave_mb: int) -> None:
        """Leave so much room, or none at all."""
        about = os.statvfs(self._filler.parent)
        left = about.f_bavail * about.f_frsize - (leave_mb << 20)
        with self._filler.open("ab", buffering=0) as file, suppress(OSError):
            while left > 0 or not leave_mb:
                left -= file.write(b"x" * min(1 << 16, left if leave_mb else 1 << 16))

    def free(self) -> None:
        """Make room again."""
        self._filler.unlink()


class Injected:
    """A disk that is said to be full."""

    def __init__(self, line: Line) -> None:
        self._flags = [line.folder / "full", line.folder / "full.quite"]
        patch = line.folder / "patch"
        patch.mkdir()
        (patch / "sitecustomize.py").write_text(textwrap.dedent(INJECTED))
        self.environ = {"PYTHONPATH": str(patch), "CHAOS_FULL": str(self._flags[0])}
        line.wrap_git(on="nothing")
        real = (line.bin / "git").read_text()
        when = "|".join(f'*" {word} "*' for word in WRITES)
        said = 'echo "fatal: could not write: No space left on device" >&2; exit 128;; esac; fi'
        full = f'if [ -e {self._flags[1]} ]; then case " $* " in {when}) {said}\n'
        (line.bin / "git").write_text(real.replace("#!/bin/sh\n", f"#!/bin/sh\n{full}", 1))

    def fill(self, leave_mb: int) -> None:
        """Leave too little room, or none at all."""
        for flag in self._flags[: 1 if leave_mb else 2]:
            flag.touch()

    def free(self) -> None:
        """Make room again."""
        for flag in self._flags:
            flag.unlink(missing_ok=True)


def play(folder: Path, make: Callable[[Line], Tmpfs | Injected]) -> None:
    """A line with one worker runs into a full disk, is killed on it, and has its room back."""
    line = Line(folder)
    line.configure_before('agent = "scripted"\nworkers = 1\n')
    disk = make(line)
    try:
        line.start(**disk.environ)
        _play(line, disk)
    finally:
        disk.free() if isinstance(disk, Injected) else (folder / "filler").unlink(missing_ok=True)
        line.close()


def _play(line: Line, disk: Tmpfs | Injected) -> None:
    go = line.folder / "go"
    line.drop("first", 'write("first.txt", "x")')
    line.unit("first")
    line.drop("under-way", f'write("under-way.txt", "x"); hold("{go}")')
    line.attempt("under-way")
    behind = [line.drop(f"behind-{number}", f'write("{number}.txt", "x")') for number in range(3)]
    line.until(
        "they are ready", lambda: sum(unit in behind for unit in _open(line, UnitState.READY)) == 3
    )

    disk.fill(leave_mb=30)
    line.drop("nudge", 'write("nudge.txt", "x")')
    card = line.card(CardKind.DISK, count=4)
    assert (
        f"The disk of {line.root / '.factory'} is full: the line needs 64 MiB there"
        in card.question
    )
    assert _open(line, UnitState.WAITING) == sorted([*behind, "nudge"])

    disk.fill(leave_mb=0)
    go.touch()
    time.sleep(QUIET_S)
    assert line.daemon is not None
    assert line.daemon.poll() is None, line.story()
    code, said = line.factory("status")
    assert (code, "full" in said) == (0, True), said
    assert len(line.store.select(Attempt)) == 2, "nothing new was started"
    line.kill()
    code, said = line.factory("status")
    assert (code, "full" in said) == (0, True), said

    disk.free()
    line.start(**disk.environ)
    for name in ("under-way", *behind, "nudge"):
        line.unit(name)
    line.no_card(CardKind.DISK)
    assert [each.kind for each in line.store.select(Card)] == [CardKind.DISK], "one cause, one card"
    line.stop()
    disk.fill(leave_mb=0)
    code, said = line.factory("status")
    assert (code, "is full" in " ".join(said.split())) == (0, isinstance(disk, Tmpfs)), (
        said
    )  # the command looks at the real one
    disk.free()
    line.start(**disk.environ)
    assert line.attempts("under-way") == ["submitted"], (
        f"it had ended, and its work was kept\n{line.story()}"
    )


def _open(line: Line, state: UnitState) -> list[str]:
    return sorted(unit.id for unit in line.store.open(Unit) if unit.state is state)


def tmpfs_works() -> bool:
    """Whether a file system can be mounted in a name space of one's own here."""
    with_mount = ["unshare", "-Urm", "mount", "-t", "tmpfs", "none", "/mnt"]
    try:
        return subprocess.run(with_mount, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def run(folder: Path, how: str) -> str:
    """Play it in a process of its own; what went wrong, or nothing."""
    inside = f'"{sys.executable}" -m tests.chaos.disk "{folder}" {how}'
    mount = f'mount -t tmpfs -o size={SIZE_MB}m none "{folder}" && exec {inside}'
    command = (
        ["unshare", "-Urm", "sh", "-c", mount] if how == "tmpfs" else ["sh", "-c", f"exec {inside}"]
    )
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr


if __name__ == "__main__":
    play(Path(sys.argv[1]), Tmpfs if sys.argv[2] == "tmpfs" else Injected)
