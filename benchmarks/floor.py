"""The floor under the line: the work that any implementation must do for a unit, and nothing else around it.

No store, no journal, no supervision, no watching: a pooled worktree is reset to trunk, a shell makes the change, git
takes it; then, one unit at a time, it is merged onto the newest trunk in memory, judged on a clean bench, and trunk is
moved by compare-and-swap. Nothing is synced to disk beyond git's defaults, no checkout of a user is kept up to date,
nothing survives a kill. What came out is checked before a number is believed.

python benchmarks/floor.py --units 100 --workers 4 --files 200
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue

from scene import MESSAGE, environment, make_repository

GATE = ("sh", "-c", "true")


class Bare:
    """One repository, a worktree for each worker, one bench."""

    def __init__(self, folder: Path, *, files: int, workers: int) -> None:
        self.env = environment(folder)
        self.repo = make_repository(folder / "repo", files=files, env=self.env)
        self.bench, self.processes = self._worktree(folder / "bench"), 0
        self.trees = [self._worktree(folder / f"worker{number}") for number in range(workers)]
        self._counting = threading.Lock()

    def run(self, argv: Sequence[str], cwd: Path) -> str:
        """One process, waited for; its output."""
        done = subprocess.run(
            argv,
            cwd=cwd,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            start_new_session=True,
        )
        if done.returncode:
            raise SystemExit(
                f"floor: {' '.join(argv)} ended with {done.returncode}: {done.stderr.strip()[-300:]}"
            )
        with self._counting:
            self.processes += 1
        return done.stdout.strip()

    def git(self, cwd: Path, *argv: str) -> str:
        return self.run(("git", *argv), cwd)

    def reset(self, tree: Path) -> None:
        """The pooled worktree at trunk, clean."""
        self.git(tree, "checkout", "-q", "-f", "--detach", "main")
        self.git(tree, "clean", "-ffdq")

    def submit(self, tree: Path, unit: int) -> str:
        """One unit's commit, from a clean worktree."""
        self.reset(tree)
        self.run(("sh", "-c", f"echo {unit} > unit-{unit}.txt"), tree)
        self.git(tree, "add", "-A")
        self.git(tree, "commit", "-q", "--no-verify", "-m", MESSAGE.format(unit))
        return self.git(tree, "rev-parse", "HEAD")

    def land(self, unit: int, commit: str, tip: str) -> str:
        """The unit merged, judged and on trunk: trunk's new commit."""
        tree = self.git(self.repo, "merge-tree", "--write-tree", "--no-messages", tip, commit)
        self.git(self.bench, "read-tree", "-u", "--reset", tree)
        self.git(self.bench, "clean", "-ffdxq")
        self.run(GATE, self.bench)
        landing = self.git(self.repo, "commit-tree", tree, "-p", tip, "-m", MESSAGE.format(unit))
        self.git(self.repo, "update-ref", "refs/heads/main", landing, tip)
        return landing

    def _worktree(self, path: Path) -> Path:
        subprocess.run(
            ["git", "worktree", "add", "-q", "--detach", path, "main"],
            cwd=self.repo,
            env=self.env,
            check=True,
        )
        return path


def throughput(folder: Path, *, units: int, workers: int, files: int) -> dict[str, float]:
    """Land so many units as fast as bare git can; units a minute and processes a unit."""
    bare = Bare(folder, files=files, workers=workers)
    trees: SimpleQueue[Path] = SimpleQueue()
    for tree in bare.trees:
        trees.put(tree)

    def work(unit: int) -> tuple[int, str]:
        tree = trees.get()
        try:
            return unit, bare.submit(tree, unit)
        finally:
            trees.put(tree)

    began = time.perf_counter()
    tip = bare.git(bare.repo, "rev-parse", "main")
    with ThreadPoolExecutor(workers) as pool:
        for submitted in as_completed([pool.submit(work, unit) for unit in range(units)]):
            tip = bare.land(*submitted.result(), tip)
    seconds = time.perf_counter() - began
    processes = bare.processes / units
    check(bare.repo, units)
    return {"units_per_min": 60 * units / seconds, "processes_per_unit": processes}


def check(repo: Path, units: int) -> None:
    """Trunk holds every unit once; a number for work that was not done is worth nothing."""
    names = subprocess.run(
        ["git", "ls-tree", "--name-only", "main"],
        cwd=repo,
        check=True,
        capture_output=True,
        text=True,
    )
    commits = subprocess.run(
        ["git", "rev-list", "--count", "main"], cwd=repo, check=True, capture_output=True, text=True
    )
    made = sum(name.startswith("unit-") for name in names.stdout.splitlines())
    if not made == int(commits.stdout) - 1 == units:
        raise SystemExit(
            f"{repo}: trunk has {int(commits.stdout) - 1} landings and {made} files for {units} units"
        )


def starts(
    folder: Path, *, times: int, files: int, agent: Sequence[str], stamp: str
) -> list[float]:
    """Seconds from the decision to the agent's own first look at the clock: a clean worktree, then one spawn."""
    bare = Bare(folder, files=files, workers=1)
    found = []
    for _ in range(times):
        began = time.time()
        bare.reset(bare.trees[0])
        bare.run(agent, bare.trees[0])
        found.append(float((bare.trees[0] / stamp).read_text()) - began)
    return found


def main() -> int:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--units", type=int, default=100)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--files", type=int, default=200)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="floor-") as folder:
        print(
            json.dumps(
                throughput(Path(folder), units=args.units, workers=args.workers, files=args.files)
            )
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
