"""Packing on a real repository: no object is ever lost, whoever borrows or reads it, and whenever the process dies."""

import os
import signal
import subprocess
import sys
from hashlib import sha1
from pathlib import Path

import pytest

from factory.repo import packing, private_git
from factory.repo.git import Git
from factory.repo.packing import FEW, Packing
from tests.git_repo import git, make_repo

RUN = """
import os, sys
from pathlib import Path
import anyio
from factory.repo import packing
from factory.repo.git import Git
packing.FEW = 1
async def run():
    made = packing.Packing(Git(git_dir=Path(sys.argv[1]), own=True, environ=dict(os.environ)))
    await made.pack()
    await made.merge()
anyio.run(run)
"""


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A bare clone with loose objects, some of which nothing refers to."""
    root = make_repo(tmp_path / "repo", {"a.txt": "one\n", "b/c.txt": "two\n"})
    bare = tmp_path / "own"
    git(tmp_path, "clone", "-q", "--bare", str(root), str(bare))
    for number in range(5):
        add(bare, f"nobody refers to {number}")
    return bare


def own(bare: Path) -> Packing:
    return Packing(Git(git_dir=bare, own=True, environ=dict(os.environ)))


def add(bare: Path, text: str) -> str:
    """A loose object that nothing refers to."""
    made = subprocess.run(
        ["git", "hash-object", "-w", "--stdin"],
        cwd=bare,
        input=text.encode(),
        capture_output=True,
        check=True,
    )
    return made.stdout.decode().strip()


def objects(bare: Path) -> list[str]:
    """Every object that git finds."""
    how = ("cat-file", "--batch-all-objects", "--batch-check=%(objectname) %(objecttype)")
    return git(bare, *how).splitlines()


def loose(bare: Path) -> list[str]:
    found = bare.glob("objects/??/*")
    return sorted(path.parent.name + path.name for path in found)


def packs(bare: Path) -> list[str]:
    return sorted(path.name for path in (bare / "objects/pack").glob("*.pack"))


async def test_all_objects_are_packed_also_those_that_nothing_refers_to(bare: Path) -> None:
    before = objects(bare)

    packed = await own(bare).pack()

    assert (packed, objects(bare), loose(bare), len(packs(bare))) == (True, before, [], 1)
    assert not await own(bare).pack()


async def test_a_step_takes_so_many_objects_and_leaves_large_ones(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = objects(bare)
    monkeypatch.setattr(packing, "AT_ONCE", 4)
    large = add(bare, os.urandom(3000).hex())
    monkeypatch.setattr(packing, "LARGE", 2000)

    await own(bare).pack()
    left = len(loose(bare))
    while await own(bare).pack():
        pass

    assert left == len(before) + 1 - 4
    assert loose(bare) == [large]
    assert sorted(objects(bare)) == sorted([*before, f"{large} blob"])


async def test_many_small_packs_become_one_and_a_large_one_stays(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(bare, os.urandom(9000).hex())
    await own(bare).pack()
    (large,) = packs(bare)
    monkeypatch.setattr(packing, "STEP_BYTES", 8000)
    for number in range(FEW + 1):
        add(bare, f"more {number}")
        await own(bare).pack()
    before = objects(bare)

    await own(bare).merge()

    assert len(packs(bare)) == 2
    assert large in packs(bare)
    assert objects(bare) == before


async def test_few_packs_stay_and_temporary_ones_of_a_dead_git_go(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await own(bare).pack()
    add(bare, "more")
    await own(bare).pack()
    before = packs(bare)
    old, young = (bare / f"objects/pack/tmp_pack_{name}" for name in ("old", "young"))
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))

    await own(bare).merge()
    assert packs(bare) == before
    monkeypatch.setattr(packing, "FEW", 1)
    await own(bare).merge()

    assert (old.exists(), young.exists()) == (False, True)


async def test_a_workspace_that_borrows_and_a_git_that_reads_find_everything(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "FEW", 0)
    lonely = add(bare, "only a workspace needs it")
    workspace = tmp_path / "tree"
    workspace.mkdir()
    head = git(bare, "rev-parse", "HEAD")
    private_git.write(workspace / ".git", bare, head, b"", "")
    git(workspace, "read-tree", "HEAD")
    git(workspace, "update-index", "--add", "--cacheinfo", f"100644,{lonely},lonely.txt")
    command = ["git", "cat-file", "--batch"]
    pipe = subprocess.PIPE
    reader = subprocess.Popen(command, cwd=bare, stdin=pipe, stdout=pipe)  # noqa: ASYNC220
    assert reader.stdin is not None
    reader.stdin.write(f"{head}\n".encode())
    reader.stdin.flush()

    await own(bare).pack()
    add(bare, "more")
    await own(bare).pack()
    await own(bare).merge()

    out, _ = reader.communicate(f"{lonely}\n".encode())
    assert out.endswith(b"only a workspace needs it\n")
    git(workspace, "checkout-index", "lonely.txt")
    assert (workspace / "lonely.txt").read_text() == "only a workspace needs it"
    assert git(workspace, "write-tree")


async def test_objects_of_a_user_whose_repository_was_cloned_stay_where_they_are(
    bare: Path, tmp_path: Path
) -> None:
    before = loose(tmp_path / "repo/.git")

    await own(bare).pack()

    assert loose(tmp_path / "repo/.git") == before
    assert packs(tmp_path / "repo/.git") == []


def test_killed_on_either_side_of_each_step_no_object_is_lost(bare: Path) -> None:
    before = objects(bare)
    for point in ("archive.pack", "archive.loose", "archive.merge"):
        for side in ("before", "after"):
            before.append(f"{add(bare, f'more {point} {side}')} blob")

            done = run(bare, f"{point}:{side}")

            assert done == -signal.SIGKILL, point
            assert objects(bare) == sorted(before)
    assert run(bare, "") == 0

    assert (objects(bare), loose(bare)) == (sorted(before), [])
    assert git(bare, "fsck", "--full", "--no-dangling") == ""


def run(bare: Path, fault: str) -> int:
    """Pack and merge in another process, which may die; its exit code."""
    command = [sys.executable, "-c", RUN, str(bare)]
    return subprocess.run(
        command, env=os.environ | {"FACTORY_FAULT": fault}, check=False
    ).returncode


async def test_the_number_of_loose_objects_is_estimated_from_the_folder_that_is_packed_last(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = own(bare).loose()
    assert add(bare, last_text()).startswith("ff")
    monkeypatch.setattr(packing, "AT_ONCE", 4)
    estimates = [own(bare).loose()]

    while await own(bare).pack():
        estimates.append(own(bare).loose())

    assert estimates == [before + 256] * (len(estimates) - 1) + [0]
    assert len(estimates) > 2


def last_text() -> str:
    """A text whose blob is in the last folder of loose objects."""
    for number in range(10_000):
        text = f"text {number}"
        if sha1(f"blob {len(text)}\0{text}".encode()).hexdigest().startswith("ff"):
            return text
    raise AssertionError("no such text")
