"""Copies of what stands at a place, and how it is put back: whatever a build or an agent did to it."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from factory.judging.layers import (
    copy,
    differing,
    digest_of,
    keep_copy,
    print_of,
    remove_newer,
    restore,
)
from factory.judging.payload import built_into
from factory.judging.place import Place, Stamp, read_stamp, write_stamp
from tests.floor import untracked
from tests.git_repo import write

FILES = {"lib/a.py": "a\n", "lib/deep/b.py": "b\n", "bin/tool": "#!/bin/sh\n"}
STAMP = Stamp(asked="a", candidate="", key="k", copy="c")


def content(top: Path) -> dict[str, object]:
    """Everything below, by its kind, mode and content."""
    found: dict[str, object] = {}
    for path in sorted(top.rglob("*")):
        mode = path.lstat().st_mode
        said = path.readlink() if path.is_symlink() else path.read_text() if path.is_file() else ""
        found[str(path.relative_to(top))] = (stat.filemode(mode), str(said))
    return found


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path / "b1", contents=untracked, keeps=("node_modules", "web/node_modules"))
    write(made.venv, FILES)
    write(made.tree, {"node_modules/x/index.js": "x\n", "web/index.js": ""})
    (made.venv / "bin/tool").chmod(0o755)
    (made.venv / "bin/python").symlink_to("/usr/bin/python3")
    keep_copy(made, STAMP)
    return made


def replaces_a_file(top: Path) -> None:
    (top / "lib/a.py").write_text("A\n")


def puts_the_times_back(top: Path) -> None:
    path = top / "lib/a.py"
    about = path.stat()
    path.write_text("A\n")
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


def closes_a_folder(top: Path) -> None:
    (top / "lib/deep").chmod(0)


def removes_a_folder(top: Path) -> None:
    (top / "lib/deep/b.py").unlink()
    (top / "lib/deep").rmdir()


def puts_a_link_for_a_folder(top: Path) -> None:
    (top / "lib").rename(top / "other")
    (top / "lib").symlink_to("/usr/lib")


def puts_a_folder_for_a_file(top: Path) -> None:
    (top / "lib/a.py").unlink()
    (top / "lib/a.py/more").mkdir(parents=True)


def adds_files(top: Path) -> None:
    write(top, {"lib/c.py": "c", "new/deep/d.py": "d"})
    os.mkfifo(top / "new/pipe")


def arms_a_program(top: Path) -> None:
    (top / "bin/tool").chmod(0o6755)


DEEDS = [
    replaces_a_file,
    puts_the_times_back,
    closes_a_folder,
    removes_a_folder,
    puts_a_link_for_a_folder,
    puts_a_folder_for_a_file,
    adds_files,
    arms_a_program,
]


@pytest.mark.parametrize(
    "known", [True, False], ids=["what it touched is known", "nothing is known"]
)
@pytest.mark.parametrize("deed", DEEDS, ids=lambda each: each.__name__)
def test_dependencies_are_put_back_as_they_were(
    place: Place, deed: Callable[[Path], None], known: bool
) -> None:
    was, before = content(place.venv), print_of(place.installed)
    deed(place.venv)
    after = print_of(place.installed)
    stands = digest_of(after)
    if known:
        touched = tuple(differing(before, after))
        write_stamp(
            place.stamp,
            Stamp(asked="a", candidate="", key="k", copy="c", print=stands, touched=touched),
        )

    restore(place, STAMP, after)

    assert content(place.venv) == was
    assert not place.stamp.exists()


def test_folders_are_told_apart_by_their_paths_whatever_links_a_candidate_brings(
    place: Place, tmp_path: Path
) -> None:
    write(place.tree, {"web/node_modules/y/index.js": "y\n"})
    keep_copy(place, STAMP)
    (place.tree / "web").rename(place.tree / "moved")
    (place.tree / "web").symlink_to(tmp_path)

    restore(place, STAMP, {})

    assert sorted(path.name for path in tmp_path.iterdir()) == ["b1"]
    assert (place.tree / "node_modules/x/index.js").read_text() == "x\n"


def test_a_copy_has_no_bits_that_run_it_as_somebody_else_and_no_pipes(tmp_path: Path) -> None:
    write(tmp_path, {"from/a": "a"})
    (tmp_path / "from/a").chmod(0o6755)
    os.mkfifo(tmp_path / "from/pipe")

    copy(tmp_path / "from", tmp_path / "to/there")

    assert content(tmp_path / "to/there") == {"a": ("-rwxr-xr-x", "a")}


def test_what_was_added_later_goes_and_what_was_there_stays(place: Place) -> None:
    was = content(place.venv)
    write_stamp(place.stamp, STAMP)
    for _ in range(1000):  # until the clock of the file system has moved on
        write(place.venv, {"later": ""})
        if (place.venv / "later").lstat().st_ctime_ns > place.stamp.lstat().st_ctime_ns:
            break
    write(place.venv, {"lib/c.py": "c", "new/d.py": "d"})

    remove_newer(place.installed, place.stamp)

    assert content(place.venv) == was


def test_a_stamp_of_another_version_is_none(tmp_path: Path) -> None:
    told = tmp_path / "environment.json"
    write_stamp(told, STAMP)
    good = read_stamp(told)
    told.write_text('{"asked": "a", "key": "k", "print": "p", "candidate": ""}')

    assert (good, read_stamp(told)) == (STAMP, None)


# ── what an installation built out of the tree ──


def installed(venv: Path, record: str, *, editable: bool = True, commands: str = "") -> list[str]:
    info = "lib/python3.13/site-packages/pkg-1.dist-info"
    url = json.dumps({"url": "file:///tree", "dir_info": {"editable": editable}})
    write(
        venv,
        {
            f"{info}/RECORD": record,
            f"{info}/direct_url.json": url,
            f"{info}/entry_points.txt": commands,
        },
    )
    return built_into(venv)


LOADERS = (
    "pkg.pth,,\n__editable__.pkg-1.pth,,\n__editable___pkg_1_finder.py,,\n_editable_impl_pkg.py,,\n"
)
METADATA = "pkg-1.dist-info/METADATA,,\n__pycache__/__editable___pkg_1_finder.cpython-313.pyc,,\n"


@pytest.mark.parametrize(
    ("record", "built"),
    [
        (LOADERS + METADATA + "../../../bin/pkg,,\n", []),
        ("pkg/_core.so,,\n" + LOADERS, ["pkg/_core.so"]),
        ("_core.cpython-313-x86_64-linux-gnu.so,,\n", ["_core.cpython-313-x86_64-linux-gnu.so"]),
        ("../../../bin/script-of-the-tree,,\n", ["../../../bin/script-of-the-tree"]),
        ("", []),
    ],
)
def test_what_an_editable_installation_copied_or_compiled_is_a_build(
    tmp_path: Path, record: str, built: list[str]
) -> None:
    assert installed(tmp_path, record, commands="[console_scripts]\npkg = pkg:main\n") == built


def test_what_is_installed_as_a_copy_is_a_dependency(tmp_path: Path) -> None:
    assert installed(tmp_path, "pkg/_core.so,,\n", editable=False) == []
