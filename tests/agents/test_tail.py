"""Output files are read as they grow."""

from pathlib import Path

from factory.agents.tail import LAST_BYTES, LONGEST, LOOK_BYTES, LOOK_LINES, Fragment, Tail


def all_of(tail: Tail, *, ended: bool = False) -> list[bytes]:
    found = tail.lines()
    while tail.is_behind:
        found += tail.lines()
    return found + (tail.last() if ended else [])


def rotate(folder: Path) -> None:
    (folder / "output.log").rename(folder / "output.1.log")


def test_each_line_is_read_once_also_across_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "output.log"
    path.write_bytes(b"one\nha")
    tail = Tail(str(tmp_path))

    first = all_of(tail)
    with path.open("ab") as file:
        file.write(b"lf\nlast of the old\nspl")
    rotate(tmp_path)
    between = all_of(tail)
    path.write_bytes(b"it\nfirst of the new\n")

    assert (first, between) == ([b"one"], [b"half", b"last of the old"])
    assert all_of(tail) == [b"split", b"first of the new"]
    assert all_of(tail) == []
    assert tail.lost == 0


def test_an_older_file_that_was_never_read_comes_first(tmp_path: Path) -> None:
    (tmp_path / "output.1.log").write_bytes(b"older\n")
    (tmp_path / "output.log").write_bytes(b"newer\nunfinished")

    assert all_of(Tail(str(tmp_path)), ended=True) == [b"older", b"newer", b"unfinished"]


def test_a_look_reads_so_much_and_gives_so_many_lines(tmp_path: Path) -> None:
    (tmp_path / "output.log").write_bytes(
        b"x\n" * (3 * LOOK_LINES) + b"y" * (2 * LOOK_BYTES) + b"\nz\n"
    )
    tail = Tail(str(tmp_path))

    looks = [tail.lines() for _ in range(7)]

    assert [len(each) for each in looks] == [LOOK_LINES] * 3 + [0, 2, 0, 0]
    assert not tail.is_behind


def test_a_large_output_is_read_look_by_look_to_its_end(tmp_path: Path) -> None:
    line = b"x" * 79
    (tmp_path / "output.1.log").write_bytes((line + b"\n") * 30_000)
    (tmp_path / "output.log").write_bytes((line + b"\n") * 30_000 + b"last")
    tail = Tail(str(tmp_path))

    assert all_of(tail, ended=True) == [line] * 60_000 + [b"last"]
    assert tail.lost == 0


def test_what_was_rotated_away_is_counted_and_the_newest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "output.log"
    path.write_bytes(b"one\nha")
    tail = Tail(str(tmp_path))
    first = all_of(tail)

    rotate(tmp_path)
    path.write_bytes(b"x" * LAST_BYTES + b"\n")
    rotate(tmp_path)
    path.write_bytes(b"y\n" * 5 + b"z")

    assert first == [b"one"]
    assert [each for each in all_of(tail, ended=True) if not isinstance(each, Fragment)] == [
        *[b"y"] * 5,
        b"z",
    ]
    assert tail.lost >= LAST_BYTES - 16_000


def test_a_new_file_with_the_number_of_one_that_is_gone_is_not_taken_for_it(tmp_path: Path) -> None:
    path, tail = tmp_path / "output.log", Tail(str(tmp_path))
    path.write_bytes(b"a\n" * 10)
    first = all_of(tail)

    inodes = set[int]()
    for text in (
        b"b\n" * 20,
        b"c\n" * 20,
    ):  # some file systems give the new file the inode of the one that goes
        inodes.add(path.stat().st_ino)
        rotate(tmp_path)
        path.write_bytes(text)

    assert first == [b"a"] * 10
    assert all_of(tail) == [b"b"] * 20 + [b"c"] * 20


def test_what_is_skipped_is_counted_and_the_last_part_is_read(tmp_path: Path) -> None:
    (tmp_path / "output.1.log").write_bytes(b"old\n" * 400_000)
    (tmp_path / "output.log").write_bytes(b"new\n" * 400_000 + b"last\n")
    tail = Tail(str(tmp_path))
    tail.lines()

    tail.skip()

    begun, *lines = all_of(tail)
    assert isinstance(begun, Fragment)
    assert lines[-1] == b"last"
    assert sum(len(line) + 1 for line in (begun, *lines)) == LAST_BYTES
    assert tail.lost == 3_200_005 - LOOK_LINES * 4 - LAST_BYTES


def test_a_short_rest_is_not_skipped(tmp_path: Path) -> None:
    (tmp_path / "output.log").write_bytes(b"one\ntwo\n")
    tail = Tail(str(tmp_path))

    tail.skip()

    assert (all_of(tail), tail.lost) == ([b"one", b"two"], 0)


def test_a_line_that_is_too_long_is_given_in_fragments(tmp_path: Path) -> None:
    (tmp_path / "output.log").write_bytes(b"x" * (2 * LONGEST) + b"y\nnext\n")

    *fragments, last = all_of(Tail(str(tmp_path)))

    assert (all(isinstance(each, Fragment) for each in fragments), last) == (True, b"next")
    assert max(map(len, fragments)) <= 16_000
    assert fragments[-1].endswith(b"xxy")


def test_a_run_that_has_not_begun_has_no_lines(tmp_path: Path) -> None:
    assert all_of(Tail(str(tmp_path / "gone")), ended=True) == []
