"""A repository that git cannot read: the refusal says what mends it."""

import os
from pathlib import Path

import pytest

from factory.ground.errors import GitError, RepositoryError
from factory.repo.opened import opened
from tests.git_repo import make_repo


def environment(folder: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(folder / "home")}


async def test_a_repository_that_can_be_read_is_as_git_examines_it(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "r", {"a.txt": "a\n"})

    found = await opened(repo, environment(tmp_path), trunk="main")

    assert (found.root, found.branch) == (repo, "main")


async def test_an_index_that_git_cannot_read_is_named_with_the_command_that_mends_it(
    tmp_path: Path,
) -> None:
    repo = make_repo(tmp_path / "r", {"a.txt": "a\n"})
    index = repo / ".git/index"
    index.unlink()
    index.mkdir()

    with pytest.raises(RepositoryError) as caught:
        await opened(repo, environment(tmp_path), trunk="main")

    said = (
        f"{index} is in the place of a file. To fix it: mv {index} {index}.aside. Then start again."
    )
    assert str(caught.value).startswith("git ls-files")
    assert str(caught.value).endswith(said)


async def test_what_nothing_here_mends_is_said_as_git_said_it(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "r", {"a.txt": "a\n"})
    (repo / ".git/index").write_bytes(b"nonsense")

    with pytest.raises(GitError, match="index file smaller than expected"):
        await opened(repo, environment(tmp_path), trunk="main")
