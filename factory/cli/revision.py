"""Finds the commit that a person names in the checkout, or in another working tree of it.

Invariant: git only reads here.
"""

import os
from typing import NamedTuple

import anyio

from factory.child import process
from factory.ground.errors import UsageError, did_you_mean
from factory.repo.git_dir import clean_environment

_HEADS = "refs/heads/"
_PARSE = ("rev-parse", "--verify", "--quiet", "--end-of-options")


class Named(NamedTuple):
    """A commit that a person named."""

    commit: str
    branch: str  # "" if the person named no branch
    is_dirty: bool  # the working tree shows this commit, and has uncommitted changes of its files


def find(rev: str) -> Named:
    """Return the commit of a branch or revision; raise UsageError if there is none."""
    return anyio.run(_find, rev)


async def _find(rev: str) -> Named:
    commit = await _text(*_PARSE, f"{rev}^{{commit}}")
    if not commit:
        heads = await _text("for-each-ref", "--format=%(refname:short)", _HEADS)
        meant = did_you_mean(rev, heads.splitlines())
        raise UsageError(f"there is no branch or commit {rev!r}{meant}\n  the branches: git branch")
    name = await _text("rev-parse", "--symbolic-full-name", "--end-of-options", rev)
    name = name.splitlines()[-1] if name else ""
    changed = ""
    if commit == await _text(*_PARSE, "HEAD"):
        changed = await _text("status", "--porcelain", "--untracked-files=no")
    branch = name.removeprefix(_HEADS) if name.startswith(_HEADS) else ""
    return Named(commit, branch, bool(changed))


async def _text(*argv: str) -> str:
    """Return what one git command prints; "" if it fails."""
    done = await process.run(["git", *argv], env=clean_environment(os.environ))
    return os.fsdecode(done.out).strip() if done.code == 0 else ""
