"""A scratch repository, and a real daemon on it: what the benchmarks run in."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

MESSAGE = "Unit {0}\n\nFactory-Unit: unit-{0}"
BIN = Path(sys.executable).parent
PATIENCE_S = 300.0


def environment(folder: Path) -> dict[str, str]:
    """Neither this machine's configuration nor its keys; HOME and everything of the factory's below `folder`."""
    home = folder / "home"
    home.mkdir(parents=True, exist_ok=True)
    who = {
        f"GIT_{role}_{what}": text
        for role in ("AUTHOR", "COMMITTER")
        for what, text in _WHO.items()
    }
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        **who,
    }


_WHO = {"NAME": "bench", "EMAIL": "bench@example.invalid"}


def make_repository(
    path: Path, *, files: int, env: Mapping[str, str], more: Mapping[str, str] | None = None
) -> Path:
    """A repository of so many small files, fifty in a folder, and `more`, in one commit on main."""
    for number in range(files):
        file = path / f"src/part{number // 50}/file{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"line of file {number}\n" * 40)
    for name, text in (more or {}).items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
        (path / name).chmod(0o755 if text.startswith("#!") else 0o644)
    for argv in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "start"]):
        subprocess.run(["git", *argv], cwd=path, env=env, check=True)
    return path


class Line:
    """A factory's repository with its daemon, spoken to as a user does: files, commands, and the store to read from."""

    def __init__(
        self,
        folder: Path,
        *,
        files: int,
        more: Mapping[str, str],
        workers: int = 3,
        sandbox: str = "off",
    ) -> None:
        self.env = environment(folder) | {
            "FACTORY__WORKERS": str(workers),
            "FACTORY__SANDBOX__MODE": sandbox,
        }
        self.root = make_repository(folder / "repo", files=files, env=self.env, more=more)
        self._drops = folder / "drops"
        self._drops.mkdir()

    def command(self, name: str, *argv: str) -> str:
        """What one of our commands prints; it has to succeed."""
        done = subprocess.run(
            [BIN / name, *argv], cwd=self.root, env=self.env, capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(
                f"{name} {' '.join(argv)} ended with {done.returncode}: {done.stderr.strip()[-2000:]}"
            )
        return done.stdout

    @contextmanager
    def running(self) -> Iterator[int]:
        """A daemon with a green trunk, by its pid; stopped afterwards."""
        self.command("factoryd", "start")
        try:
            self.until(lambda: self.status()["trunk"]["state"] == "green", "a green trunk")
            yield int((self.root / ".factory/daemon.pid").read_text())
        finally:
            self.command("factoryd", "stop", "--now")

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.command("factory", "status", "--json")))

    def drop(self, tasks: Mapping[str, str]) -> float:
        """Put task files into the inbox, each in one step; the time just before the first."""
        for name, text in tasks.items():
            (self._drops / name).write_text(text)
        began = time.time()
        for name in tasks:
            (self._drops / name).rename(self.root / "inbox" / name)
        return began

    def ask(self, query: str, *args: object) -> list[Any]:
        """What the store says, by a connection of one's own."""
        with closing(
            sqlite3.connect(f"file:{self.root}/.factory/store.sqlite?mode=ro", uri=True)
        ) as con:
            return con.execute(query, args).fetchall()

    def landed(self) -> int:
        return int(self.ask("SELECT count(*) FROM unit WHERE state = 'landed'")[0][0])

    def until(self, true: Callable[[], bool], what: str, *, every: float = 0.05) -> None:
        """Wait for something; whatever stands in its way is said."""
        deadline = time.monotonic() + PATIENCE_S
        while not true():
            cards = self.ask("SELECT question FROM card WHERE state = 'open'")
            if cards or time.monotonic() > deadline:
                raise SystemExit(f"no {what} in {self.root}: {cards or self.status()}")
            time.sleep(every)


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """A folder that goes with the block."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
