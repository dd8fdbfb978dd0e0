"""Task files: what is written is what is meant, and what is refused is refused with line and form."""

import re
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import factory
from factory.ground.errors import TaskFileError
from factory.ground.front_matter import loose
from factory.store.task_file import (
    FORMS,
    GUARDS,
    MAX_BYTES,
    MAX_ID,
    READERS,
    TaskFile,
    decode,
    ids,
    numbered,
    parse,
    slug,
)


def refusal(text: str) -> TaskFileError:
    with pytest.raises(TaskFileError) as caught:
        parse(text, "a.md")
    return caught.value


def test_a_file_without_front_matter_is_all_body() -> None:
    text = "# Fix the login\n\nIt fails.\n"

    file = parse(text, "fix-login.md")

    assert file == TaskFile(title="Fix the login", body=text)


def test_every_key_is_read() -> None:
    text = """---
title: "Fix: the login"
priority: 0
needs: [add-users, add-tests]
scope: ["src/**", ./docs/a.md]
accept:
  - pytest -q tests/test_login.py
  - 'grep -q "x: y" a'
agent: claude
model: opus-4.1
attempts: 5
minutes: 0.5
allow: [edit-gates, edit-agents]
review: required
---
The body.
"""

    file = parse(text, "a.md")

    assert file == TaskFile(
        title="Fix: the login",
        body="The body.\n",
        priority=0,
        needs=("add-users", "add-tests"),
        scope=("src/**", "./docs/a.md"),
        accept=("pytest -q tests/test_login.py", 'grep -q "x: y" a'),
        agent="claude",
        model="opus-4.1",
        attempts=5,
        minutes=0.5,
        allow=("edit-gates", "edit-agents"),
        review="required",
        lines=file.lines,
    )
    assert file.lines["title"] == 2
    assert file.lines["accept"] == 6
    assert file.lines.keys() | {"run"} == READERS.keys() == FORMS.keys()


@pytest.mark.parametrize("key", ["agent", "model"])
def test_a_command_takes_no_agent_beside_it(key: str) -> None:
    with pytest.raises(TaskFileError, match="`run` is a task without an agent") as caught:
        parse(f"---\nrun: ruff format .\n{key}: claude\n---\n", "a.md")

    assert (caught.value.line, caught.value.form) == (3, FORMS[key])


def test_one_text_stands_for_a_list_of_one() -> None:
    file = parse("---\nneeds: add-users\naccept: make check\n---\nx", "a.md")

    assert (file.needs, file.accept) == (("add-users",), ("make check",))


@pytest.mark.parametrize("written", ["yes", "42", "2026-01-02", "1.50", "null-safe", "010", "off"])
def test_a_text_is_taken_as_it_is_written(written: str) -> None:
    assert parse(f"---\ntitle: {written}\n---\n", "a.md").title == written


@pytest.mark.parametrize(
    "written",
    [
        "fix: the redirect",
        "Fix issue #12 # and more",
        "#12 is broken",
        "[WIP] fix: it's “done”",
        "@home, `code` and %s",
        '"quoted" and more',
        "'a' b",
        "- a: b",
        "*x &y !z",
        "{a} and b",
        "> out.txt",
        "| tee it",
        "null and void",
        "python -c 'print({1: \"a\"})'  # as it is",
        "a\tb",
        "C:\\new",
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", " \n"])
def test_a_title_and_a_command_are_taken_to_the_end_of_their_line(written: str, end: str) -> None:
    title = parse(f"---\npriority: 1\ntitle: {written}{end}---\nx", "a.md")
    command = parse(f"---\nrun:   {written}{end}needs: a\n---\nx", "a.md")

    assert (title.title, title.lines) == (written, {"priority": 2, "title": 3})
    assert (command.run, command.needs) == (written, ("a",))


@pytest.mark.parametrize(
    ("written", "title"),
    [
        ('"Fix: it"', "Fix: it"),
        ('"Fix: \\"it\\""  # a comment', 'Fix: "it"'),
        ("'it''s'", "it's"),
        ("a\n  b", "a b"),
        ("a\n\n   b", "a\nb"),
        ('"a\n  b"', "a b"),
        ("|-\n  a: b", "a: b"),
        (">-  # folded\n  a\n  b: c", "a b: c"),
        ("null  # none", "a"),
        ("# none", "a"),
    ],
)
def test_quotes_and_several_lines_are_yaml(written: str, title: str) -> None:
    key = "run" if "\n" in title else "title"

    file = parse(f"---\n{key}: {written}\nreview: auto\n---\nx", "a.md")

    assert (file.run or file.title, file.review) == (title, "auto")


def test_true_is_a_command_too() -> None:
    file = parse("---\nrun: true\naccept: [false]\n---\n", "a.md")

    assert (file.run, file.accept) == ("true", ("false",))


@pytest.mark.parametrize("key", sorted(READERS))
@pytest.mark.parametrize("nothing", ["", "~", "null"])
def test_a_key_with_nothing_behind_it_is_left_out(key: str, nothing: str) -> None:
    file = parse(f"---\n{key}: {nothing}\n---\nx\n", "a.md")

    assert file == TaskFile(title="a", body="x\n", ignored=(key,), lines={key: 2})


@pytest.mark.parametrize(
    ("body", "title"),
    [
        ("text\n\n## Second level ##\n", "Second level"),
        ("```sh\n# a comment\n```\n# The title\n", "The title"),
        ("~~~~\n# a\n~~~\n# b\n~~~~\n# c\n", "c"),
        ("Underlined\n==========\n", "Underlined"),
        ("```\n# a\n", "name"),
        ("# On C#\n", "On C#"),
        ("a: b\r\n# Windows #\r\n", "Windows"),
        ("#hashtag\n", "name"),
        ("#\n# \n", "name"),
        ("no heading\n", "name"),
        ("# with \x1b[31m colour\n", "with [31m colour"),
        ("# " + "x" * 500, "x" * 200),
    ],
)
def test_the_title_is_the_first_heading_else_the_file_name(body: str, title: str) -> None:
    assert parse(body, "name.md").title == title


def test_the_body_is_kept_verbatim() -> None:
    body = "\r\n  {{ not a template }}\r\n---\r\nstill body \r\n"

    file = parse("---\r\npriority: 1\r\n---\r\n" + body, "a.md")

    assert (file.body, file.priority) == (body, 1)


@pytest.mark.parametrize("start", ["\ufeff", "\n\n", "  \r\n"])
def test_a_byte_order_mark_or_blank_lines_do_not_hide_front_matter(start: str) -> None:
    file = parse(start + "---\npriority: 1\n---\nx", "a.md")

    assert file.priority == 1
    assert file.lines["priority"] == 2 + start.count("\n")


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("priority: high", "priority: 2"),
        ("priority: 5", "0 to 4"),
        ("priority: 1.0", "0 to 4"),
        ('priority: "1"', "0 to 4"),
        ("priority: 010", "0 to 4"),
        ("priority: [1]", "text was expected"),
        ("attempts: 0", "1 to 99"),
        ("attempts: 1_0", "1 to 99"),
        ("minutes: 0", "more than 0"),
        ("minutes: -1", "number of minutes"),
        ("minutes: 1:30", "number of minutes"),
        ("minutes: .inf", "number of minutes"),
        ("needs: [Fix Login.md]", "did you mean fix-login"),
        ("needs: a, b", "is not the id of a unit"),
        ("needs: 日本語", "'日本語' is not the id of a unit"),
        ("needs: [[a]]", "text was expected"),
        ("scope: ../other", "inside the repository"),
        ("scope: a/../../b", "inside the repository"),
        ("scope: ~/x", "inside the repository"),
        ("scope: *.py", "quotes"),
        ("scope: [!x]", "quotes"),
        ("scope: ['!x']", "inside the repository"),
        ("accept: ['']", "empty"),
        ("accept: {a: b}", "quotes"),
        ("accept:\n  - a: b", "quotes"),
        ("run: ' '", "empty"),
        ('run: "a\\0b"', "control character"),
        ('title: "\\ud800"', "control character"),
        ("title: |\n  one\n  two", "one line"),
        ("title: " + "x" * 201, "one line"),
        ("agent: Fix: the login", "quotes"),
        ("agent: @home", "quotes"),
        ("agent: !!binary aGk=", "tag"),
        ("title: [WIP", "cannot be read"),
        ('title: "Fix', "cannot be read"),
        ("run: [make, test]", "text was expected"),
        ("title: a\n  b: c", "quotes"),
        ("agent: a/b", "not a name"),
        ("agent: run", "run: 'the command'"),
        ("model: --dangerous", "not a name"),
        ("model: a b", "not a name"),
        ("allow: [edit-test]", "did you mean edit-tests"),
        ("allow: everything", "no guard"),
        ("allow: [edit-gates, edit-tests]", "not yet: there is no guard 'edit-tests'"),
        ("allow: [large]", "not yet: there is no guard 'large'"),
        ("allow: [edit-agent]", "did you mean edit-agents"),
        ("allow: protected", "not yet: "),
        ("review: maybe", "required"),
        ("prio: 1", "did you mean priority?"),
        ("Title: x", "did you mean title?"),
        ("colour: red", "unknown key 'colour'"),
        ("yes: 1", "unknown key 'yes'"),
        ("[a]: 1", "not text"),
        ("<<: {a: b}", "unknown key"),
        ("on: other", "not yet: stacking"),
        ("until: make check", "not yet: loops"),
        ("\ttitle: x", "spaces"),
        ("title: [", "cannot be read"),
        ("title: a\x07", "control character"),
        ("- a\n- b", "key: value"),
        ("just text", "key: value"),
        ("title: '" + "x" * 70_000 + "'", "64 KiB"),
        ("title: " + "[" * 5_000, "cannot be read"),
    ],
)
def test_what_is_wrong_is_refused_with_line_and_form(line: str, word: str) -> None:
    error = refusal(f"---\n{line}\n---\nx\n")

    assert word in f"{error.reason} {error.form}"
    assert error.form
    assert 1 <= error.line <= 3


def test_the_line_is_counted_in_the_whole_file() -> None:
    error = refusal("---\ntitle: x\n\nscope:\n  - a\npriority: 7\n---\n")

    assert (error.line, error.form) == (6, FORMS["priority"])


def test_a_key_given_twice_is_refused() -> None:
    error = refusal("---\npriority: 1\ntitle: x\npriority: 2\n---\n")

    assert (error.line, error.reason) == (4, "priority is given twice, first on line 2")


@pytest.mark.parametrize(
    "text", ["---\ntitle: x\n\nbody\n", "---", "---\n", "---\na: |\n  ---\n", "\n---\nx: ----\n"]
)
def test_front_matter_that_is_never_closed_is_refused(text: str) -> None:
    assert "never closed" in refusal(text).reason


@pytest.mark.parametrize("text", ["---\npriority: 1\n---\n", "---\n---\n \n", ""])
def test_a_file_that_says_nothing_to_do_is_refused(text: str) -> None:
    assert refusal(text).reason == "has no task"


@pytest.mark.parametrize("key", ["title", "run"])
def test_a_title_or_a_command_is_something_to_do(key: str) -> None:
    assert parse(f"---\n{key}: x\n---\n", "a.md").body == ""


@pytest.mark.parametrize(
    ("raw", "word", "line"),
    [
        (b"ok\n\xff\xfea\0", "not UTF-8", 2),
        ("hallo".encode("utf-16"), "not UTF-8", 1),
        (b"a\nb\nc\0", "NUL", 3),
        (b"x" * (MAX_BYTES + 1), "larger", 0),
    ],
)
def test_what_is_not_utf8_text_is_refused(raw: bytes, word: str, line: int) -> None:
    with pytest.raises(TaskFileError) as caught:
        decode(raw)

    assert word in caught.value.reason
    assert (caught.value.line, bool(caught.value.form)) == (line, True)


def test_text_of_the_largest_size_is_read() -> None:
    assert len(decode(b"x" * MAX_BYTES)) == MAX_BYTES


@pytest.mark.parametrize(
    ("text", "keys", "body"),
    [
        ("---\noptions: [a, b]\n---\nWhich?\n", {"options": ["a", "b"]}, "Which?\n"),
        ("\ufeff---\nx: 1\n---\ny", {"x": "1"}, "y"),
        ("No front matter\n\n---\nx: 1\n---\n", {}, None),
        ("{\n}\n", {}, None),
        ("---\nnever closed", {}, None),
        ("---\n[\n---\nx", {}, "x"),
        ("---\nx: [yes, 2026-99-99, 010]\n---\nx", {"x": ["yes", "2026-99-99", "010"]}, "x"),
        ("---\n? [a]\n: b\n---\nx", {}, "x"),
        ("---\n- a\n---\nx", {}, "x"),
        ("---\nx: " + "[" * 60_000 + "\n---\nx", {}, "x"),
        ("---\n" + "? " * 30_000 + "\n---\nx", {}, "x"),
    ],
)
def test_other_files_are_read_loosely(text: str, keys: dict[str, object], body: str | None) -> None:
    file = loose(text)

    assert (file.keys, file.body) == (keys, text if body is None else body)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("fix-login.md", "fix-login"),
        ("Fix Login!.MD", "fix-login"),
        ("01-größe.md", "01-grosse"),
        ("café__au  lait.v2.md", "cafe-au-lait-v2"),
        ("修复.md", ""),
        ("fix登录bug.md", "fix-bug"),
        (".md", ""),
        ("x" * 59 + "-y.md", "x" * 59),
        ("README.md.md", "readme-md"),
    ],
)
def test_the_id_is_the_slug_of_the_name(name: str, unit: str) -> None:
    assert slug(name) == unit


def test_a_numbered_id_is_no_longer_than_any_other() -> None:
    assert numbered("fix", 2) == "fix-2"
    assert numbered("x" * 60, 12) == "x" * 57 + "-12"
    assert numbered("y" * 57 + "-zz", 2) == "y" * 57 + "-2"


@pytest.mark.parametrize(
    ("name", "title", "first"),
    [
        ("fix.md", "Other", ["fix", "fix-2", "fix-3"]),
        ("修复.md", "修复 the login", ["the-login", "the-login-2", "the-login-3"]),
        ("日本語.md", "ログイン", ["unit-0001", "unit-0002", "unit-0003"]),
        ("日本語.md", "", ["unit-0001", "unit-0002", "unit-0003"]),
    ],
)
def test_a_file_without_a_latin_name_is_named_after_its_title(
    name: str, title: str, first: list[str]
) -> None:
    assert [*islice(ids(name, title), 3)] == first


@given(st.text(max_size=300), st.text(max_size=300))
def test_every_file_has_an_id(name: str, title: str) -> None:
    first = next(ids(name, title))

    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", first)
    assert len(first) <= MAX_ID


values = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        [
            "[a, b]",
            "{a: b}",
            "1",
            "0.5",
            "*x",
            "&x y",
            "!t z",
            "|\n  a\n  b",
            '"\\0"',
            "'",
            "- a",
            "\t",
        ]
    ),
)
lines = st.lists(st.tuples(st.sampled_from([*READERS, "on", "prio", "#", "-"]), values), max_size=6)


@given(
    st.one_of(
        st.text(),
        lines.map(lambda pairs: "---\n" + "".join(f"{k}: {v}\n" for k, v in pairs) + "---\nx"),
    )
)
def test_any_text_is_a_task_or_a_refusal_with_a_form(text: str) -> None:
    result = outcome(text)

    if isinstance(result, TaskFileError):
        assert result.reason
        assert result.form
        assert 0 < result.line <= text.count("\n") + 2
    else:
        texts = (
            result.title,
            *result.needs,
            *result.scope,
            *result.accept,
            result.run,
            result.agent,
            result.model,
        )
        assert all(text.encode() or not text for text in texts)
        assert not any("\0" in text for text in texts)
        assert len(result.title.splitlines()) == 1
        assert set(result.allow) <= set(GUARDS)
        assert text.endswith(result.body)


def outcome(text: str) -> TaskFile | TaskFileError:
    try:
        return parse(text, "a.md")
    except TaskFileError as error:
        return error


def test_only_acceptance_and_check_read_a_task_file() -> None:
    root = Path(factory.__file__).parent
    sources = {
        str(path.relative_to(root)): path.read_text(encoding="utf-8") for path in root.rglob("*.py")
    }
    names = re.compile(
        r"\b(task_file\.parse\(|spec_again\()|from factory\.store\.task_file import .*\bparse\b"
    )
    callers = {name for name, text in sources.items() if names.search(text)}

    assert callers == {
        "cli/add.py",  # add and check
        "inbox/acceptance.py",
        "inbox/split.py",  # what an agent wrote becomes task files
        "repair/rebuild.py",  # accepts again
        "store/accepted.py",
        "store/migrations.py",  # accepts what an older release had not kept as a record
    }
