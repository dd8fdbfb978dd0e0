"""When a disk counts as full: by what is free, and by what an error says."""

import errno
from pathlib import Path

import pytest

from factory import disk
from factory.errors import GitError, StoreError


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
        StoreError("The store could not do its work: database or disk is full. This step was undone."),
        caused(StoreError("the store cannot be made"), by=OSError(errno.ENOSPC, "")),
        ExceptionGroup("several", [ValueError("no"), OSError(errno.ENOSPC, "")]),
    ],
)
def test_an_error_for_want_of_room_is_known_by_itself_or_by_what_it_came_from(error: Exception) -> None:
    assert disk.full(error)


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "no"), GitError(("add",), 128, "bad index"), ValueError()])
def test_any_other_error_says_nothing_about_room(error: Exception) -> None:
    assert not disk.full(error)


def test_the_first_folder_with_too_little_room_is_named_and_one_that_is_gone_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = disk.lacking([tmp_path])
    monkeypatch.setattr(disk, "LEAST", 1 << 60)

    after = disk.lacking([tmp_path / "gone", tmp_path])

    assert (before, after) == ("", str(tmp_path))
