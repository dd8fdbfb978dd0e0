"""The archive: one chain of commits for each month keeps the attempts of final units.

Invariant: the ref of an attempt is deleted only in the transaction that moves an archive ref to a
commit that has the attempt's commit as a parent. So the number of refs does not grow with the
units, and every commit is reachable at any time.
"""

import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

from factory.ground import faults
from factory.repo.git import FACTORY, Git

ATTEMPTS, CHAINS = "refs/factory/attempts/", "refs/factory/archive/"
RESCUE = "rescue/"  # begin of the names of trees that belong to no attempt; these never had a ref
AT_ONCE = 256  # most parents of one commit in a chain


class Kept(NamedTuple):
    """A commit, and a ref from which it can be reached."""

    commit: str
    ref: str


class Archive:
    """The refs of attempts (named UNIT/N) and the chains that replace them."""

    def __init__(self, own: Git) -> None:
        self._own = own

    def units(self) -> list[str]:
        """Return the units that have a ref.

        This starts no git, because refs are loose files until a person packs them.
        """
        folder = self._own.git_dir / ATTEMPTS
        if not folder.is_dir():
            return []
        return sorted(path.name for path in folder.iterdir())

    async def refs(self) -> dict[str, Kept]:
        """Return the attempts that have their own ref."""
        found = {}
        for kept in await self._refs(ATTEMPTS):
            found[kept.ref.removeprefix(ATTEMPTS)] = kept
        return found

    @faults.during("archive.put")
    async def put(self, entries: Mapping[str, str], at: datetime) -> dict[str, Kept]:
        """Move these attempts (name → commit, at most AT_ONCE) into the chain of the month.

        Raises GitError if somebody has moved one of the refs.
        """
        ref = f"{CHAINS}{at:%Y-%m}"
        nothing = await self._own.text("hash-object", "-w", "-t", "tree", os.devnull)
        tip = await self._own.commit(ref)
        # The chain begins with its own root commit, so following first parents never leads into
        # trunk.
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
        # git updates refs before it deletes refs. If git is killed in between, a chain and a ref
        # both keep some commits, and the next run deletes these refs.
        await self._own.run("update-ref", "--stdin", stdin=(update + deletions).encode())
        return kept

    async def entries(self, *, newest: bool = False) -> dict[str, Kept]:
        """Return everything that the chains keep.

        With `newest`, return only what the last commit of each chain lists.
        """
        how = ["log", "--first-parent", "--format=%B"]
        if newest:
            how.append("-1")
        found = dict[str, Kept]()
        for chain in await self._refs(CHAINS):
            messages = await self._own.text(*how, chain.ref)
            for line in messages.splitlines():
                words = line.split(" ")
                if len(words) == 2 and "/" in words[0]:  # a line has an attempt and its commit
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
