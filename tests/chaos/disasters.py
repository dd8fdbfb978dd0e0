"""What happens to a factory from outside: its folder deleted, its store put back or cut, its repository copied or
moved, trunk rewritten, the store held by another program, git refused.

Each is done while something is under way, and counted by what that was: an agent at work, a unit being judged, a
landing open. The processes of the line are left as they are, unless the disaster itself ends them.
"""

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.acceptance.line import Line
from tests.chaos import procs
from tests.git_repo import git

FRAME, HEAD = 24 + 4096, 32  # bytes of a page in the store's log, and of the log's head
HELD_S = 6.0  # longer than the factory waits for its store
REFUSED_S = 1.5
GONE_S = 40.0
WORDS = '*" unpack-objects "*|*" index-pack "*'
SAYS = "error: insufficient permission for adding an object to repository database .git/objects"


@dataclass(slots=True)
class Hit:
    """What was done, and in which states of the line."""

    events: Counter[str] = field(default_factory=Counter)
    states: dict[str, Counter[str]] = field(default_factory=dict)

    def count(self, event: str, states: set[str]) -> None:
        """One more, while so much was under way."""
        self.events[event] += 1
        self.states.setdefault(event, Counter()).update(states)

    def __str__(self) -> str:
        return "; ".join(
            f"{name} {count} ({_listed(self.states[name])})"
            for name, count in sorted(self.events.items())
        )


class Disasters:
    """What can be done to one line. `found` gets a sentence for each promise that was broken by the way."""

    def __init__(self, line: Line, rng: random.Random, found: list[str]) -> None:
        self._line, self._rng, self._found = line, rng, found
        self.hit = Hit()
        self.forgotten: set[str] = set()  # units that landed in an earlier life of the factory
        self._backup = line.folder / "backup.sqlite"
        self._refusing = line.folder / "refuse"
        self._wrap_git()

    def all(self) -> dict[str, Callable[[], bool]]:
        """The disasters, by name; each says whether it was done."""
        return {
            "delete": self.delete,
            "restore": self.restore,
            "cut": self.cut,
            "copy": self.copy,
            "move": self.move,
            "rewrite": self.rewrite,
            "unlock": self.unlock,
            "hold": self.hold,
            "refuse": self.refuse,
        }

    def back_up(self) -> None:
        """Make a copy of the store, as a person does before they go home."""
        with (
            closing(self._connection()) as source,
            closing(sqlite3.connect(self._backup)) as target,
        ):
            source.backup(target)

    def states(self) -> set[str]:
        """What is under way, as the store says."""
        found = set()
        with contextlib.suppress(sqlite3.Error), closing(self._connection()) as con:
            for name, query in (
                ("agent", "SELECT 1 FROM hook WHERE unit != '' AND phase = 'working'"),
                ("judging", "SELECT 1 FROM unit WHERE state = 'queued'"),
                ("landing", "SELECT 1 FROM step WHERE done = 0"),
            ):
                if con.execute(query).fetchone():
                    found.add(name)
        return found

    # ── the disasters ──

    def delete(self) -> bool:
        """`git clean -xdf` beside a running daemon, which then goes by itself; its agents live on."""
        with self._still() as states:
            _remove(self._line.places.home)
            shutil.rmtree(self._line.root / "inbox", ignore_errors=True)
        self._let_go_of_store()
        daemon = self._line.daemon
        assert daemon is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self._rng.random() < 0.5:
                daemon.kill()
            daemon.wait(GONE_S)
        if daemon.poll() is None:
            self._found.append("a daemon whose folder was deleted did not go")
            daemon.kill()
        daemon.wait()
        self._line.daemon = None
        self._until_quiet()
        self.forgotten |= set(self._line.on_trunk())
        self._backup.unlink(missing_ok=True)
        self.hit.count("delete", states)
        return True

    def restore(self) -> bool:
        """A copy of the store is put back after the daemon was killed."""
        if not self._backup.exists():
            return False
        states = self._kill()
        for name in ("store.sqlite", "store.sqlite-wal", "store.sqlite-shm"):
            (self._line.places.home / name).unlink(missing_ok=True)
        shutil.copyfile(self._backup, self._line.places.store)
        self.hit.count("restore", states)
        return True

    def cut(self) -> bool:
        """A power cut takes the last pages of the store's log."""
        if not self._log().exists():
            return False
        kept = self._line.folder / "kept-log"
        with self._still() as states:
            shutil.copyfile(self._log(), kept)
            shutil.copyfile(self._line.places.store, kept.with_suffix(".store"))
        self._kill()
        frames = (kept.stat().st_size - HEAD) // FRAME
        if frames < 1:
            return False
        os.truncate(kept, HEAD + max(0, frames - self._rng.randint(1, 20)) * FRAME)
        shutil.copyfile(kept.with_suffix(".store"), self._line.places.store)
        shutil.copyfile(kept, self._log())
        self._log().with_name("store.sqlite-shm").unlink(missing_ok=True)
        self.hit.count("cut", states)
        return True

    def copy(self) -> bool:
        """`cp -a` beside the daemon; the copy is started, stopped and thrown away, and nothing of the original ends."""
        folder = self._line.folder / "elsewhere"
        with self._still() as states:
            shutil.copytree(
                self._line.root,
                folder / "copy",
                symlinks=True,
                ignore=shutil.ignore_patterns("*.lock"),
            )
        copy = Line(folder, name="copy")
        copy.bin.rmdir()
        copy.bin.symlink_to(self._line.bin)
        daemon = self._line.daemon
        assert daemon is not None
        try:
            copy.factoryd("stop")
            copy.start()
            copy.stop()
            if daemon.poll() is not None:
                self._found.append("a start or a stop in a copy ended the daemon of the original")
            open_ones = [
                unit
                for unit, state in _units(copy)
                if state not in ("landed", "split", "cancelled")
            ]
            if open_ones:
                self._found.append(f"a copy went on with {open_ones}")
        finally:
            if copy._store:
                copy._store.close()
            if copy.daemon is not None:
                copy.daemon.kill()
                copy.daemon.wait()
        shutil.rmtree(folder)
        self.hit.count("copy", states)
        return True

    def move(self) -> bool:
        """The repository gets another path and later its old one, whatever still runs in it."""
        states = self._kill()
        there = self._line.root.with_name("moved")
        self._line.root.rename(there)
        moved = Line(self._line.folder, name="moved")
        try:
            moved.start()
            moved.stop(signal.SIGHUP if self._rng.random() < 0.5 else signal.SIGINT)
        finally:
            if moved._store:
                moved._store.close()
            if moved.daemon is not None:
                moved.daemon.kill()
                moved.daemon.wait()
        # A git of the killed daemon may have made empty folders at the old path.
        if not any(path.is_file() for path in self._line.root.rglob("*")):
            shutil.rmtree(self._line.root, ignore_errors=True)
        there.rename(self._line.root)
        self.hit.count("move", states)
        return True

    def rewrite(self) -> bool:
        """What a pull with rebase does to the newest commits, where all of them are the factory's."""
        with self._still() as states:
            root = self._line.root
            if git(root, "rev-parse", "--abbrev-ref", "HEAD") != "main" or git(
                root, "status", "--porcelain", "-uno"
            ):
                return False
            authors = git(root, "log", "-3", "--format=%ae", "main").splitlines()
            if set(authors) != {"agent@factoryd.invalid"}:
                return False
            depth = self._rng.randint(1, 2)
            base = git(root, "rev-parse", f"main~{depth}")
            tree = git(root, "rev-parse", f"{base}^{{tree}}")
            below = git(
                root,
                "commit-tree",
                tree,
                "-p",
                base,
                "-m",
                f"By hand, pulled {time.monotonic_ns()}",
            )
            if (
                git(root, "rebase", "-q", "--onto", below, base, "main", ok=False)
                or (root / ".git/rebase-merge").exists()
            ):
                git(root, "rebase", "--abort", ok=False)
                return False
        self.hit.count("rewrite", states)
        return True

    def unlock(self) -> bool:
        """Somebody deletes whatever looks like a forgotten lock of git."""
        with self._still() as states:
            for lock in (self._line.root / ".git").rglob("*.lock"):
                lock.unlink()
            self._line.places.lock.unlink(missing_ok=True)
        first, second = self._line.daemon, self._line.launch()
        assert first is not None
        deadline = time.monotonic() + GONE_S
        while first.poll() is None and second.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        if first.poll() is None and second.poll() is None:
            self._found.append("two daemons run")
            second.kill()
        self._line.daemon = first if first.poll() is None else second
        for each in (first, second):
            if each is not self._line.daemon:
                each.wait()
        self.hit.count("unlock", states)
        return True

    def hold(self) -> bool:
        """A backup program holds the store for longer than the factory waits for it."""
        states = self.states()
        with closing(self._connection("rwc")) as con, contextlib.suppress(sqlite3.Error):
            con.execute("PRAGMA busy_timeout = 3000")
            con.execute("BEGIN IMMEDIATE")
            time.sleep(HELD_S)
            states |= self.states()
            con.execute("ROLLBACK")
        self.hit.count("hold", states)
        return True

    def refuse(self) -> bool:
        """For a moment git may not write into the user's repository, as after a `sudo git`."""
        states = self.states()
        self._refusing.touch()
        time.sleep(REFUSED_S)
        states |= self.states()
        self._refusing.unlink()
        self.hit.count("refuse", states)
        return True

    # ── how ──

    @contextmanager
    def _still(self) -> Iterator[set[str]]:
        """Hold the daemon, once no git of it is at work, and tell what is under way."""
        daemon = self._line.daemon
        assert daemon is not None
        daemon.send_signal(signal.SIGSTOP)
        self._until_quiet()
        try:
            yield self.states()
        finally:
            daemon.send_signal(signal.SIGCONT)

    def _kill(self) -> set[str]:
        with self._still() as states:
            assert self._line.daemon is not None
            self._line.daemon.kill()
        self._line.gone()
        self._let_go_of_store()
        self._until_quiet()
        return states

    def _until_quiet(self) -> None:
        deadline = time.monotonic() + 20
        while any(procs.at_work_in(self._line.root)) and time.monotonic() < deadline:
            time.sleep(0.01)

    def _let_go_of_store(self) -> None:
        if self._line._store:
            self._line._store.close()
            self._line._store = None

    def _log(self) -> Path:
        return self._line.places.store.with_name("store.sqlite-wal")

    def _connection(self, mode: str = "ro") -> sqlite3.Connection:
        return sqlite3.connect(
            f"file:{self._line.places.store}?mode={mode}", uri=True, isolation_level=None
        )

    def _wrap_git(self) -> None:
        """Put a git on the daemon's PATH that refuses to take objects while a file says so."""
        real = shutil.which("git")
        refused = f'if [ -e "{self._refusing}" ]; then case " $* " in {WORDS}) echo "{SAYS}" >&2; exit 128;; esac; fi'
        (self._line.bin / "git").write_text(f'#!/bin/sh\n{refused}\nexec {real} "$@"\n')
        (self._line.bin / "git").chmod(0o755)


def _units(line: Line) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(f"file:{line.places.store}?mode=ro", uri=True)) as con:
        return con.execute("SELECT id, state FROM unit").fetchall()


def _listed(counts: Counter[str]) -> str:
    return (
        ", ".join(f"{name} {count}" for name, count in counts.most_common()) or "nothing under way"
    )


def _remove(folder: Path) -> None:
    """Remove a folder in which a git may still write, as a person would: again and again."""
    for _ in range(50):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)
    shutil.rmtree(folder)
