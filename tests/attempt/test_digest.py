"""The digest: the first failure and the command that shows it, in at most 16 KiB."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.attempt.digest import LIMIT, clean, digest, first_failure
from factory.store.records import Verdict
from factory.store.unit import EndReason


def red(gate: str, tail: str) -> Verdict:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return Verdict(
        key="k",
        gate=gate,
        tree="t",
        ok=False,
        settled=True,
        at=at,
        command=f"make {gate}",
        tail=tail,
    )


def test_the_digest_of_a_red_gate_has_the_first_failure_the_command_and_the_tail() -> None:
    dots = "." * 2048
    tail = f"collected 2\nE   assert 1 == 2\na.py:3: AssertionError\n1 failed\n{dots}"

    text = digest(EndReason.GATE_RED, red=[red("test", tail)])

    assert text == (
        "The attempt ended: gate_red.\n"
        "\n"
        "Gate test is red. To see it: make test\n"
        f"E   assert 1 == 2\na.py:3: AssertionError\n1 failed\n{dots[:400]}\n"
        "\n"
        "The end of test's output:\n"
        f"collected 2\nE   assert 1 == 2\na.py:3: AssertionError\n1 failed\n{dots}"
    )


def test_a_gate_that_repaired_what_it_judged_is_told_with_what_to_do() -> None:
    repaired = replace(red("lint", ""), rewrote=("b.py", "a.py"))

    text = digest(EndReason.GATE_RED, red=[repaired])

    assert "Gate lint succeeds only by changing a.py, b.py, which you left otherwise." in text
    assert "keep what it changes: make lint" in text


def test_a_short_output_is_told_once() -> None:
    text = digest(EndReason.GATE_RED, red=[red("test", "collected 2\nE   assert 1 == 2\n")])

    assert text == (
        "The attempt ended: gate_red.\n\nGate test is red. To see it: make test\n\n"
        "The end of test's output:\ncollected 2\nE   assert 1 == 2"
    )


def test_detail_notes_and_last_words_are_told() -> None:
    text = digest(
        EndReason.CRASHED,
        detail="Exit code 3.",
        notes=["A nested repository was added plainly."],
        said="I …",
    )

    assert text == (
        "The attempt ended: crashed.\nExit code 3.\nA nested repository was added plainly.\n"
        "\n"
        "The attempt's last words:\nI …"
    )


@pytest.mark.parametrize("reason", list(EndReason))
def test_every_reason_has_a_sentence(reason: EndReason) -> None:
    assert digest(reason).endswith(".")


@pytest.mark.parametrize(
    ("output", "line"),
    [
        ("x failed\nE   boom\n", "E   boom"),
        ("ok 1\nnot ok 2 - adds\n", "not ok 2 - adds"),
        ("--- FAIL: TestAdd (0.00s)\n", "--- FAIL: TestAdd (0.00s)"),
        ("checking\nsrc/a.py:3:1: F401 unused\n", "src/a.py:3:1: F401 unused"),
        ("error[E0308]: mismatched types\n", "error[E0308]: mismatched types"),
        ("Traceback\n  x\nValueError: no\n", "ValueError: no"),
        ("\x1b[31mFAILED\x1b[0m tests/test_a.py::test_b\n", "FAILED tests/test_a.py::test_b"),
        (" 10%\r 20%\rERROR: gone\r\n", "ERROR: gone"),
    ],
)
def test_the_first_failure_is_found(output: str, line: str) -> None:
    assert first_failure(output)[0] == line


def test_output_that_reports_no_failure_has_none() -> None:
    assert first_failure("all fine\n") == []


def test_a_long_output_is_cut_from_above_at_a_line() -> None:
    tail = "".join(f"line {number} ééé\n" for number in range(5_000))

    text = digest(EndReason.GATE_RED, red=[red("test", "E   the first\n" + tail)])

    assert "E   the first" in text
    assert "output:\n…\nline " in text
    assert text.endswith("line 4999 ééé")
    assert LIMIT - 100 < len(text.encode()) <= LIMIT


outputs = st.text(alphabet=st.sampled_from("aE é\n\r\x1b[m:1💥"), max_size=60).map(
    lambda text: text * 400
)


@given(st.lists(outputs, max_size=4), outputs, outputs)
def test_no_digest_is_larger_than_16_kib(tails: list[str], said: str, detail: str) -> None:
    text = digest(
        EndReason.GATE_RED, detail=detail, red=[red("g", tail) for tail in tails], said=said
    )

    assert len(text.encode()) <= LIMIT


def test_what_a_progress_line_wrote_over_is_left_out() -> None:
    assert clean("10%\r100%\r\nnext\n") == "100%\nnext\n"
