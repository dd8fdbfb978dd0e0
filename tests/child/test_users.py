"""Who uses a folder, found by each of the ways in which a process can."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from factory.child.users import users

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
WAIT = "print('up', flush=True); input()"


@contextmanager
def running(argv: list[str], cwd: Path) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        argv, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout
    assert child.stdout.readline() == "up\n"
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def python(code: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "w1/tree").mkdir(parents=True)
    return tmp_path / "w1"


def test_a_process_that_works_in_the_folder_uses_it(folder: Path) -> None:
    with running(python(WAIT), folder / "tree") as child:
        assert users(folder) == {child.pid: str(folder / "tree")}
        assert users(folder.with_name("w")) == {}, "another folder whose name begins alike"


def test_a_process_with_an_open_file_of_the_folder_uses_it_even_if_the_file_is_deleted(
    folder: Path,
) -> None:
    path = folder / "tree/log"
    with running(python(f"file = open({str(path)!r}, 'w'); {WAIT}"), Path("/")) as child:
        assert users(folder) == {child.pid: str(path)}
        path.unlink()
        assert users(folder) == {child.pid: f"{path} (deleted)"}


def test_a_process_in_a_sandbox_with_the_folder_mounted_uses_it(folder: Path) -> None:
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        pytest.skip("bubblewrap is not installed")
    program = [
        bwrap,
        "--ro-bind",
        "/",
        "/",
        "--bind",
        str(folder),
        str(folder),
        "--dev",
        "/dev",
        "--chdir",
        "/",
    ]
    with running([*program, "sh", "-c", "echo up; read -r line"], Path("/")):
        assert set(users(folder).values()) == {str(folder)}


def test_this_process_itself_is_no_user(folder: Path) -> None:
    with (folder / "tree/log").open("w"):
        assert users(folder) == {}


def test_a_folder_by_another_name_is_the_same_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with running(python(WAIT), folder / "tree") as child:
        assert list(users(tmp_path / "link/w1")) == [child.pid]


def test_without_proc_nobody_is_found(folder: Path, tmp_path: Path) -> None:
    with running(python(WAIT), folder / "tree"):
        assert users(folder, proc=tmp_path / "nowhere") == {}
        assert os.getpid() not in users(folder)
