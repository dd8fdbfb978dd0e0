"""Files that block a landing: whoever changes one in any way is noticed, and its unit is named."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from factory.queue.in_the_way import InTheWay


def replaced(path: Path) -> None:
    new = path.with_name("new")
    new.write_text("other")
    new.replace(path)


def linked(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda path: path.write_text("other"),
    "replaced": replaced,
    "mode": lambda path: path.chmod(0o600),
    "deleted": Path.unlink,
    "became a link": linked,
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_of_a_file_names_the_units_that_wait_for_it(
    tmp_path: Path, change: str
) -> None:
    path, other = tmp_path / "file", tmp_path / "other"
    for each in (path, other):
        each.write_text("x")
        os.utime(each, (1, 1))
    blocked = InTheWay()
    blocked.put("one", [path, tmp_path / "missing"])
    blocked.put("two", [other])
    before = blocked.look()
    assert blocked.changed(before) == []

    CHANGES[change](path)

    assert blocked.changed(before) == ["one"]


def test_a_file_that_appears_is_a_change(tmp_path: Path) -> None:
    blocked = InTheWay()
    blocked.put("one", [tmp_path / "missing"])
    before = blocked.look()

    (tmp_path / "missing").touch()

    assert blocked.changed(before) == ["one"]


def test_what_is_kept_no_more_is_not_looked_at(tmp_path: Path) -> None:
    blocked = InTheWay()
    blocked.put("one", [tmp_path])

    blocked.keep({"two"})

    assert (bool(blocked), dict(blocked.look())) == (False, {})
