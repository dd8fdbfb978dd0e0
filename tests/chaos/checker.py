"""The judge of a chaos run: what line.md §6 promises, read from git, /proc and files.

Invariant: nothing of the product is imported. The store is opened with sqlite3, for what the product *claims*; whether
that is so, git says.
"""

import json
import os
import sqlite3
import subprocess
import tarfile
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from tests.chaos import procs

GATES = "conventions/gates"
FINAL = ("landed", "split", "cancelled")


@dataclass(slots=True)
class Found:
    """What is not as promised, by promise; all empty is a pass."""

    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    red: list[str] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"lost {len(self.lost)}, twice {len(self.twice)}, red trunk {len(self.red)}, strays {len(self.strays)}, "
            f"user files changed {len(self.changed)}"
        )

    @property
    def all(self) -> list[str]:
        """Every finding."""
        return [*self.lost, *self.twice, *self.red, *self.strays, *self.changed]


class Checker:
    """Looks at the line of one repository: `folder` holds all of it, `root` is the checkout."""

    def __init__(self, folder: Path, root: Path, *, branch: str = "main") -> None:
        self._folder, self._root, self._branch = folder, root, branch
        self._home = root / ".factory"
        self._green = set[str]()  # trees whose gates passed by hand
        self.forgotten = set[
            str
        ]()  # units that landed in an earlier life of the factory: no record tells of them
        self.gates_run = 0

    def look(self, found: Found, dropped: Mapping[str, tuple[str, str]]) -> None:
        """What holds at any instant, even between a SIGKILL and the next start.

        `dropped`: the name of each task file, with the path and content that its landing puts on trunk.
        """
        self._inbox(found, dropped)
        self._trailers(found, dropped)
        self._greens(found)

    def settled(
        self,
        found: Found,
        dropped: Mapping[str, tuple[str, str]],
        *,
        files: Mapping[str, bytes],
        commits: Collection[str],
        branches: Mapping[str, str],
    ) -> None:
        """What holds once a line that had its time has been stopped; the rest is what a person calls theirs."""
        self.look(found, dropped)
        self._claims(found, dropped)
        self._attempts(found)
        self._strays(found)
        self._theirs(found, files, commits, branches)

    # ── nothing lost ──

    def _inbox(self, found: Found, dropped: Iterable[str]) -> None:
        """A task file is in the inbox, on its way, or a unit."""
        # In this order: a file that moves on meanwhile is met again further down.
        there = {path.stem for path in (self._root / "inbox").glob("*.md")}
        there |= {path.stem.partition("-")[2] for path in (self._home / "intake").glob("*.md")}
        units = {Path(name).stem for (name,) in self._claimed("SELECT name FROM spec")}
        there |= self.forgotten
        found.lost += [
            f"task file {name} is gone and no unit" for name in dropped if name not in there | units
        ]

    def _claims(self, found: Found, dropped: Iterable[str]) -> None:
        """Each unit is over, or held by an open card; a landed one is where it says, and no other is on trunk."""
        cards = self._claimed("SELECT units, question FROM card WHERE state = 'open'")
        asked = {unit: question for units, question in cards for unit in json.loads(units)}
        trunk = set(self._git("rev-list", self._branch).split())
        once = set(self._git("reflog", "show", "--format=%H", f"refs/heads/{self._branch}").split())
        landed = set[str]()
        for unit, state, why, commit in self._claimed(
            "SELECT id, state, why, 'commit' FROM unit".replace("'", '"')
        ):
            if state == "landed":
                landed.add(unit)
                if commit not in trunk | once:
                    found.lost.append(
                        f"{unit} says that it landed as {commit[:10]}, which trunk never was"
                    )
            elif state not in FINAL and unit not in asked:
                found.lost.append(f"{unit} is {state} and no card says why ({why})")
        on_trunk = {unit for _, unit in self._landings()} - self.forgotten
        found.lost += [
            f"{unit} is on trunk and not on record" for unit in sorted(on_trunk - landed)
        ]
        known = {unit for (unit,) in self._claimed("SELECT unit FROM spec")} | self.forgotten
        found.lost += [f"{name} never became a unit" for name in dropped if name not in known]
        for whole, needs in self._claimed("SELECT id, needs FROM unit WHERE state = 'split'"):
            parts = set(json.loads(needs))
            found.lost += [
                f"{part}, a part of {whole}, is no unit" for part in sorted(parts - known)
            ]
            others = known - parts - self.forgotten
            again = sorted(name for name in others if name.startswith(f"{whole}-"))
            found.twice += [f"{whole} was split twice: {again}"] if again or len(parts) < 2 else []

    def _attempts(self, found: Found) -> None:
        """The tree of each attempt that is over can be reached from a ref of the factory repository."""
        git = self._home / "git"
        kept = set(self._git("rev-list", "--all", git_dir=git).split())
        for unit, number, reason, commit in self._claimed(
            'SELECT "unit", "number", "reason", "commit" FROM attempt WHERE "end" IS NOT NULL'
        ):
            if commit and commit not in kept:
                found.lost.append(f"the tree of attempt {number} of {unit} ({reason}) is not kept")
        broken = subprocess.run(
            ["git", "--git-dir", git, "fsck", "--connectivity-only", "--no-dangling"],
            env=_environment(),
            capture_output=True,
            text=True,
        )
        if broken.returncode:
            found.lost.append(
                f"the factory repository is damaged: {broken.stdout[:300]}{broken.stderr[:300]}"
            )

    # ── exactly once, and green ──

    def _landings(self) -> list[tuple[str, str]]:
        """Commit and unit of each landing on trunk, newest first."""
        form = "%H %(trailers:key=Factory-Unit,valueonly,separator=%x2c)"
        lines = self._git("log", "--first-parent", f"--format={form}", self._branch).splitlines()
        return [
            (commit, unit) for commit, _, unit in (line.partition(" ") for line in lines) if unit
        ]

    def _trailers(self, found: Found, dropped: Mapping[str, tuple[str, str]]) -> None:
        landings = self._landings()
        counts = Counter(unit for _, unit in landings)
        found.twice += [
            f"{unit} landed {count} times" for unit, count in counts.items() if count > 1
        ]
        for commit, unit in landings:
            path, content = dropped.get(unit, ("", ""))
            if path and self._git("show", f"{commit}:{path}", ok=False) != content:
                found.lost.append(f"{unit} landed as {commit[:10]} without its work ({path})")

    def _greens(self, found: Found) -> None:
        """Every commit that trunk has had passes its own gates in a clean export."""
        lines = self._git("log", "--first-parent", "--format=%H %T", self._branch).splitlines()
        for commit, tree in (line.split() for line in lines):
            if tree not in self._green:
                if said := self._gate(tree):
                    found.red.append(f"trunk was red at {commit[:10]}: {said}")
                self._green.add(tree)

    def _gate(self, tree: str) -> str:
        """What a gate says against the tree; empty where all are green."""
        packed = subprocess.run(
            ["git", "archive", tree], cwd=self._root, capture_output=True, check=True
        ).stdout
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            with tarfile.open(fileobj=BytesIO(packed)) as archive:
                archive.extractall(folder, filter="data")
            for gate in sorted(Path(folder, GATES).glob("*.sh")):
                self.gates_run += 1
                env = _environment() | {"CHAOS_GATE_S": "0"}
                done = subprocess.run(
                    ["sh", gate], cwd=folder, env=env, capture_output=True, text=True
                )
                if done.returncode:
                    return f"{gate.name}: {done.stdout[-200:]}{done.stderr[-200:]}"
        return ""

    # ── strays, and what is the user's ──

    def _strays(self, found: Found) -> None:
        for process in procs.marked(self._folder):
            found.strays.append(
                f"process {process.pid} of {process.run} lives: {' '.join(process.argv)[:120]}"
            )
        for place in (self._root / ".git", self._home):
            locks = list(place.rglob("*.lock"))
            found.strays += [f"lock {path.relative_to(self._root)}" for path in locks]
        for name in ("MERGE_HEAD", "rebase-merge", "rebase-apply", "AUTO_MERGE"):
            if (self._root / ".git" / name).exists():
                found.strays.append(f".git/{name}")

    def _theirs(
        self,
        found: Found,
        files: Mapping[str, bytes],
        commits: Collection[str],
        branches: Mapping[str, str],
    ) -> None:
        for name, content in files.items():
            path = self._root / name
            if not path.is_file() or path.read_bytes() != content:
                found.changed.append(f"uncommitted {name} is not what they left")
        trunk = set(self._git("rev-list", self._branch).split())
        found.changed += [
            f"their commit {commit[:10]} is not on trunk"
            for commit in commits
            if commit not in trunk
        ]
        refs = dict(
            line.split()
            for line in self._git("for-each-ref", "--format=%(refname) %(objectname)").splitlines()
        )
        refs.pop(f"refs/heads/{self._branch}", None)
        expected = {f"refs/heads/{name}": commit for name, commit in branches.items()}
        if refs != expected:
            odd = {
                name
                for name in refs.keys() | expected.keys()
                if refs.get(name) != expected.get(name)
            }
            found.changed.append(f"refs that are not as they left them: {', '.join(sorted(odd))}")
        status = self._git("status", "--porcelain", "-z", "--untracked-files=all").split("\0")
        left = [line for line in status if line and line[3:] not in files]
        found.changed += [f"the checkout is not clean: {line}" for line in left]
        broken = self._git("fsck", "--connectivity-only", "--no-dangling", ok=False)
        if broken:
            found.changed.append(f"the repository is damaged: {broken[:300]}")

    # ── the sources ──

    def _claimed(self, query: str) -> list[tuple[str, ...]]:
        """What the store says; nothing while there is none."""
        path = self._home / "store.sqlite"
        if not path.exists():
            return []
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as con:
            return con.execute(query).fetchall()

    def _git(self, *argv: str, git_dir: Path | None = None, ok: bool = True) -> str:
        where = ["--git-dir", str(git_dir)] if git_dir else ["-C", str(self._root)]
        done = subprocess.run(
            ["git", *where, *argv], env=_environment(), capture_output=True, text=True
        )
        if done.returncode and ok:
            raise AssertionError(f"git {' '.join(argv)}: {done.stderr}")
        return done.stdout


def _environment() -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "GIT_OPTIONAL_LOCKS": "0",
    }
