"""Output files are read as they grow."""

from pathlib import Path

from factory.tail import LONGEST, Tail


def test_each_line_is_read_once_also_across_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "output.log"
    path.write_bytes(b"one\nha")
    tail = Tail(str(tmp_path))

    first = tail.lines()
    with path.open("ab") as file:
        file.write(b"lf\nlast of the old\n")
    path.rename(tmp_path / "output.1.log")
    between = tail.lines()
    path.write_bytes(b"first of the new\n")

    assert (first, between) == ([b"one"], [])
    assert tail.lines() == [b"half", b"last of the old", b"first of the new"]
    assert tail.lines() == []


def test_an_older_file_that_was_never_read_comes_first(tmp_path: Path) -> None:
    (tmp_path / "output.1.log").write_bytes(b"older\n")
    (tmp_path / "output.log").write_bytes(b"newer\nunfinished")

    tail = Tail(str(tmp_path))

    assert tail.lines() == [b"older", b"newer"]
    assert tail.lines(ended=True) == [b"unfinished"]


def test_a_line_without_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    (tmp_path / "output.log").write_bytes(b"x" * (LONGEST + 1))

    assert [len(line) for line in Tail(str(tmp_path)).lines()] == [LONGEST + 1]


def test_a_run_that_has_not_begun_has_no_lines(tmp_path: Path) -> None:
    assert Tail(str(tmp_path / "gone")).lines() == []
