"""The archive: what attempts of final units made, one chain of commits a month.

Invariant: the ref of an attempt goes only in the transaction that moves an archive ref to a commit
with it as a parent; so refs do not grow with units, and nothing is unreachable at any instant.
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
        """The units with a ref, without asking git: refs are loose until a person packs them."""
        folder = self._own.git_dir / ATTEMPTS
        if not folder.is_dir():
            return []
        return sorted(path.name for path in folder.iterdir())

    async def refs(self) -> dict[str, Kept]:
        """The attempts that have a ref of their own."""
        found = {}
        for kept in await self._refs(ATTEMPTS):
            found[kept.ref.removeprefix(ATTEMPTS)] = kept
        return found

    @faults.during("archive.put")
    async def put(self, entries: Mapping[str, str], at: datetime) -> dict[str, Kept]:
        """Move these (name → commit, AT_ONCE at most) into the month's chain.

        Raises GitError where somebody moved one.
        """
        ref = f"{CHAINS}{at:%Y-%m}"
        nothing = await self._own.text("hash-object", "-w", "-t", "tree", os.devnull)
        tip = await self._own.commit(ref)
        # A separate root: first parents lead to it and not into trunk's history.
        below = tip or await self._commit(nothing, [], f"The archive of {at:%Y-%m}\n")
        text = "Keep what attempts made\n\n"
        deletions = ""
        kept = {}
        for name, commit in entries.items():
            text += f"{name} {commit}\n"
            if RESCUE not in name:
                deletions += f"delete {ATTEMPTS}{name} {commit}\n"
            kept[name] = Kept(commit, ref)
        made = await self._commit(nothing, [below, *entries.values()], text)
        update = f"update {ref} {made} {tip or '0' * len(made)}\n"
        # git moves what is updated before it deletes: killed in between, some are kept twice, and
        # go the next time.
        await self._own.run("update-ref", "--stdin", stdin=(update + deletions).encode())
        return kept

    async def entries(self, *, newest: bool = False) -> dict[str, Kept]:
        """All that the chains keep; `newest`: only what their last commits say."""
        how = ["log", "--first-parent", "--format=%B"]
        if newest:
            how.append("-1")
        found = dict[str, Kept]()
        for chain in await self._refs(CHAINS):
            messages = await self._own.text(*how, chain.ref)
            for line in messages.splitlines():
                words = line.split(" ")
                if len(words) == 2 and "/" in words[0]:  # an attempt and its commit
                    found[words[0]] = Kept(words[1], chain.ref)
        return found

    async def _refs(self, below: str) -> list[Kept]:
        listed = await self._own.text("for-each-ref", _FORM, below)
        return [Kept(*line.split(" ", 1)) for line in listed.splitlines()]

    async def _commit(self, tree: str, parents: Iterable[str], text: str) -> str:
        return await self._own.commit_tree(
            tree, list(dict.fromkeys(parents)), text, author=FACTORY, committer=FACTORY
        )


_FORM = "--format=%(objectname) %(refname)"
