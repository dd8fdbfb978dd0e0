"""When a disk counts as full: by what is free, and by what an error says."""

import errno
import os
from pathlib import Path

import pytest

from factory.ground import disk
from factory.ground.errors import GitError, StoreError


def caused(error: Exception, by: Exception) -> Exception:
    try:
        raise error from by
    except type(error) as raised:
        return raised


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "no matter what it says"),
        OSError(errno.EDQUOT, "no matter what it says"),
        GitError(("add",), 128, "error: file write error: No space left on device"),
        GitError(("fetch",), 128, "fatal: unable to write: Disk quota exceeded"),
        StoreError(
            "The store could not do its work: database or disk is full. This step was undone."
        ),
        caused(StoreError("the store cannot be made"), by=OSError(errno.ENOSPC, "")),
        ExceptionGroup("several", [ValueError("no"), OSError(errno.ENOSPC, "")]),
    ],
)
def test_an_error_for_want_of_room_is_known_by_itself_or_by_what_it_came_from(
    error: Exception,
) -> None:
    assert disk.full(error)


@pytest.mark.parametrize(
    "error", [OSError(errno.EACCES, "no"), GitError(("add",), 128, "bad index"), ValueError()]
)
def test_any_other_error_says_nothing_about_room(error: Exception) -> None:
    assert not disk.full(error)


def test_the_first_folder_with_too_little_room_is_named_and_one_that_is_gone_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = disk.lacking([tmp_path])
    monkeypatch.setattr(disk, "LEAST", 1 << 60)

    after = disk.lacking([tmp_path / "gone", tmp_path])

    assert (before, after) == ("", str(tmp_path))


# ── what goes ──


def test_a_folder_goes_however_it_was_left_and_what_its_links_lead_to_stays(tmp_path: Path) -> None:
    folder, kept = tmp_path / "folder", tmp_path / "kept"
    kept.mkdir()
    (kept / "mine").write_text("x")
    (folder / "closed/in it").mkdir(parents=True)
    (folder / "closed/in it/0").write_text("x")
    (folder / "0/0/1").mkdir(parents=True)
    (folder / "1").symlink_to(kept)
    os.mkfifo(folder / "fifo")
    for closed in (folder / "closed/in it", folder / "closed", folder):
        closed.chmod(0)

    disk.remove(folder)

    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (kept / "mine").exists()


def test_a_folder_goes_that_is_deeper_than_a_path_may_be_long(tmp_path: Path) -> None:
    top = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("deeper", dir_fd=top)
        top, above = os.open("deeper", os.O_RDONLY, dir_fd=top), top
        os.close(above)
    os.close(top)

    disk.remove(tmp_path / "deeper")

    assert not list(tmp_path.iterdir())


def test_what_is_no_folder_goes_alone(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (tmp_path / "link").symlink_to(kept)
    (tmp_path / "file").touch()

    for name in ("link", "file", "nothing"):
        disk.remove(tmp_path / name)

    assert list(tmp_path.iterdir()) == [kept]
