"""Opens the user's repository; if git refuses to read it, names the command that fixes this.

What must not live here: what makes a repository unfit for the factory (examine.py checks that).
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from factory.ground.errors import GitError, RepositoryError
from factory.repo.access import first_unusable, me
from factory.repo.examine import Repository, examine
from factory.repo.locate import Located, locate


async def opened(
    root: Path,
    environ: Mapping[str, str],
    *,
    trunk: str,
    locating: Callable[[Path], Located] = locate,
) -> Repository:
    """Return the result of `examine`; if git fails, raise RepositoryError with a remedy."""
    try:
        return await examine(root, environ, trunk=trunk, locating=locating)
    except GitError as error:
        found = first_unusable(locating(root).common_dir, me())
        if found is None:
            raise
        raise RepositoryError(f"{error}\n{found.said}. Then start again.") from error
