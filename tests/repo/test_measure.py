"""What an agent left is measured before git reads it: what is too big stays in the workspace, and is named."""

import os
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from factory.child import process
from factory.ground.errors import TooLong
from factory.repo import measure
from factory.repo.git import Git
from factory.repo.measure import NOTHING_IN_TIME, TooBig
from factory.repo.workspaces import Snapshot, Workspace
from tests.git_repo import git
from tests.repo.test_workspaces import FILES, Line, make_line, make_repositories


@pytest.fixture(scope="module")
def seed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("seed")
    make_repositories(root, FILES | {"empty": ""})
    return root


@pytest.fixture
async def line(seed: Path, tmp_path: Path) -> Line:
    shutil.copytree(seed, tmp_path, dirs_exist_ok=True)
    return make_line(tmp_path)


def sparse(file: Path, size: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("ab") as opened:
        opened.truncate(size)


def taken(line: Line, snapshot: Snapshot) -> dict[str, str]:
    assert snapshot.too_big is not None
    return line.changes(snapshot.tree)


@pytest.mark.parametrize("name", ["new/big.bin", "src/app.py", "empty"])
async def test_a_sparse_file_counts_in_full_and_the_rest_is_taken(line: Line, name: str) -> None:
    workspace = await line.workspace()
    sparse(workspace.tree / name, 1 << 43)
    (workspace.tree / "work.py").write_text("work\n")

    snapshot = await line.snapshot(workspace)

    assert taken(line, snapshot) == {"work.py": "A"}
    assert (snapshot.left_out, snapshot.missed) == ("", ())
    why = "the files that it changed have 8 TiB together; the limit is 4 GiB"
    assert snapshot.too_big == TooBig(why, ((name, 1 << 43),))
    assert snapshot.too_big.sentence == f"{why}: {name} (8 TiB)"
    assert (workspace.tree / name).stat().st_size == 1 << 43


async def test_what_git_ignores_does_not_count(line: Line) -> None:
    workspace = await line.workspace()
    sparse(workspace.tree / "build/huge", 1 << 43)
    (workspace.tree / "link").symlink_to("link")

    snapshot = await line.snapshot(workspace)

    assert (snapshot.too_big, line.changes(snapshot.tree)) == (None, {"link": "A"})


async def test_the_largest_files_are_left_out_until_the_rest_fits(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "MOST_BYTES", 100)
    workspace = await line.workspace()
    for number, size in enumerate((90, 10, 60, 80, 1)):
        (workspace.tree / f"{number}").write_bytes(b"x" * size)

    snapshot = await line.snapshot(workspace)

    assert taken(line, snapshot) == dict.fromkeys("124", "A")
    assert snapshot.too_big is not None
    assert snapshot.too_big.paths == (("0", 90), ("3", 80))


async def test_of_too_many_files_new_folders_are_left_out(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "MOST_PATHS", 20)
    workspace = await line.workspace()
    for number in range(30):
        sparse(workspace.tree / f"src/lib/made/{number}", 0)
    (workspace.tree / "src/app.py").write_text("new\n")
    (workspace.tree / "src/more.py").write_text("more\n")

    snapshot = await line.snapshot(workspace)

    assert taken(line, snapshot) == {"src/app.py": "M", "src/more.py": "A"}
    assert snapshot.too_big is not None
    assert snapshot.too_big.sentence.endswith("New folders were left out: src/lib/made/")


async def test_of_too_many_files_in_folders_that_were_there_all_new_ones_are_left_out(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "MOST_PATHS", 20)
    workspace = await line.workspace()
    for number in range(30):
        sparse(workspace.tree / f"src/{number}", 0)
    (workspace.tree / "src/app.py").write_text("new\n")
    (workspace.tree / "README.md").unlink()

    snapshot = await line.snapshot(workspace)

    assert taken(line, snapshot) == {"src/app.py": "M", "README.md": "D"}
    assert snapshot.too_big is not None
    assert snapshot.too_big.sentence.endswith("All new files were left out")


async def test_where_too_many_tracked_files_have_changed_none_is_taken(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "MOST_PATHS", 2)
    workspace = await line.workspace()
    for path in FILES:
        (workspace.tree / path).write_text("other\n")

    snapshot = await line.snapshot(workspace)

    assert (taken(line, snapshot), snapshot.changed) == ({}, False)


async def test_paths_that_are_long_together_are_too_many(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "NAME_BYTES", 60_000)
    workspace = await line.workspace()
    top = os.open(workspace.tree, os.O_RDONLY)
    for _ in range(15):  # a path of nearly 4,000 bytes
        os.mkdir("d" * 250, dir_fd=top)
        top, above = os.open("d" * 250, os.O_RDONLY, dir_fd=top), top
        os.close(above)
    for number in range(20):
        os.close(os.open(f"{number}", os.O_CREAT, dir_fd=top))
    os.close(top)
    (workspace.tree / "work.py").write_text("work\n")

    snapshot = await line.snapshot(workspace)

    assert taken(line, snapshot) == {"work.py": "A"}


async def test_a_folder_of_very_many_files_takes_little_memory(line: Line) -> None:
    workspace = await line.workspace()
    deep = workspace.tree / "/".join(["d" * 250] * 12)
    deep.mkdir(parents=True)
    for number in range(6000):
        (deep / f"{number}").touch()
    tracemalloc.start()

    snapshot = await line.snapshot(workspace)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken(line, snapshot) == {}
    assert peak < 24 << 20  # of paths that have 18 MB together: git prints them to the bound


async def test_what_git_cannot_take_in_in_time_is_left_out(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = await line.workspace()
    (workspace.tree / "work.py").write_text("work\n")
    slow_to_add(monkeypatch)

    snapshot = await line.snapshot(workspace)

    assert (snapshot.too_big, snapshot.changed) == (NOTHING_IN_TIME, False)


async def test_where_the_daemon_goes_the_next_one_takes_it_in(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = await line.workspace()
    slow_to_add(monkeypatch)
    line.own.commands.hurry(10)

    with pytest.raises(TooLong):
        await line.snapshot(workspace)


def slow_to_add(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Git.run

    async def slow(self: Git, *argv: str, **more: Any) -> process.Output:
        if argv[0] == "add":
            raise TooLong(argv, -15, "it took too long")
        return await run(self, *argv, **more)

    monkeypatch.setattr(Git, "run", slow)


async def lost_index(line: Line, workspace: Workspace) -> None:
    line.workspaces._index(workspace.name).unlink()


async def damaged_index(line: Line, workspace: Workspace) -> None:
    line.workspaces._index(workspace.name).write_bytes(b"DIRC nonsense")


@pytest.mark.parametrize("harm", [lost_index, damaged_index])
async def test_without_an_index_only_what_has_changed_counts(
    line: Line, monkeypatch: pytest.MonkeyPatch, harm: Any
) -> None:
    monkeypatch.setattr(measure, "MOST_PATHS", 1)
    workspace = await line.workspace()
    (workspace.tree / "src/app.py").write_text("new\n")
    await harm(line, workspace)

    snapshot = await line.snapshot(workspace)

    assert (snapshot.too_big, line.changes(snapshot.tree)) == (None, {"src/app.py": "M"})


async def test_a_workspace_that_is_put_aside_keeps_its_index(line: Line) -> None:
    workspace = await line.workspace()
    index = line.workspaces._index(workspace.name).read_bytes()

    aside = line.workspaces.abandon(workspace.name)

    assert line.workspaces._index(aside.name).read_bytes() == index
    assert not line.workspaces._index(workspace.name).exists()
    await line.workspaces.drop(aside.name)
    assert git(line.user, "status", "--porcelain") == ""
    assert not line.workspaces._index(aside.name).exists()
