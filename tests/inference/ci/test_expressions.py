"""`${{ … }}`: what the files of a commit say, and what only GitHub knows."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.inference.ci.expressions import Unknown, filled, holds

CONTEXTS = {
    "github": {"event_name": "push"},
    "runner": {"os": "Linux"},
    "matrix": {"python": "3.12", "tox": "", "flag": False, "os": {"name": "ubuntu"}},
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("py${{ matrix.python }}!", "py3.12!"),
        ("${{ matrix.tox || format('py{0}', matrix.python) }}", "py3.12"),
        ("${{ matrix.os.name }}", "ubuntu"),
        ("${{ matrix['python'] }}", "3.12"),
        ("${{ matrix.missing }}", ""),
        ("${{ matrix.python == '3.12' && 'yes' || 'no' }}", "yes"),
        ("${{ (matrix.flag || !matrix.flag) && 'it''s' }}", "it's"),
        ("${{ contains(matrix.python, '.1') }}", "true"),
        ("${{ startsWith(runner.os, 'lin') && endsWith(runner.os, 'X') }}", "true"),
    ],
)
def test_expressions_that_the_commit_decides_have_a_value(text: str, expected: str) -> None:
    assert filled(text, CONTEXTS) == expected


@pytest.mark.parametrize(
    "text",
    [
        "${{ secrets.TOKEN }}",
        "${{ github.sha }}",
        "${{ steps.x.outputs.y }}",
        "${{ hashFiles('a') }}",
        "${{ fromJSON(needs.a.outputs.b) }}",
        "${{ matrix }}",
        "${{ 1 +",
        "${{ 1 + 1 }}",
        "${{ a b }}",
        "${{ matrix.python < 4 }}",
        "${{ ('a' }}",
    ],
)
def test_everything_else_is_unknown(text: str) -> None:
    if "}}" not in text:
        assert filled(text, CONTEXTS) == text
        return
    with pytest.raises(Unknown):
        filled(text, CONTEXTS)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("", True),
        ("github.event_name == 'push'", True),
        ("${{ github.event_name == 'schedule' }}", False),
        ("github.event_name != 'push' || matrix.flag", False),
        ("always()", True),
        ("failure()", False),
        ("!cancelled()", True),
        ("runner.os == 'Windows'", False),
        ("github.repository == 'a/b'", True),
        ("github.repository == 'a/b' && false", False),
        ("secrets.TOKEN != ''", True),
        ("%%", True),
    ],
)
def test_a_condition_holds_unless_the_commit_says_that_it_does_not(
    condition: str, expected: bool
) -> None:
    assert holds(condition, CONTEXTS) is expected


@given(st.text(alphabet="ab.'()|&!=[],{}$ 1<-"))
def test_no_expression_breaks_the_reader(code: str) -> None:
    holds(code, CONTEXTS)
    with contextlib.suppress(Unknown):
        filled(f"${{{{ {code} }}}}", CONTEXTS)
