"""Globs: what is within a scope, and when two scopes overlap."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.ground.scope import covers, overlap, within


@pytest.mark.parametrize(
    ("glob", "path"),
    [
        ("src/**", "src/a.py"),
        ("src/**", "src/deep/er/a.py"),
        ("src", "src/a.py"),
        ("src/", "src/deep/a.py"),
        ("/src", "src/a.py"),
        ("./src", "src/a.py"),
        ("src/*.py", "src/a.py"),
        ("src/**/test_*.py", "src/test_a.py"),
        ("src/**/test_*.py", "src/x/y/test_a.py"),
        ("**/test_*.py", "test_a.py"),
        ("*.md", "docs/deep/a.md"),
        ("README.md", "README.md"),
        ("**", "anything/at/all"),
        ("a/**/b/**/c", "a/b/x/c"),
    ],
)
def test_a_path_that_the_glob_means_is_within(glob: str, path: str) -> None:
    assert within(path, [glob])


@pytest.mark.parametrize(
    ("glob", "path"),
    [
        ("src/**", "source/a.py"),
        ("src", "lib/src/a.py"),
        ("src/*.py", "src/a.md"),
        ("src/*.py", "src/deep/a.py"),
        ("/*.md", "docs/a.md"),
        ("README.md", "docs/README.md"),
        ("src/**/test_*.py", "src/x/a.py"),
        ("a/**/b", "a"),
        ("src/a.py", "SRC/a.py"),
    ],
)
def test_a_path_that_the_glob_does_not_mean_is_not_within(glob: str, path: str) -> None:
    assert not within(path, [glob])


def test_nothing_is_within_no_globs() -> None:
    assert not within("a", [])


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("src/**", "src/a.py"),
        ("src", "src/deep/**"),
        ("**/a.py", "src/**"),
        ("*.py", "src/a.py"),
        ("src/a*", "src/ab.py"),
        ("src/a*.py", "src/*b.py"),
        ("a/**/c", "a/b/**"),
        ("**", "x"),
    ],
)
def test_scopes_that_share_a_path_overlap_whichever_comes_first(one: str, two: str) -> None:
    assert (overlap([one], [two]), overlap([two], [one])) == (True, True)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("src/**", "docs/**"),
        ("src/a.py", "src/b.py"),
        ("src/a*", "src/b*"),
        ("*.md", "src/a.py"),
        ("*.md", "*.py"),
        ("a/**/x", "b/**/x"),
    ],
)
def test_scopes_that_share_no_path_do_not_overlap(one: str, two: str) -> None:
    assert (overlap([one], [two]), overlap([two], [one])) == (False, False)


@pytest.mark.parametrize(
    ("glob", "inner"),
    [
        ("**", "anything/*"),
        ("src/**", "src/api/**"),
        ("src", "src/*.py"),
        ("src/**", "src"),
        ("*.md", "docs/*.md"),
        ("*.md", "*.md"),
        ("src/*", "src/*.py"),
        ("src/*/x", "src/[ab]/x"),
        ("**/x.py", "a/**/x.py"),
        ("app/[id]/**", "app/[id]/page.tsx"),
    ],
)
def test_a_glob_that_stays_inside_is_covered(glob: str, inner: str) -> None:
    assert covers(["other/*", glob], inner)


@pytest.mark.parametrize(
    ("glob", "wider"),
    [
        ("src/**", "**"),
        ("src/**", "lib/x"),
        ("src/a*", "src/*"),
        ("src/?", "src/*"),
        ("*/x", "**/x"),
        ("src/*/x", "src/**/x"),
        ("src/*.py", "src"),
        ("**/a/x", "**/x"),
        ("/*.md", "*.md"),
        ("[ab].py", "[a-z].py"),
    ],
)
def test_a_glob_that_reaches_beyond_is_not_covered(glob: str, wider: str) -> None:
    assert not covers([glob], wider)


def test_a_unit_without_scope_overlaps_none() -> None:
    assert not overlap([], ["**"])


def test_a_hostile_glob_is_answered_in_no_time() -> None:
    hostile = "/".join(["**", "a*a*a*b"] * 40)

    assert not within("/".join(["a" * 40] * 40), [hostile])
    assert overlap([hostile], ["/".join(["**", "a*"] * 40)])


GLOBS = st.lists(
    st.sampled_from(["a", "b", "a*", "*b", "*", "**", "?"]), min_size=1, max_size=4
).map("/".join)
PATHS = st.lists(st.sampled_from(["a", "b", "ab", "ba"]), min_size=1, max_size=4).map("/".join)


@given(PATHS, GLOBS, GLOBS)
def test_scopes_that_both_cover_a_path_overlap(path: str, one: str, two: str) -> None:
    if within(path, [one]) and within(path, [two]):
        assert overlap([one], [two])
