import json
from datetime import UTC, datetime, timedelta

import pytest
import wcwidth
from hypothesis import given
from hypothesis import strategies as st

from factory.cli import say

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;a title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]52;c;ZXZpbA==\x9crest", "rest"),
        ("\x1bPq#0;1\x1b\\sixel", "sixel"),
        ("\x9b2Jgone", "gone"),
        ("a\rb", "a\nb"),
        ("a\r\nb\tc", "a\nb\tc"),
        ("bell\x07 nul\x00", "bell nul"),
        ("turned \u202eround", "turned round"),
        ("\u061cmarked\u2028", "marked"),
        ("open \x1b]0;never closed", "open 0;never closed"),
        ("übung 日本 🙂", "übung 日本 🙂"),
    ],
)
def test_escapes_are_taken_out_and_text_stays(raw: str, shown: str) -> None:
    cleaned = say.clean(raw)

    assert "\x1b" not in cleaned
    assert cleaned.replace("]", "") == shown.replace("]", "")


@given(st.text(st.sampled_from("a\x1b[]P0;m\x07\x9b\x9c\r\n\t\\\u202e")))
def test_nothing_that_could_steer_a_terminal_is_left(raw: str) -> None:
    cleaned = say.clean(raw)

    assert set(cleaned) <= set("a[]P0;m\n\t\\")
    assert say.clean(cleaned) == cleaned


@given(st.text(st.sampled_from('aü\x1b\x07\x7f\x9b\n\u061c\u2028\u202e\u2066"\\')))
def test_json_holds_the_same_and_nothing_that_could_steer_a_terminal(raw: str) -> None:
    told = say.as_json({"said": raw})

    assert json.loads(told) == {"said": raw}
    assert say.clean(told) == told


@given(st.text(), st.integers(2, 40))
def test_a_clipped_text_fits_and_is_one_line(text: str, room: int) -> None:
    clipped = say.clip(text, room)

    assert say.width(clipped) <= room
    assert "\n" not in clipped


def test_wide_letters_take_two_cells() -> None:
    assert say.clip("日本語の文書", 7) == "日本語…"
    assert say.width("e\u0301") == 1
    assert say.width("👨\u200d👩\u200d👧") == 2  # one picture of five code points


def test_letters_that_are_not_measured_take_one_cell() -> None:
    narrow = [chr(code) for code in range(0x3000) if say._NARROW.fullmatch(chr(code))]

    assert {wcwidth.width(f"a{letter}b") for letter in narrow} == {3}


def test_a_table_is_aligned_and_its_last_column_gets_the_rest() -> None:
    rows = [("a", "日本", "x" * 200), ("bbb", "c", "short")]

    lines = say.table(rows, room=80)

    assert lines[1] == "  bbb  c     short"
    assert say.width(lines[0]) == 80
    assert say.table([]) == []


def test_a_table_cuts_sentences_and_never_a_single_word_that_one_may_have_to_copy() -> None:
    rows = [("x" * 40, "make all the tests", "why"), ("b", "c", "because")]

    assert say.table(rows, room=80, most=10) == [
        f"  {'x' * 40}  make all…  why",
        "  b  c          because",
    ]


def test_where_a_row_has_no_room_for_its_next_cell_that_cell_stands_below() -> None:
    rows = [("w1", "a-long-name", "working 4 min", "What it is about, in a few words")]

    assert say.table(rows, room=40) == [
        "  w1  a-long-name  working 4 min",
        "      What it is about, in a few words",
    ]
    assert say.table([("x" * 50, "held", "it asked")], room=40) == [
        f"  {'x' * 50}",
        "      held  it asked",
    ]


def test_without_a_terminal_a_table_has_no_end() -> None:
    assert say.table([("a b" * 30, "y" * 5000)]) == [f"  {'a b' * 30}  {'y' * 5000}"]


def test_parts_of_a_line_go_on_below_where_it_is_full() -> None:
    parts = ["factoryd running", "2 of 3 workers", "main"]

    assert say.joined(parts) == ["factoryd running · 2 of 3 workers · main"]
    assert say.joined(parts, room=36) == ["factoryd running · 2 of 3 workers", "  main"]


def test_words_are_wrapped_with_an_indent_and_a_long_one_stands_alone() -> None:
    assert say.wrap(f"one two {'y' * 30} three", indent="  ", room=12) == [
        "  one two",
        f"  {'y' * 30}",
        "  three",
    ]
    assert say.wrap("") == []


def test_wide_letters_are_wrapped_by_the_cells_that_they_take() -> None:
    assert say.wrap("文書の 日本語の文書", room=8) == ["文書の", "日本語の", "文書"]
    assert say.wrap("ab 日本", indent=" ", room=6) == [" ab", " 日本"]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"),
        (0.42, "0.4 s"),
        (59, "59 s"),
        (150, "2 min"),
        (7200, "2 h"),
        (86400 * 3, "3 d"),
        (-5, "0 s"),
    ],
)
def test_durations_are_said_in_one_unit(seconds: float, shown: str) -> None:
    assert say.lasted(seconds) == shown


def test_how_long_ago_is_said_in_whole_seconds() -> None:
    stamp = (NOW - timedelta(seconds=2.7)).isoformat()

    assert (say.ago(stamp, NOW), say.ago(None, NOW)) == ("2 s", "")


def test_a_moment_of_another_day_carries_its_date() -> None:
    assert len(say.moment(NOW.isoformat(), NOW)) == 8
    assert "-" in say.moment((NOW - timedelta(days=3)).isoformat(), NOW)


def test_nothing_is_coloured_when_it_does_not_go_to_a_terminal() -> None:
    assert say.paint("text", "red") == "text"
