"""Finds the git dirs of a checkout. Only this module imports GitPython.

Invariant: it imports nothing else that is large, because a short child process runs it.
"""

from dataclasses import dataclass
from pathlib import Path

from factory.ground.errors import RepositoryError


@dataclass(frozen=True, slots=True)
class Located:
    """Where a checkout and its git dirs are."""

    top: Path  # the top folder of the working tree
    git_dir: Path  # the git dir of this checkout
    common_dir: Path  # the folder that contains refs and objects


def locate(root: Path) -> Located:
    """Return the places of the checkout around `root`; raise RepositoryError if there is none."""
    # Imported here because GitPython runs git when it is imported, and fails without one.
    from git import InvalidGitRepositoryError, NoSuchPathError, Repo

    try:
        # No expand_vars: `$` is an ordinary character in a path.
        with Repo(root, search_parent_directories=True, expand_vars=False) as repo:
            top = repo.working_tree_dir
            git_dir = Path(repo.git_dir)
            common = Path(repo.common_dir)
    except (InvalidGitRepositoryError, NoSuchPathError):
        raise RepositoryError(
            f"{root} is not in a git repository. Run `git init` and commit something first."
        ) from None
    if top is None:
        remedy = "Start in a checkout of it: git worktree add ../NAME BRANCH"
        raise RepositoryError(f"{root} is a bare repository. {remedy}")
    return Located(Path(top).resolve(), git_dir.resolve(), common.resolve())
