"""What an agent prints is read at a bounded cost, and the end of it in time, whatever was printed before."""

import json
import time
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

from factory.agents import output
from factory.agents.output import MOST_TOOLS, OutputReader, Seen, Usage
from factory.agents.runtime import Runtime
from factory.agents.runtime_file import parse_runtime
from factory.agents.tail import LAST_BYTES, LONGEST, LOOK_BYTES, LOOK_LINES
from factory.child import report

NOW = datetime(2026, 11, 24, 11, 10, tzinfo=UTC)
SHIPPED = Path(__file__).parents[2] / "conventions" / "runtimes"
JSONL = """
command = ["x"]
[output]
format = "jsonl"
result = "*:result"
session = "*:session"
tool_open = "open:ids"
tool_close = "close:ids"
step = "*:step"
error = "*:error"
done_if = "end"
[output.usage]
mode = "step"
input = "*:got"
output = "*:gave"
cost = "*:cost"
[limit]
patterns = ["limit reached, resets (?P<reset>\\\\S+)"]
reset = "*:reset"
status = "*:status"
"""


def runtime(text: str = JSONL) -> Runtime:
    return parse_runtime("mine", text, where="mine.toml")


def event(kind: str = "say", **fields: Any) -> bytes:
    return json.dumps({"type": kind, **fields}).encode() + b"\n"


def reading(folder: Path, *printed: bytes, text: str = JSONL) -> OutputReader:
    (folder / "output.log").write_bytes(b"".join(printed))
    return OutputReader(runtime(text), folder)


def read_all(reader: OutputReader) -> Seen:
    reader.look(NOW)
    while reader.is_behind:
        reader.look(NOW)
    reader.end(NOW)
    return reader.seen()


@pytest.mark.parametrize(
    "printed",
    [
        b"y\n" * (2 << 20),
        event("open", ids=[f"call-{number}" for number in range(100)]) * 1500,
        b"".join(event("open", ids=f"call-{number}") for number in range(2000)),
        event(result="x" * (1 << 20)) * 4,
        b"[" * (5 << 20),
        b'{"type":"say","a":[' + b"[]," * ((LONGEST - 40) // 3) + b"1]}\n",
        b'{"type":"open","ids":[' + b'"a",' * ((LONGEST - 40) // 4) + b'"b"]}\n',
        b'{"type":"open","ids":[' + b"[[1,1,1,1]]," * ((LONGEST - 40) // 12) + b"1]}\n",
        b'{"a":' * 100_000 + b"\n",
    ],
    ids=[
        "yes",
        "many ids",
        "many open",
        "long results",
        "no newline",
        "lists",
        "one list",
        "nested",
        "deep",
    ],
)
def test_no_look_costs_much_time(tmp_path: Path, printed: bytes) -> None:
    reader = reading(tmp_path, printed)
    longest = 0.0

    for _ in range(6):
        began = time.thread_time()
        reader.look(NOW)
        longest = max(longest, time.thread_time() - began)

    assert longest < 0.2


@pytest.mark.parametrize(
    "printed",
    [
        b"y\n" * (8 << 20),
        b"[" * (16 << 20),
        b'{"type":"say","a":[' + b"[]," * ((LONGEST - 40) // 3) + b"1]}\n",
    ],
    ids=["yes", "no newline", "lists"],
)
def test_no_look_takes_much_memory(tmp_path: Path, printed: bytes) -> None:
    reader = reading(tmp_path, printed)

    tracemalloc.start()
    try:
        for _ in range(5):
            reader.look(NOW)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert most < 80e6


def test_one_look_reads_so_much_and_so_many_lines(tmp_path: Path) -> None:
    short = reading(tmp_path, event(got=1) * 3 * LOOK_LINES)
    short.look(NOW)
    assert (short.seen().usage.input, short.is_behind) == (LOOK_LINES, True)

    long = reading(tmp_path, event(got=1, x="x" * (LOOK_BYTES // 2)) * 5)
    long.look(NOW)
    assert (long.seen().usage.input, long.is_behind) == (1, True)


async def test_others_get_their_turn_between_two_looks(tmp_path: Path) -> None:
    reader = reading(tmp_path, event(got=1) * 4 * LOOK_LINES)
    turns = list[int]()

    async def other() -> None:
        while True:
            turns.append(reader.seen().usage.input)
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as both:
        both.start_soon(other)
        await anyio.lowlevel.checkpoint()
        await reader.catch_up(lambda: NOW)
        both.cancel_scope.cancel()

    assert {LOOK_LINES, 2 * LOOK_LINES, 3 * LOOK_LINES} <= set(turns)


async def test_an_agent_that_never_pauses_does_not_keep_its_reader(tmp_path: Path) -> None:
    reader = reading(tmp_path, event(got=1) * (output.LOOKS + 5) * LOOK_LINES)

    seen = await reader.catch_up(lambda: NOW)

    assert (seen.usage.input, reader.is_behind) == (output.LOOKS * LOOK_LINES, True)


async def test_a_whole_output_is_read_to_its_end_where_there_is_time(tmp_path: Path) -> None:
    reader = reading(tmp_path, event(got=1, x="x" * 400) * 5_000, event("end", result="Done."))

    seen = await reader.finish(lambda: NOW, seconds=60)

    assert (seen.usage.input, seen.result, seen.done, seen.unread, seen.too_little) == (
        5_000,
        "Done.",
        True,
        0,
        False,
    )


async def test_the_end_is_acted_on_whatever_was_printed_before_and_what_is_missing_is_said(
    tmp_path: Path,
) -> None:
    noise = event(got=1, gave=1, cost=0.001) * 40_000
    reader = reading(
        tmp_path, event("open", ids="a"), noise, event("end", result="Done.", cost=0.5)
    )

    seen = await reader.finish(lambda: NOW, seconds=0)

    assert (seen.result, seen.done, seen.tools) == ("Done.", True, frozenset())
    assert seen.unread > len(noise) - LAST_BYTES - LOOK_BYTES
    assert seen.too_little
    assert (seen.usage.estimated, seen.usage.priced, seen.tells_tokens) == (True, False, False)


async def test_totals_that_are_told_at_the_end_miss_nothing(tmp_path: Path) -> None:
    noise, last = event(x="x" * 100) * 40_000, event("end", got=7, gave=5, cost=0.25)
    reader = reading(
        tmp_path, noise, last, text=JSONL.replace('"step"', '"run"', 1).replace('mode = "step"', "")
    )

    seen = await reader.finish(lambda: NOW, seconds=0)

    assert (seen.usage, seen.too_little, seen.usage.priced) == (Usage(7, 5, 0.25), False, True)
    assert seen.unread > 0


async def test_a_line_that_is_too_long_is_no_event_and_no_plain_text_and_what_follows_is_read(
    tmp_path: Path,
) -> None:
    long = event(error="limit reached, resets 90 " + "limit reached, resets 90 " * (3 << 20 >> 4))
    reader = reading(tmp_path, event("open", ids="a"), long, event("end", result="Done."))

    seen = await reader.finish(lambda: NOW, seconds=60)

    assert (seen.result, seen.done, seen.limited, seen.tail, seen.tools) == (
        "Done.",
        True,
        False,
        "",
        frozenset(),
    )
    assert seen.unread > LONGEST


async def test_the_end_of_a_text_without_a_newline_is_its_last_word(tmp_path: Path) -> None:
    reader = reading(tmp_path, b"x" * (5 << 20) + b" bye", text="command = ['x']")

    seen = await reader.finish(lambda: NOW, seconds=0)

    assert seen.tail.endswith("xxx bye")
    assert len(seen.tail) == 4000


def test_of_the_tools_that_are_open_the_newest_are_known(tmp_path: Path) -> None:
    ids = [f"call-{number}" for number in range(MOST_TOOLS + 10)]

    seen = read_all(
        reading(tmp_path, *(event("open", ids=each) for each in ids), event("close", ids=ids[500:]))
    )

    assert seen.tools == frozenset(ids[10:500])


@pytest.mark.parametrize(
    "number", ["NaN", "Infinity", "-Infinity", "-1", "1e308", "1e400", '"5"', "[1e13]", "{}"]
)
def test_numbers_that_nobody_can_have_used_are_not_told(tmp_path: Path, number: str) -> None:
    line = f'{{"type":"say","got":{number},"gave":{number},"cost":{number}}}\n'.encode()

    assert read_all(reading(tmp_path, event(got=2), line)).usage == Usage(2)


def test_a_sum_has_an_end_that_a_store_can_hold(tmp_path: Path) -> None:
    seen = read_all(reading(tmp_path, event(got=10**12, gave=10**12, cost=1e12) * 2000))

    assert seen.usage == Usage(10**12, 10**12, 1e12)


@pytest.mark.parametrize("value", [{"a": 1}, [1, 2], 7, True, 1.5, "x" * 100_000])
def test_last_words_are_a_text_of_bounded_length_whatever_is_told(
    tmp_path: Path, value: object
) -> None:
    seen = read_all(
        reading(tmp_path, event("end", result=value, error=value, session=value, status=value))
    )

    assert isinstance(seen.result, str)
    assert isinstance(seen.error, str)
    assert len(seen.result) <= 16_000
    assert seen.done


@pytest.mark.parametrize(
    "reset", ["32503680000", "32503680000000", "99999999999999999999", "NaN", "-5", "1e400"]
)
def test_a_reset_that_cannot_be_is_a_limit_without_one(tmp_path: Path, reset: str) -> None:
    told = read_all(reading(tmp_path, f'{{"type":"say","reset":{reset}}}\n'.encode()))
    said = read_all(reading(tmp_path, f"limit reached, resets {reset}\n".encode()))

    assert (told.limited, said.limited) == (True, True)
    assert all(each.reset is None or each.reset < NOW for each in (told, said))


async def test_a_report_that_is_too_large_is_not_read_and_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    with (tmp_path / "own/report.json").open("wb") as file:
        file.write(b'{"info": {"exit_status": "Submitted"}}')
        file.truncate(8 << 30)
    mini = (SHIPPED / "mini.toml").read_text()

    seen = await reading(tmp_path, text=mini).finish(lambda: NOW)

    assert (seen.done, seen.unread, seen.too_little) == (False, report.MOST_BYTES, True)


@pytest.mark.parametrize(
    "content", [b"[" * (1 << 20), b'{"a": [' + b"[]," * (2 << 20) + b"1]}", b"\0", b"[]", b"7"]
)
async def test_a_report_of_any_content_is_read_or_not_and_costs_little(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/report.json").write_bytes(content)
    mini, began = (SHIPPED / "mini.toml").read_text(), time.thread_time()

    seen = await reading(tmp_path, text=mini).finish(lambda: NOW)

    assert not seen.done
    assert time.thread_time() - began < 0.2
