"""Files are read up to a bound: larger ones are refused or cut, and cost no more than the bound."""

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from factory.ground import bounded
from factory.ground.bounded import TooLarge

LARGE = 1 << 40


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A sparse file, larger than any disk of this machine."""
    file = tmp_path / "large"
    with file.open("wb") as opened:
        opened.write(b"begin")
        opened.truncate(LARGE)
        opened.seek(LARGE)
        opened.write(b"end")
    return file


def refused(file: Path, most: int) -> bytes:
    with pytest.raises(TooLarge) as caught:
        bounded.whole(file, most)
    assert caught.value.size == LARGE + 3
    return b""


@pytest.mark.parametrize(
    ("read", "found"), [(bounded.head, b"begin"), (bounded.tail, b"end"), (refused, b"")]
)
def test_of_a_large_file_no_more_than_the_bound_is_in_memory(
    large: Path, read: Callable[[Path, int], bytes], found: bytes
) -> None:
    tracemalloc.start()

    content = read(large, 4096)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert content.strip(b"\0") == found
    assert peak < 64 << 10


def test_a_small_file_is_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "small"
    file.write_bytes(b"1234")

    assert [read(file, 4) for read in (bounded.whole, bounded.head, bounded.tail)] == [b"1234"] * 3


def test_what_is_no_plain_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")

    for path in (tmp_path / "fifo", tmp_path / "loop", tmp_path, tmp_path / "none"):
        with pytest.raises(OSError, match=r"."):
            bounded.whole(path, 4)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1 << 20, "1 MiB"),
        (700 << 20, "700 MiB"),
        (18 << 30, "18 GiB"),
        ((1 << 30) - 1, "1023.9 MiB"),
        (3 << 50, "3072 TiB"),
    ],
)
def test_sizes_are_said_in_units_that_people_use(size: int, words: str) -> None:
    assert bounded.shown(size) == words


def test_a_list_of_files_is_cut_and_names_cannot_steer_a_terminal() -> None:
    files = [("a", 1), ("b\x1b[2J", 2048), ("c", 3), ("d", 4)]

    assert bounded.listed(files, 2) == "a (1 bytes), 'b\\x1b[2J' (2 KiB) and 2 more"


def test_of_a_long_path_the_ends_are_shown() -> None:
    assert bounded.named("a" * 200 + "/end.txt") == "a" * 60 + "…" + "a" * 52 + "/end.txt"
