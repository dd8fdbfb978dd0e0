"""The message of a landing: what stays of an agent's text, and that only our own trailers are read."""

import subprocess
import time

import pytest

from factory.repo.message import Found, clean, compose, read

TRAILERS = {"Factory-Unit": "fix", "Factory-Attempt": "2", "Factory-Run": "aa-bb"}
MINE = Found("fix", 2, "aa-bb")


def test_a_message_is_one_line_its_text_and_trailers() -> None:
    trailers = {"Factory-Unit": "u", "Factory-Agent": ""}

    assert compose("# Fix  it \n\nBecause.\n", title="t", trailers=trailers) == (
        "Fix it\n\nBecause.\n\nFactory-Unit: u\n"
    )
    assert compose(" \n", title="The\ntitle", trailers={}) == "The title\n"
    assert compose("", title="", trailers={}) == "Change\n"


def test_a_first_line_that_is_too_long_is_cut_and_kept_whole_below() -> None:
    subject, _, rest = compose("x" * 5000, title="", trailers={}).partition("\n")

    assert (len(subject), rest.strip()) == (100, "x" * 5000)


def test_what_steers_a_terminal_is_left_out() -> None:
    told = compose("\x1b[31mred\x1b[0m\x07 fix\na\x00b\n", title="", trailers={"Factory-Unit": "u"})

    assert told == "[31mred[0m fix\n\nab\n\nFactory-Unit: u\n"


FORGED = "Factory-Unit: other\nFactory-Attempt: 1\nFactory-Run: cc-dd"


@pytest.mark.parametrize(
    "said",
    [
        f"Done\n\n{FORGED}\n",
        f"Done\n\n{FORGED}\n\n# ---- >8 ----\n",
        f"Done\n\n{FORGED}\n\n# ------------------------ >8 ------------------------\nrest\n",
        f"Done\n\n{FORGED}\n\n-- 8< --\n",
        f"Done\n\n{FORGED}\n---\n",
        f"{FORGED}",
        f"Done\n\n  factory-unit : other\n{FORGED.casefold()}",
        f"Done\n\n{FORGED}\n\nSigned-off-by: A <a@example.invalid>\n",
        f"Done\r\n\r\n{FORGED}\r\n",
        f"Done\u2028\u2028{FORGED}",
    ],
)
def test_whatever_an_agent_writes_the_trailers_that_are_read_are_ours(said: str) -> None:
    message = compose(said, title="t", trailers=TRAILERS)

    assert read(message) == MINE
    told = subprocess.run(
        ["git", "interpret-trailers", "--parse", "--no-divider"],
        input=message,
        capture_output=True,
        text=True,
        check=True,
    )
    units = [line for line in told.stdout.splitlines() if line.startswith("Factory-Unit")]
    assert units == ["Factory-Unit: fix"]


def test_what_a_rebase_or_a_pick_adds_to_the_last_paragraph_changes_nothing() -> None:
    message = compose("Done", title="t", trailers=TRAILERS)

    picked = (
        f"{message}(cherry picked from commit {'a' * 40})\nSigned-off-by: A <a@example.invalid>\n"
    )

    assert read(picked) == MINE


@pytest.mark.parametrize(
    "message",
    [
        "",
        "Fix",
        "Fix\n\nFactory-Unit: a\n",
        "Fix\n\nFactory-Unit: a\nFactory-Attempt: x\n",
        f"{FORGED}\n\nlast\n",
    ],
)
def test_a_message_without_our_last_paragraph_is_no_landing(message: str) -> None:
    assert read(message) is None


@pytest.mark.parametrize(
    "line",
    [
        "Signed-off-by: Ada <ada@example.invalid>",
        "co-authored-by: Bot <bot@example.invalid>",
        "Reviewed-by: Ada <ada@example.invalid>",
        "Closes #12",
        "Fixes: owner/name#12.",
        "resolves https://host.invalid/o/n/issues/12",
        "skip-checks: true",
    ],
)
def test_a_line_that_a_host_acts_on_stays_only_where_the_task_has_it(line: str) -> None:
    said = f"Fix the login\n\nIt works.\n{line}\n"

    assert clean(said, task="Fix the login.").rstrip() == "Fix the login\n\nIt works."
    assert clean(said, task=f"Fix the login.\n\n{line}\n") == said.rstrip("\n")


def test_words_within_a_sentence_stay_and_act_on_nothing() -> None:
    assert clean("Fix it [skip ci] now, which fixes #7 and closes o/n#8") == (
        "Fix it  now, which fixes no. 7 and closes no. 8"
    )
    assert (
        clean("It [ci skip] fixes #7", task="Say [CI skip] and that it fixes #7")
        == "It [ci skip] fixes #7"
    )


def test_a_subject_that_a_rebase_would_fold_into_another_commit_is_an_ordinary_one() -> None:
    assert compose("fixup! squash! Fix the login", title="t", trailers={}) == "Fix the login\n"


@pytest.mark.parametrize(
    "line",
    [
        "\n",
        " ",
        "#",
        "# ;*-",
        "skip-checks: ",
        "[skip ci]",
        "Signed-off-by: a <b>\n",
        "fixup! ",
        "fix #1 ",
        "a.b/",
    ],
)
def test_a_message_costs_less_than_a_turn_whatever_an_agent_writes(line: str) -> None:
    said, task = line * (65536 // len(line)), "Do this. " * 100_000
    began = time.thread_time()

    compose(said, title="t", trailers=TRAILERS, task=task)

    assert time.thread_time() - began < 0.2
