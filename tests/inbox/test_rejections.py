from pathlib import Path

import pytest

from factory.ground.errors import TaskFileError
from factory.inbox import rejections

ERROR = TaskFileError("unknown key 'x'", line=2, form="one of title, needs")


def test_the_reason_is_read_from_the_note_that_was_written(tmp_path: Path) -> None:
    said = rejections.note("a.md", "line 2: unknown key 'x'", ERROR, inbox="inbox")
    (tmp_path / "a.md.error.txt").write_text(said)

    assert rejections.reason(tmp_path, "a.md") == "line 2: unknown key 'x'"


@pytest.mark.parametrize("text", [b"", b"mine", b"a\n\n\ncorrect form: b", None])
def test_of_a_note_that_somebody_changed_the_reason_is_where_to_look(
    tmp_path: Path, text: bytes | None
) -> None:
    if text is not None:
        (tmp_path / "a.md.error.txt").write_bytes(text)

    assert rejections.reason(tmp_path, "a.md") == "a.md.error.txt says why"


def test_a_reason_is_one_line_of_bounded_length(tmp_path: Path) -> None:
    (tmp_path / "a.md.error.txt").write_bytes(b"x\n\none\ntwo \xff" + b"y" * 100_000)

    why = rejections.reason(tmp_path, "a.md")

    assert (why[:8], len(why)) == ("one two ", 500)


def test_a_file_is_rejected_while_both_it_and_its_note_are_there(tmp_path: Path) -> None:
    for name in ("b.md", "b.md.error.txt", "a.md", "a.md.error.txt", "c.md", "d.md.error.txt"):
        (tmp_path / name).touch()

    assert rejections.rejected(tmp_path) == ["a.md", "b.md"]
