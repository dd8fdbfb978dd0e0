"""Short commands for real: what they print is held up to a bound, whatever they print and read."""

import os
import tempfile
import tracemalloc
from pathlib import Path

import pytest

from factory.child import process
from factory.ground.pipes import COMPLAINTS, Into

ENV = {"PATH": "/usr/bin:/bin"}
MEGABYTES = "dd if=/dev/zero bs=65536 count=1000 2> /dev/null"


async def ran(script: str, *, into: Into = process.INTO, stdin: bytes = b"") -> process.Output:
    return await process.run(["sh", "-c", script], env=ENV, into=into, stdin=stdin)


async def test_a_command_that_prints_without_end_is_ended_at_the_bound() -> None:
    tracemalloc.start()

    done = await ran("yes", into=Into(1 << 20))

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (done.much, done.over, done.left, done.code) == (True, False, False, -15)
    assert 0 < len(done.out) <= 1 << 20
    assert peak < 4 << 20


async def test_one_that_ignores_its_end_is_killed_and_what_it_prints_meanwhile_is_not_kept() -> (
    None
):
    done = await ran("trap '' TERM PIPE; while :; do echo x; done", into=Into(1000))

    assert (done.much, done.code) == (True, -9)
    assert len(done.out) <= 1000


async def test_of_complaints_the_first_are_kept_and_the_command_goes_on() -> None:
    done = await ran(f"echo first >&2; {{ {MEGABYTES}; }} >&2; echo good")

    assert (done.code, done.out) == (0, b"good\n")
    assert (len(done.err), done.err[:6]) == (COMPLAINTS, b"first\n")


async def test_what_is_written_to_a_file_is_in_no_memory_and_has_a_bound_too() -> None:
    with tempfile.TemporaryFile() as file:
        done = await ran(MEGABYTES, into=Into(1 << 30, file))

        assert (done.much, done.out, os.fstat(file.fileno()).st_size) == (False, b"", 65_536_000)
    with tempfile.TemporaryFile() as file:
        assert (await ran(MEGABYTES, into=Into(1 << 20, file))).much


@pytest.mark.parametrize(
    "script", ["cat", "exec 0<&-; echo shut", "head -c 10; cat > /dev/null", "exit 3"]
)
async def test_what_is_sent_is_read_whole_in_part_or_not_at_all(script: str) -> None:
    sent = b"0123456789" * 100_000

    done = await ran(script, stdin=sent)

    told = {"cat": sent, "exit 3": b"", "head -c 10; cat > /dev/null": b"0123456789"}
    assert done.out == told.get(script, b"shut\n")
    assert done.code == (3 if script == "exit 3" else 0)


async def test_a_file_is_read_by_the_command_itself(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")

    with (tmp_path / "file").open("rb") as file:
        done = await process.run(["cat"], env=ENV, stdin=file)

    assert done.out == b"content"
