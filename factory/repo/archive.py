"""The archive: one chain of commits a month, in the factory repository, that keeps what attempts of final units made.

Invariant: the ref of an attempt goes only in the transaction that moves an archive ref to a commit with it as a parent;
so refs do not grow with units, and nothing is unreachable at any instant.
"""

import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

from factory.ground import faults
from factory.repo.git import FACTORY, Git

ATTEMPTS, CHAINS = "refs/factory/attempts/", "refs/factory/archive/"
RESCUE = "rescue/"  # names of trees that belong to no attempt: they never had a ref
AT_ONCE = 256  # parents of one commit, at most


class Kept(NamedTuple):
    """A commit, and the ref that it can be reached by."""

    commit: str
    ref: str


class Archive:
    """The refs of attempts (names are UNIT/N) and the chains that they move into."""

    def __init__(self, own: Git) -> None:
        self._own = own

    def units(self) -> list[str]:
        """The units with a ref, without asking git: refs are loose until somebody packs them by hand."""
        folder = self._own.git_dir / ATTEMPTS
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    async def refs(self) -> dict[str, Kept]:
        """The attempts that have a ref of their own."""
        told = (
            line.partition(" ")
            for line in (await self._own.text("for-each-ref", _FORM, ATTEMPTS)).splitlines()
        )
        return {ref.removeprefix(ATTEMPTS): Kept(commit, ref) for commit, _, ref in told}

    @faults.during("archive.put")
    async def put(self, entries: Mapping[str, str], at: datetime) -> dict[str, Kept]:
        """Move these (name → commit, AT_ONCE at most) into the month's chain; raise GitError where one was moved."""
        ref = f"{CHAINS}{at:%Y-%m}"
        nothing = await self._own.text("hash-object", "-w", "-t", "tree", os.devnull)
        tip = await self._own.commit(ref)
        # A root of its own, for the first parents to lead to it and not into trunk's history.
        below = tip or await self._commit(nothing, [], f"The archive of {at:%Y-%m}\n")
        listed = "".join(f"{name} {commit}\n" for name, commit in entries.items())
        made = await self._commit(
            nothing, [below, *entries.values()], f"Keep what attempts made\n\n{listed}"
        )
        orders = [f"update {ref} {made} {tip or '0' * len(made)}\n"]
        orders += [
            f"delete {ATTEMPTS}{name} {commit}\n"
            for name, commit in entries.items()
            if RESCUE not in name
        ]
        # git moves what is updated before it deletes: killed in between, some are kept twice, and go the next time.
        await self._own.run("update-ref", "--stdin", stdin="".join(orders).encode())
        return {name: Kept(commit, ref) for name, commit in entries.items()}

    async def entries(self, *, newest: bool = False) -> dict[str, Kept]:
        """All that the chains keep; `newest`: only what their last commits say."""
        found = dict[str, Kept]()
        chains = [
            line.split()[1]
            for line in (await self._own.text("for-each-ref", _FORM, CHAINS)).splitlines()
        ]
        for ref in chains:
            how = ("--first-parent", "--format=%B", *(["-1"] if newest else []))
            found |= {
                name: Kept(commit, ref)
                for name, commit in _listed(await self._own.text("log", *how, ref))
            }
        return found

    async def _commit(self, tree: str, parents: Iterable[str], text: str) -> str:
        return await self._own.commit_tree(
            tree, list(dict.fromkeys(parents)), text, author=FACTORY, committer=FACTORY
        )


_FORM = "--format=%(objectname) %(refname)"


def _listed(messages: str) -> Iterable[tuple[str, str]]:
    """The lines of the messages that name an attempt and its commit."""
    words = (line.split(" ") for line in messages.splitlines())
    return ((pair[0], pair[1]) for pair in words if len(pair) == 2 and "/" in pair[0])
