"""What the factory's folders are called in a real repository."""

import os
from pathlib import Path

import pytest

from factory.assembly import the_names
from factory.daemon import furnish
from factory.ground.errors import RepositoryError
from factory.ground.names import Names
from factory.ground.places import places
from factory.repo.examine import Repository, examine
from tests.git_repo import commit, git, make_repo, write

FLAT = {"pyproject.toml": '[project]\nname = "shop"\nversion = "1"\n', "shop/__init__.py": ""}
GATE = "gates/10-test.sh"


async def looked(root: Path, branch: str = "") -> Repository:
    return await examine(root, {"PATH": os.environ["PATH"], "HOME": str(root.parent)}, trunk=branch)


async def names(root: Path) -> Names:
    return await the_names(await looked(root), {"PATH": os.environ["PATH"]})


async def test_names_are_chosen_by_what_trunk_has_and_by_the_checkout(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "shop", FLAT | {f"conventions/{GATE}": "true\n", "docs/ü.md": ""})

    chosen = await names(root)

    assert chosen.inbox == ".inbox"
    assert (
        chosen.why
        == "Task files go into .inbox/, because setuptools would package a visible inbox/."
    )
    assert [warning.partition(" for a package")[0] for warning in chosen.warnings] == [
        "setuptools takes conventions/"
    ]


async def test_trunk_counts_whatever_is_checked_out(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "shop", {"a.txt": ""})
    git(root, "switch", "-q", "-c", "elsewhere")
    commit(root, FLAT)

    assert (await names(root)).inbox == ".inbox"
    assert (
        await the_names(await looked(root, "main"), {"PATH": os.environ["PATH"]})
    ).inbox == "inbox"


async def test_both_folders_of_one_meaning_are_refused(tmp_path: Path) -> None:
    root = make_repo(
        tmp_path / "shop", {f"conventions/{GATE}": "true\n", f".conventions/{GATE}": "true\n"}
    )

    with pytest.raises(
        RepositoryError, match=r"^Both conventions/ and \.conventions/ hold files on trunk"
    ):
        await names(root)


async def test_an_empty_inbox_of_an_earlier_start_gives_way_to_the_hidden_one(
    tmp_path: Path,
) -> None:
    root = make_repo(tmp_path / "shop", FLAT)
    (root / "inbox/rejected").mkdir(parents=True)
    where = places(
        root, root / ".git", {"XDG_STATE_HOME": str(tmp_path / "state")}, await names(root)
    )

    furnish(where)

    assert (root / ".inbox").is_dir()
    assert not (root / "inbox").exists()
    assert {"/.factory/", "/.inbox/"} <= set((root / ".git/info/exclude").read_text().splitlines())


async def test_a_folder_of_the_projects_own_is_ignored_no_more(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "shop", {"inbox/models.py": "", "a.txt": ""})
    (root / ".git/info/exclude").write_text("mine\n/.factory/\n/inbox/\n")
    where = places(
        root, root / ".git", {"XDG_STATE_HOME": str(tmp_path / "state")}, await names(root)
    )

    furnish(where)
    write(root, {"inbox/views.py": ""})

    assert where.inbox == root / ".inbox"
    assert (root / ".git/info/exclude").read_text() == "mine\n/.factory/\n/.inbox/\n"
    assert git(root, "status", "--porcelain", "--untracked-files=all") == "?? inbox/views.py"
