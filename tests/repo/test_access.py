"""What another user's command left in a git dir is found, with what mends it."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from factory.repo.access import User, first_unusable, me, owner
from tests.git_repo import git, make_repo

NOBODY = User(65534, frozenset({65534}))
FOLDERS = [
    "objects",
    "objects/{fan_out}",
    "objects/pack",
    "objects/info",
    "refs/heads",
    "logs/refs/heads",
    ".",
]
FILES = [
    "index",
    "HEAD",
    "config",
    "refs/heads/main",
    "logs/HEAD",
    "logs/refs/heads/main",
    "objects/{object}",
]


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A git dir with a name that a shell would take apart."""
    return make_repo(tmp_path / "my {repo} é", {"a.txt": "a\n"}) / ".git"


def part(repo: Path, name: str) -> Path:
    commit = git(repo.parent, "rev-parse", "HEAD")
    return repo / name.format(fan_out=commit[:2], object=f"{commit[:2]}/{commit[2:]}")


def lock(path: Path, user: User) -> None:
    """Take the right to use it from the user: as its owner, or by giving it to another one."""
    if os.geteuid() == 0:
        os.chown(path, 1, 1)
        path.chmod(0o700 if path.is_dir() else 0o600)
    else:
        path.chmod(0o500 if path.is_dir() else 0)


@pytest.fixture
def user() -> User:
    """Root has every right, so as root somebody else is asked about."""
    return me() if os.geteuid() else NOBODY


def hand_over(repo: Path, user: User) -> None:
    """Let all of it belong to the user."""
    if user == NOBODY:
        for path in (repo, *repo.rglob("*")):
            os.chown(path, user.uid, user.uid)


def test_a_whole_repository_with_a_linked_worktree_can_be_used(repo: Path, user: User) -> None:
    git(repo.parent, "worktree", "add", "-q", "../side", "-b", "side")
    hand_over(repo, user)

    assert first_unusable(repo, user) is None


@pytest.mark.parametrize("name", [*FOLDERS, *FILES])
def test_what_the_user_cannot_use_is_named_and_the_command_mends_it(
    repo: Path, user: User, name: str
) -> None:
    path = part(repo, name)
    hand_over(repo, user)
    lock(path, user)

    found = first_unusable(repo, user)

    assert found is not None
    assert (found.path, found.said) == (path, f"{path} {found.trouble}. To fix it: {found.mend}")
    subprocess.run(shlex.split(found.mend.removeprefix("sudo ")), check=True)
    assert first_unusable(repo, user) is None


def test_a_file_in_the_place_of_a_folder_is_found_whoever_asks(repo: Path) -> None:
    (repo / "objects/zz").touch()  # no name of git's
    assert first_unusable(repo, me()) is None
    wrong = next(
        path
        for path in (repo / f"objects/{number:02x}" for number in range(256))
        if not path.exists()
    )
    wrong.touch()

    found = first_unusable(repo, me())

    assert found is not None
    assert (found.path, found.trouble) == (wrong, "is in the place of a folder")
    subprocess.run(shlex.split(found.mend), check=True)
    assert first_unusable(repo, me()) is None


def test_the_index_of_a_linked_worktree_is_looked_at_too(repo: Path, user: User) -> None:
    git(repo.parent, "worktree", "add", "-q", "../side", "-b", "side")
    index = repo / "worktrees/side/index"
    hand_over(repo, user)
    lock(index, user)

    found = first_unusable(repo, user)

    assert found is not None
    assert found.path == index


def test_whoever_asks_the_daemons_user_is_the_owner_of_its_folder(tmp_path: Path) -> None:
    assert owner(tmp_path) == me()
    if os.geteuid() == 0:
        os.chown(tmp_path, NOBODY.uid, NOBODY.uid)
        assert owner(tmp_path).uid == NOBODY.uid
        os.chown(tmp_path, 4321, 4321)
        assert owner(tmp_path) == User(4321, frozenset({4321}))
