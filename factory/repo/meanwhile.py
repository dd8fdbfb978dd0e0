"""What landed on trunk while a unit was worked on, and who changed the lines of a conflict.

Invariant: everything is read in the factory repository, and each answer of git has a bound.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from factory.ground.errors import GitError
from factory.ground.pipes import Into
from factory.repo.git import Git
from factory.repo.message import read

MOST = 512  # most commits that are looked at
_DIFF_MOST = 1 << 20  # bytes of a diff that are read
_PATHS_MOST = 5  # conflicting paths that are looked at
_RANGES_MOST = 50  # ranges of lines of one path that are looked at
_HUNK = re.compile(r"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@", re.MULTILINE)
_BLAMED = re.compile(r"^([0-9a-f]{40,64}) \d+ \d+", re.MULTILINE)
_DIFF = ("diff-tree", "-p", "-U0", "--no-renames", "--no-ext-diff", "--no-textconv")
_LITERAL = {"GIT_LITERAL_PATHSPECS": "1"}


@dataclass(frozen=True, slots=True)
class OnTrunk:
    """A commit on trunk."""

    commit: str
    unit: str  # the unit that it landed; "" if its message names none
    subject: str


@dataclass(frozen=True, slots=True)
class _Hunk:
    """A change of lines: the first line and the number of lines, before and after."""

    old: int
    old_count: int
    new: int
    new_count: int

    def meets(self, other: "_Hunk") -> bool:
        """Whether both changes start from the same lines or from lines side by side."""
        end = self.old + self.old_count
        return self.old <= other.old + other.old_count and other.old <= end


async def between(own: Git, base: str, tip: str) -> list[OnTrunk]:
    """Return the commits of trunk after `base` up to `tip`, oldest first.

    Empty if trunk was rewritten, or if there are more than MOST.
    """
    if base == tip or not await own.contains(tip, base):
        return []
    count = f"--max-count={MOST + 1}"
    printed = await own.text("rev-list", "--first-parent", count, f"{base}..{tip}")
    commits = printed.split()
    if len(commits) > MOST:
        return []
    return await _described(own, reversed(commits))


async def changers(
    own: Git, base: str, tip: str, submission: str, paths: Sequence[str]
) -> list[OnTrunk]:
    """Return the commits after `base` that changed the lines that `submission` changes too.

    If the lines do not say it (a deleted file, a binary file), return those that changed the path.
    """
    found = list[str]()
    for path in paths[:_PATHS_MOST]:
        commits = []
        with suppress(GitError):  # the output is too long
            commits = await _by_lines(own, base, tip, submission, path)
        found += commits or await _by_path(own, base, tip, path)
    return await _described(own, dict.fromkeys(found))


async def _by_lines(own: Git, base: str, tip: str, submission: str, path: str) -> list[str]:
    """Return the commits that wrote the lines of trunk that a conflict is about."""
    theirs = await _hunks(own, base, tip, path)
    ours = await _hunks(own, base, submission, path)
    ranges = []
    for hunk in theirs:
        if hunk.new_count and any(hunk.meets(each) for each in ours):
            ranges += ["-L", f"{hunk.new},+{hunk.new_count}"]
    if not ranges or len(ranges) > 2 * _RANGES_MOST:
        return []
    how = ("blame", "--porcelain", *ranges, f"{base}..{tip}", "--", path)
    printed = await own.run(*how, env=_LITERAL, into=Into(_DIFF_MOST))
    return list(dict.fromkeys(_BLAMED.findall(os.fsdecode(printed.out))))


async def _by_path(own: Git, base: str, tip: str, path: str) -> list[str]:
    how = ("rev-list", "--max-count=5", f"{base}..{tip}", "--", path)
    return (await own.text(*how, env=_LITERAL)).split()


async def _hunks(own: Git, before: str, after: str, path: str) -> list[_Hunk]:
    printed = await own.run(*_DIFF, before, after, "--", path, env=_LITERAL, into=Into(_DIFF_MOST))
    return list(_hunks_in(os.fsdecode(printed.out)))


def _hunks_in(diff: str) -> Iterator[_Hunk]:
    for old, old_count, new, new_count in _HUNK.findall(diff):
        lines = int(old_count or 1)
        # Without old lines, git names the line before the new ones.
        first = int(old) if lines else int(old) + 1
        yield _Hunk(first, lines, int(new), int(new_count or 1))


async def _described(own: Git, commits: Iterable[str]) -> list[OnTrunk]:
    """Return the commits with their units and subjects, in the same order."""
    asked = "".join(f"{commit}\n" for commit in commits)
    if not asked:
        return []
    form = ("--no-walk=unsorted", "-z", "--no-show-signature", "--no-mailmap", "--format=%H%x00%B")
    printed = await own.run("log", *form, "--stdin", stdin=asked.encode())
    fields = iter(os.fsdecode(printed.out).split("\0"))
    found = []
    for commit, body in zip(fields, fields, strict=False):
        landing = read(body)
        subject = body.strip().partition("\n")[0]
        found.append(OnTrunk(commit, landing.unit if landing else "", subject))
    return found
