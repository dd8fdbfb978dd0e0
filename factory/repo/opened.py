"""Opens the user's repository; if git refuses to read it, names the command that fixes this.

What must not live here: what makes a repository unfit for the factory (examine.py checks that).
"""

from collections.abc import Mapping
from pathlib import Path

from factory.ground.errors import GitError, RepositoryError
from factory.repo.access import first_unusable, me
from factory.repo.examine import Repository, examine, layout


async def opened(root: Path, environ: Mapping[str, str], *, trunk: str) -> Repository:
    """Return the result of `examine`; if git fails, raise RepositoryError with a remedy."""
    try:
        return await examine(root, environ, trunk=trunk)
    except GitError as error:
        _, _, common_dir = layout(root)
        found = first_unusable(common_dir, me())
        if found is None:
            raise
        raise RepositoryError(f"{error}\n{found.said}. Then start again.") from error
