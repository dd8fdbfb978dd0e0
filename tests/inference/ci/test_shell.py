"""The commands of a step's shell code."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.inference.ci.shell import commands, evaluated, joined


def read(block: str) -> list[tuple[str, str, dict[str, str]]]:
    return [(each.code, each.folder, dict(each.env)) for each in commands(block)]


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ("pytest -q", [("pytest -q", "", {})]),
        (
            "# a\n\npip install . \\\n  -c b\npytest",
            [("pip install . -c b", "", {}), ("pytest", "", {})],
        ),
        ("a && b; c", [("a", "", {}), ("b", "", {}), ("c", "", {})]),
        ("cd web && npm ci\nnpm test", [("npm ci", "web", {}), ("npm test", "web", {})]),
        ("cd a/b\ncd ..\nmake", [("make", "a", {})]),
        ("export A=1\nB='2 3' make x", [("make x", "", {"A": "1", "B": "2 3"})]),
        ("A=1\nmake", [("make", "", {"A": "1"})]),
        ("echo a\nset -e\nsource .venv/bin/activate\npytest", [("pytest", "", {})]),
        ('pytest -k "a && b"', [('pytest -k "a && b"', "", {})]),
        ("pytest | tee log", [("pytest | tee log", "", {})]),
        ("pytest || true", [("pytest || true", "", {})]),
        ("echo $(pytest)", []),
    ],
)
def test_a_list_of_commands_is_split(block: str, expected: list[object]) -> None:
    assert read(block) == expected


@pytest.mark.parametrize(
    "block",
    [
        "if a; then\n  pytest\nfi",
        "for f in *; do\n  sh $f\ndone",
        "pytest <<E\nx\nE",
        "a() {\n  pytest\n}\na",
        "python -c 'import a\nimport b'",
        "echo 'open",
    ],
)
def test_a_program_stays_whole(block: str) -> None:
    assert [(each.code, each.words) for each in commands(block)] == [(block, ())]


def test_each_command_knows_its_line_and_the_parts_of_what_only_a_shell_understands() -> None:
    block = "\n# a\npytest -q\n\nif b; then\n npm test | tail\nfi"

    assert [each.line for each in commands("\n# a\nx\ny \\\n z\nw")] == [2, 3, 5]
    (whole,) = commands(block)
    assert ("npm", "test") in whole.parts


def test_a_folder_outside_the_tree_says_so() -> None:
    assert joined("a", "../../../b/./c") == "../../b/c"
    assert joined("a/b", "../c") == "a/c"


@given(st.text(alphabet="ab '\"\\\n&|;$(){}<#=cd"))
def test_no_code_breaks_the_reader(block: str) -> None:
    for each in commands(block):
        list(each.parts)


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ("V=3.13\nV=py$(echo $V | tr -d .)\necho A=$V", "V=3.13\nV=py313\necho A=py313"),
        ("V=1\nV=$(date)\necho $V", "V=1\nV=$(date)\necho $V"),
        ("echo $V\nV=1", "echo $V\nV=1"),
    ],
)
def test_a_variable_has_the_plain_value_that_the_code_set_last(block: str, expected: str) -> None:
    assert evaluated(block) == expected
