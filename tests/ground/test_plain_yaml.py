"""Front matter that anybody may have written."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.ground.entry import MOST_VALUES, Entry, NotPlain, Text
from factory.ground.plain_yaml import MOST_BYTES, entries


def refusal(head: str) -> NotPlain:
    with pytest.raises(NotPlain) as caught:
        entries(head)
    return caught.value


def test_keys_have_a_text_or_a_list_of_texts() -> None:
    assert entries("a: yes\nb: [1, '2']\nc:\nd: {x: [y]}\n") == (
        Entry("a", 0, (Text("yes"),)),
        Entry("b", 1, (Text("1"), Text("2", is_quoted=True)), is_list=True),
        Entry("c", 2, (Text(""),)),
        Entry("d", 3, (Text("{x: [y]}", is_plain=False),)),
    )


@pytest.mark.parametrize("head", ["", "\n\n", "# a comment\n", "''"])
def test_nothing_written_is_no_entry(head: str) -> None:
    assert entries(head) == ()


@pytest.mark.parametrize(
    ("head", "line", "reason"),
    [
        (
            "a: x\nb: *a",
            1,
            "*a is read as a YAML alias, and aliases are not followed: write out what it stands for",
        ),
        ("a: &x y", 0, "&x is read as a YAML anchor, and anchors are not allowed: leave it out"),
        (
            "a: {b: {c: *d}}",
            0,
            "*d is read as a YAML alias, and aliases are not followed: write out what it stands for",
        ),
        (
            "*a : b",
            0,
            "*a is read as a YAML alias, and aliases are not followed: write out what it stands for",
        ),
        (
            "a: !!python/name:os.system x",
            0,
            "!!python/name:os.system is read as a YAML tag; put quotes around the value",
        ),
        ("a: !<x> [b]", 0, "x is read as a YAML tag; put quotes around the value"),
        ("a: b\n...\n---\nc: d", 2, "front matter holds a second document"),
        ("- a", 0, "front matter is not made of `key: value` lines"),
        ("? [a]\n: b", 0, "a key that is not text"),
        ('a: "\\UFFFFFFFF"', 0, "front matter cannot be read"),
        ("%YAML " + "9" * 5000 + ".1\n---\na: b", 0, "front matter cannot be read"),
    ],
)
def test_what_is_not_plain_is_refused_with_its_line(head: str, line: int, reason: str) -> None:
    error = refusal(head)

    assert (error.line, error.reason) == (line, reason)


@pytest.mark.parametrize(
    "head",
    [
        "a: " + "[" * (MOST_BYTES - 3),
        "? " * (MOST_BYTES // 2),
        "a: [" + "x," * (MOST_BYTES // 2 - 4) + "]",
        "".join(f"k{number}: v\n" for number in range(7000)),
        "a: " + "x " * (MOST_BYTES // 2),
        "a: '" + "x" * MOST_BYTES,
    ],
    ids=["deep", "keys in keys", "values", "keys", "words", "bytes"],
)
def test_it_costs_less_than_a_turn_whatever_is_written(head: str) -> None:
    began = time.thread_time()

    refusal(head)

    assert time.thread_time() - began < 0.2


def test_so_many_values_are_enough_for_a_long_list() -> None:
    (entry,) = entries(
        "scope: [" + ", ".join(f"file-{number}" for number in range(MOST_VALUES - 10)) + "]"
    )

    assert len(entry.texts) == MOST_VALUES - 10


@given(st.text(alphabet="ab:-[]{}&*!?|>'\"#%@,\\\n \t\0", max_size=60))
def test_any_text_is_read_or_refused_on_a_line_of_it(head: str) -> None:
    found = outcome(head)

    lines = [found.line] if isinstance(found, NotPlain) else [each.line for each in found]
    assert all(0 <= line <= head.count("\n") for line in lines)


def outcome(head: str) -> tuple[Entry, ...] | NotPlain:
    try:
        return entries(head)
    except NotPlain as error:
        return error
