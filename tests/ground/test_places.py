"""Where things lie."""

import os
import pwd
from pathlib import Path

import pytest

from factory.ground.errors import RepositoryError
from factory.ground.names import Names
from factory.ground.places import Places, check_writable, holding, home, places, there


def test_the_factory_lies_in_the_checkout_and_its_lock_in_the_common_git_dir() -> None:
    where = Places(root=Path("/r"), common_dir=Path("/main/.git"), work=Path("/w"))

    assert where.home == Path("/r/.factory")
    assert where.inbox == Path("/r/inbox")
    assert where.lock == Path("/main/.git/factoryd-lock")
    inside = (
        where.store,
        where.git,
        where.index,
        where.intake,
        where.judged,
        where.pid,
        where.log,
        where.wake,
    )
    assert {path.parent for path in inside} == {where.home}
    assert len(set(inside)) == len(inside)


def test_the_inbox_has_the_name_that_was_chosen() -> None:
    where = places(Path("/r"), Path("/r/.git"), {"HOME": "/h"}, Names(inbox=".inbox"))

    assert where.inbox == Path("/r/.inbox")
    assert Path("/r/.inbox") in where.folders


def test_a_folder_holds_something_unless_only_the_factory_made_it(tmp_path: Path) -> None:
    for name in ("inbox/rejected", ".inbox/rejected", "conventions", ".conventions/gates", "other"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "inbox/.gitkeep").touch()

    assert there(tmp_path) == {"inbox", ".inbox", "conventions", ".conventions"}
    assert holding(tmp_path) == {".conventions"}
    (tmp_path / "inbox/rejected/a.md").touch()
    (tmp_path / ".inbox/b.md").touch()
    assert holding(tmp_path) == {".conventions", "inbox", ".inbox"}


def test_each_attempt_has_a_folder_of_its_own() -> None:
    where = Places(root=Path("/r"), common_dir=Path("/r/.git"), work=Path("/w"))

    assert where.run_dir("fix-2", 13) == Path("/r/.factory/attempts/fix-2/13")


def test_the_work_folder_lies_outside_the_repository_and_is_named_after_it(tmp_path: Path) -> None:
    root = tmp_path / "shop"

    work = places(root, root / ".git", {"XDG_STATE_HOME": str(tmp_path / "state")}).work

    assert work.parent == tmp_path / "state/factoryd"
    assert work.name.startswith("shop-")
    assert len(work.name) == len("shop-") + 8


def test_the_work_folder_of_a_repository_with_a_colon_in_its_name_can_be_on_path(
    tmp_path: Path,
) -> None:
    assert ":" not in places(tmp_path / "shop:2", tmp_path, {"HOME": "/h"}).work.name


def test_two_repositories_of_one_name_have_two_work_folders(tmp_path: Path) -> None:
    one, two = tmp_path / "a/shop", tmp_path / "b/shop"

    assert places(one, one, {}).work != places(two, two, {}).work


def test_a_repository_reached_through_a_symlink_has_the_same_work_folder(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "link").symlink_to("shop")

    seen = {places(tmp_path / name, tmp_path, {"HOME": "/h"}).work for name in ("shop", "link")}

    assert len(seen) == 1


@pytest.mark.parametrize(
    "state", [{}, {"XDG_STATE_HOME": ""}, {"XDG_STATE_HOME": "relative/would-be/in-the-checkout"}]
)
def test_without_a_usable_state_folder_it_is_the_one_in_home(state: dict[str, str]) -> None:
    assert places(Path("/r"), Path("/r"), {"HOME": "/h"} | state).work.parent == Path(
        "/h/.local/state/factoryd"
    )


@pytest.mark.parametrize("told", [{}, {"HOME": ""}, {"HOME": "relative"}])
def test_without_a_usable_home_the_users_own_is_asked_for(told: dict[str, str]) -> None:
    known = Path(pwd.getpwuid(os.getuid()).pw_dir)

    assert home(told) == known
    assert places(Path("/r"), Path("/r"), told).work.is_relative_to(known / ".local/state")


def test_workspaces_in_the_repository_are_refused(tmp_path: Path) -> None:
    (tmp_path / "shop/.git").mkdir(parents=True)
    (tmp_path / "state").symlink_to("shop/state")

    for environ in ({"HOME": str(tmp_path / "shop")}, {"XDG_STATE_HOME": str(tmp_path / "state")}):
        with pytest.raises(RepositoryError, match="outside of the repository"):
            check_writable(places(tmp_path / "shop", tmp_path / "shop/.git", environ))

    assert [path.name for path in (tmp_path / "shop").iterdir()] == [".git"]


@pytest.mark.parametrize(
    ("made", "worked"),
    [("attempts/stray", False), ("attempts/fix/1", True), ("git", True), ("judged/x", False)],
)
def test_a_factory_has_worked_where_it_has_a_repository_or_a_run_dir(
    tmp_path: Path, made: str, worked: bool
) -> None:
    where = Places(root=tmp_path, common_dir=tmp_path / ".git", work=tmp_path / "work")

    (where.home / made).mkdir(parents=True)

    assert where.worked is worked


@pytest.mark.parametrize("name", ["work", "inbox"])
def test_what_stands_in_the_way_of_a_folder_is_said_and_nothing_is_made(
    tmp_path: Path, name: str
) -> None:
    where = Places(
        root=tmp_path / "repo", common_dir=tmp_path / "repo/.git", work=tmp_path / "work" / "shop"
    )
    stands = {"work": tmp_path / "work", "inbox": where.inbox}[name]
    where.root.mkdir()
    stands.touch()

    with pytest.raises(RepositoryError, match=f"{stands} is not a folder that you can write to"):
        check_writable(where)

    assert {*tmp_path.iterdir(), *where.root.iterdir()} == {where.root, stands}
