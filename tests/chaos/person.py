"""A person at work in the same checkout, with a git of their own, and what they remember of what is theirs.

They commit to trunk while it is checked out, keep files that they have not committed, switch branches, rebase, and now
and then leave an edit where a landing has to go. A git that finds a lock fails for them as it does for anybody: they
try again a moment later, and let it be for now if it still fails.
"""

import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.git_repo import environment

MINE, NOTES, STORY = "mine.txt", "notes/scratch.txt", "story.txt"
TRIES = 12


class Busy(Exception):
    """Git would not, after several tries."""


@dataclass(slots=True)
class Theirs:
    """What must be as they left it, whatever died."""

    commits: list[str] = field(default_factory=list)  # on trunk, for good
    files: dict[str, bytes] = field(default_factory=dict)  # uncommitted, byte for byte
    branches: dict[str, str] = field(default_factory=dict)  # of their own
    changed: list[str] = field(
        default_factory=list
    )  # what they found to be otherwise, as it happened


class Person:
    """Acts on `root`; `theirs` is their memory. While `still()` is held, nobody else's git is at work there."""

    def __init__(
        self,
        root: Path,
        rng: random.Random,
        still: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.root, self._rng, self._still, self.theirs = root, rng, still, Theirs()
        self._count = 0
        self.did = Counter[str]()
        for name in (MINE, NOTES):
            self._edit(name)

    def act(self) -> None:
        """Do one thing."""
        deeds = {
            self.commit: 6,
            self.edit: 4,
            self.away_and_back: 2,
            self.rebase: 2,
            self.get_in_the_way: 1,
        }
        (deed,) = self._rng.choices([*deeds], [*deeds.values()])
        with suppress(Busy):
            deed()
            self.did[deed.__name__] += 1

    def commit(self) -> None:
        """A commit of their own on trunk; it counts once git has said so."""
        if self._branch() == "main":
            self.theirs.commits.append(self._commit("main"))

    def edit(self) -> None:
        """Save a file anew that they have not committed; what is in it must be what they left."""
        self._edit(self._rng.choice([MINE, NOTES]))

    def away_and_back(self) -> None:
        """Work on a branch of their own for a while, or come back to trunk."""
        if STORY in self.theirs.files:
            return  # their own git would merge it on the way
        if self._branch() != "main":
            self._git("switch", "-q", "main")
            return
        self._count += 1
        name = f"idea-{self._count}"
        self._git("switch", "-q", "-c", name)
        # Not what it points to now: a landing that met the switch may just be about to be put back.
        self.theirs.branches[name] = self._git("log", "-g", "--format=%H", name).splitlines()[-1]
        self.theirs.branches[name] = self._commit(name)

    def rebase(self) -> None:
        """Rebase their branch on trunk, go to trunk, and take it in there."""
        name = self._branch()
        if name == "main" or name not in self.theirs.branches or STORY in self.theirs.files:
            return
        try:
            self._git("-c", "rebase.autoStash=true", "rebase", "-q", "main")
        except Busy:
            self._git("rebase", "--abort", ok=False)
            raise
        self.theirs.branches[name] = tip = self._git("rev-parse", name)
        self._git("switch", "-q", "main")
        if not self._git("merge", "-q", "--ff-only", name, ok=False):
            # git writes files and index before the branch. If trunk moves in between, git leaves them.
            self._git("reset", "-q", "--merge")
        elif self._git("rev-parse", "HEAD") == tip:
            self.theirs.commits.append(tip)

    def get_in_the_way(self) -> None:
        """Leave an edit in a file that units change, or take it back."""
        if STORY in self.theirs.files:
            self.out_of_the_way()
            return
        with (
            self._still()
        ):  # git itself checks a file first and writes it then: nobody can keep that apart
            if self._branch() == "main":
                self.theirs.files[STORY] = (self.root / STORY).read_bytes() + b"a thought of mine\n"
                (self.root / STORY).write_bytes(self.theirs.files[STORY])

    def out_of_the_way(self) -> None:
        """Take that edit back."""
        if STORY in self.theirs.files:
            self._look(STORY)
            self._git("checkout", "-q", "HEAD", "--", STORY)
            del self.theirs.files[STORY]

    def home(self) -> None:
        """Have trunk checked out and nothing in the way, whatever it takes."""
        for left in reversed(range(20)):
            try:
                self.out_of_the_way()
                self._git("switch", "-q", "main")
                return
            except Busy:
                if not left:
                    raise
                time.sleep(0.3)

    def look(self) -> None:
        """See whether their files are as they left them."""
        for name in self.theirs.files:
            self._look(name)

    def _look(self, name: str) -> None:
        with suppress(FileNotFoundError):
            if (self.root / name).read_bytes() == self.theirs.files[name]:
                return
        now = (self.root / name).read_bytes()[-200:] if (self.root / name).exists() else b"gone"
        self.theirs.changed.append(
            f"{time.strftime('%T')} {name} is not as it was left: {now!r}, not {self.theirs.files[name][-200:]!r}"
        )

    def _edit(self, name: str) -> None:
        if name in self.theirs.files:
            self._look(name)
        self._count += 1
        self.theirs.files[name] = (
            f"{self._count} {self._rng.random()}\n".encode() * self._rng.randrange(1, 40)
        )
        (self.root / name).parent.mkdir(exist_ok=True)
        (self.root / name).write_bytes(self.theirs.files[name])

    def _commit(self, branch: str) -> str:
        self._count += 1
        name = f"person/{self._count}.txt"
        (self.root / "person").mkdir(exist_ok=True)
        (self.root / name).write_text(f"by hand, {self._count}\n")
        try:
            self._git("add", "--", name)
            self._git("commit", "-q", "-m", f"By hand {self._count}", "--", name)
        except Busy:
            with suppress(Busy):
                self._git("rm", "-q", "--cached", "--force", "--ignore-unmatch", "--", name)
            self.theirs.files[name] = (self.root / name).read_bytes()  # for another day
            raise
        return self._git("rev-list", "-1", branch, "--", name)

    def _branch(self) -> str:
        return self._git("rev-parse", "--abbrev-ref", "HEAD")

    def _git(self, *argv: str, ok: bool = True) -> str:
        """What git prints; `ok=False`: "done" or nothing, tried once."""
        for left in reversed(range(TRIES if ok else 1)):
            done = subprocess.run(
                ["git", *argv], cwd=self.root, env=environment(), capture_output=True, text=True
            )
            if done.returncode == 0:
                return done.stdout.rstrip("\n") if ok else "done"
            if left:
                time.sleep(0.02)
        if ok:
            raise Busy(f"git {argv[0]}: {done.stderr}")
        return ""
