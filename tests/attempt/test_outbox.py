"""What an agent may leave in its outbox, and what it cannot do by it."""

import os
from itertools import pairwise
from pathlib import Path

import pytest

from factory.attempt.outbox import CAP_BYTES, Outbox, Question, read_outbox

# Some 300 bytes that name 9^12 texts.
ALIASES = "---\na: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n"
    for before, name in pairwise("abcdefghijklm")
)


def asked(folder: Path, text: str) -> Question:
    (folder / "question.md").write_text(text)
    question = read_outbox(folder).question
    assert question is not None
    return question


def test_an_empty_outbox_and_none_at_all_say_nothing(tmp_path: Path) -> None:
    assert read_outbox(tmp_path) == read_outbox(tmp_path / "gone") == Outbox()


def test_what_was_written_is_read(tmp_path: Path) -> None:
    (tmp_path / "done.md").write_text("Fix the login\n\nIt was the clock.\n")
    (tmp_path / "handoff.md").write_text("The tests need a clock.")
    (tmp_path / "question.md").write_text(
        "---\noptions: [yes, no]\ndefault: no\ndeadline_s: 90\n---\nShall I?\n"
    )

    assert read_outbox(tmp_path) == Outbox(
        done="Fix the login\n\nIt was the clock.\n",
        question=Question(text="Shall I?", options=("yes", "no"), default="no", deadline_s=90),
        handoff="The tests need a clock.",
    )


def test_labels_are_shown_as_the_agent_wrote_them(tmp_path: Path) -> None:
    question = asked(tmp_path, "---\noptions: [on, 010, 1e3, 2026-01-05, ~, 'a: b']\n---\nWhich?")

    assert question.options == ("on", "010", "1e3", "2026-01-05", "~", "a: b")


@pytest.mark.parametrize(
    ("default", "key"),
    [
        ("two", "2"),
        ("TWO", "2"),
        ("1", "1"),
        ("0", ""),
        ("3", ""),
        ("²", ""),
        ("none of these", ""),
        ("", ""),
    ],
)
def test_a_default_is_a_label_or_a_number(tmp_path: Path, default: str, key: str) -> None:
    question = asked(tmp_path, f"---\noptions: [one, two]\ndefault: {default}\n---\nWhich?")

    assert question.default_key == key


def test_a_default_that_is_a_label_and_a_number_is_the_label(tmp_path: Path) -> None:
    assert asked(tmp_path, "---\noptions: [3, 2, 1]\ndefault: 3\n---\nHow many?").default_key == "1"


@pytest.mark.parametrize(
    "deadline", ["-1", "0", ".inf", "inf", "nan", "1e300", "99999999999", "soon", "[1]", "true", ""]
)
def test_a_deadline_that_is_no_number_of_seconds_is_none(tmp_path: Path, deadline: str) -> None:
    assert asked(tmp_path, f"---\ndeadline_s: {deadline}\n---\nWhich?").deadline_s == 0


@pytest.mark.parametrize(
    "text",
    [
        "Just a question?",
        "---\noptions: [never closed\nWhich?",
        "---\noptions: [a\n---\nWhich?",
        "---\n- a\n- list\n---\nWhich?",
        "---\noptions: a text\n---\nWhich?",
        "---\noptions: {a: b}\n---\nWhich?",
        "---\n!!python/object/apply:os.system [exit]\n---\nWhich?",
        "---\n" + "[" * 60_000,
    ],
)
def test_bad_front_matter_still_asks_and_has_no_options(tmp_path: Path, text: str) -> None:
    question = asked(tmp_path, text)

    assert question.options == ()
    assert question.text


def test_aliases_are_not_followed_and_the_question_is_asked_with_all_that_was_written(
    tmp_path: Path,
) -> None:
    text = f"{ALIASES}options: [*l, *m]\ndefault: *m\n---\nWhich one?"

    question = asked(tmp_path, text)

    assert question.options == ()
    assert question.text == (
        "Which one?\n\nThe factory could not read the front matter of this question: line 2: "
        "&a is read as a YAML anchor, and anchors are not allowed: leave it out.\n\n"
        + text.removeprefix("---\n").removesuffix("\n---\nWhich one?")
    )


@pytest.mark.parametrize(
    ("option", "label"),
    [
        ("Use A: it is fast", "Use A: it is fast"),
        ("[a, b]", "[a, b]"),
        ("- x", "- x"),
        ("{a: [b]}", "{a: [b]}"),
    ],
)
def test_an_option_that_is_no_plain_text_is_shown_as_it_was_written(
    tmp_path: Path, option: str, label: str
) -> None:
    assert asked(tmp_path, f"---\noptions:\n  - {option}\n  - no\n---\nWhich?").options == (
        label,
        "no",
    )


def test_a_tag_is_refused_and_nothing_is_made_of_it(tmp_path: Path) -> None:
    question = asked(tmp_path, "---\noptions: [!!int '3', no]\n---\nWhich?")

    assert question.options == ()
    assert "!!int is read as a YAML tag" in question.text


def test_a_question_offers_nine_options_and_names_the_others_in_its_text(tmp_path: Path) -> None:
    lines = "".join(f"- option {number}\n" for number in range(1, 12))

    question = asked(tmp_path, f"---\noptions:\n{lines}---\nWhich?")

    assert question.options == tuple(f"option {number}" for number in range(1, 10))
    assert question.text.endswith("answer one of them as text:\n\n- option 10\n- option 11")


def test_a_long_option_is_cut_and_told_in_full_in_the_text(tmp_path: Path) -> None:
    long = "x" * 150 + "y" * 150

    question = asked(tmp_path, f"---\noptions: [{long}, no]\ndefault: {long}\n---\nWhich?")

    assert list(map(len, question.options)) == [200, 2]
    assert question.default_key == "1"
    assert question.text == f"Which?\n\nOption 1 in full: {long}"


def test_a_question_with_no_text_still_asks(tmp_path: Path) -> None:
    assert (
        asked(tmp_path, "---\noptions: [a, b]\n---\n").text == "(the agent's question has no text)"
    )


def test_a_blank_question_asks_nothing(tmp_path: Path) -> None:
    (tmp_path / "question.md").write_text(" \n\t\n")

    assert read_outbox(tmp_path).question is None


def test_a_symlink_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the user's")
    box = tmp_path / "outbox"
    box.mkdir()
    (box / "done.md").symlink_to(secret)
    (box / "question.md").symlink_to("loop")
    (box / "loop").symlink_to("question.md")
    (box / "split").symlink_to(tmp_path)

    assert read_outbox(box) == Outbox()


def test_an_outbox_that_was_replaced_by_a_symlink_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/done.md").write_text("of the user's")
    (tmp_path / "outbox").symlink_to("elsewhere")

    assert read_outbox(tmp_path / "outbox") == Outbox()


def test_an_outbox_that_was_replaced_by_a_file_is_empty(tmp_path: Path) -> None:
    (tmp_path / "outbox").write_text("?")

    assert read_outbox(tmp_path / "outbox") == Outbox()


def test_a_folder_by_the_name_of_a_message_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "done.md").mkdir()
    (tmp_path / "handoff.md").write_text("read all the same")

    assert read_outbox(tmp_path) == Outbox(handoff="read all the same")


def test_a_fifo_is_passed_over_whether_or_not_somebody_writes(tmp_path: Path) -> None:
    for name in ("done.md", "handoff.md"):
        os.mkfifo(tmp_path / name)
    writer = os.open(tmp_path / "handoff.md", os.O_RDWR)
    try:
        assert read_outbox(tmp_path) == Outbox()
    finally:
        os.close(writer)


def test_a_device_is_passed_over(tmp_path: Path) -> None:
    try:
        os.mknod(tmp_path / "done.md", 0o600 | 0o020000, os.makedev(1, 5))
    except OSError:
        pytest.skip("only root makes devices, and not everywhere")

    assert read_outbox(tmp_path) == Outbox()


def test_a_file_that_may_not_be_read_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "done.md").write_text("locked")
    (tmp_path / "done.md").chmod(0)
    if os.access(tmp_path / "done.md", os.R_OK):
        pytest.skip("root reads everything")

    assert read_outbox(tmp_path) == Outbox()


def test_a_huge_file_is_cut_and_not_read_to_its_end(tmp_path: Path) -> None:
    with (tmp_path / "done.md").open("wb") as file:
        file.write(b"Summary\n" + b"x" * CAP_BYTES)
        file.truncate(1 << 40)

    done = read_outbox(tmp_path).done

    assert len(done) == CAP_BYTES
    assert done.startswith("Summary\nxxx")


def test_bytes_that_are_no_text_come_out_as_text_that_git_takes(tmp_path: Path) -> None:
    (tmp_path / "done.md").write_bytes(b"caf\xe9\0 and \xff\xfe")

    assert read_outbox(tmp_path).done == "caf\ufffd\ufffd and \ufffd\ufffd"


def test_the_task_files_in_split_are_read_and_nothing_else_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "split"
    (folder / "more").mkdir(parents=True)
    (folder / "b.md").write_bytes(b"B \xff")
    (folder / "A.MD").write_text("A")
    for name in (".a.md", "#a.md", "~a.md", "notes.txt", "more/c.md"):
        (folder / name).write_text("no task")
    (folder / "secret.md").symlink_to(tmp_path / "split/notes.txt")
    os.mkfifo(folder / "pipe.md")

    assert read_outbox(tmp_path).split == {"A.MD": b"A", "b.md": b"B \xff"}


def test_a_folder_that_may_not_be_read_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "split").mkdir(mode=0)
    (tmp_path / "done.md").write_text("read all the same")
    if os.access(tmp_path / "split", os.R_OK):
        pytest.skip("root reads everything")

    assert read_outbox(tmp_path) == Outbox(done="read all the same")


def test_more_task_files_than_any_split_may_have_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "split").mkdir()
    for number in range(50):
        (tmp_path / f"split/{number}.md").write_text("x")

    assert len(read_outbox(tmp_path).split) == 30


def test_proposals_are_named_as_not_yet_acted_on(tmp_path: Path) -> None:
    (tmp_path / "discovered").mkdir()
    (tmp_path / "split").write_text("no folder")

    box = read_outbox(tmp_path)

    assert (box.not_yet, box.split) == (("discovered",), {})
