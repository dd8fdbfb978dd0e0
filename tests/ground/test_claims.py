"""Claims: which scope overlaps, found without comparing each with each."""

from hypothesis import given
from hypothesis import strategies as st

from factory.ground import claims
from factory.ground.claims import Claims

GLOBS = st.lists(
    st.sampled_from(["a", "b", "a*", "*b", "*", "**", "?", "a.py"]), min_size=1, max_size=4
).map("/".join)


def overlaps(one: str, two: str) -> bool:
    """The rule for a pair: one beginning starts with the other, and one end ends with the other."""
    (begin, end), (other_begin, other_end) = claims.ends(one), claims.ends(two)
    begins = begin.startswith(other_begin) or other_begin.startswith(begin)
    return begins and (end.endswith(other_end) or other_end.endswith(end))


@given(st.lists(GLOBS, max_size=8), GLOBS)
def test_an_owner_is_found_exactly_if_its_pair_overlaps(claimed: list[str], glob: str) -> None:
    known = Claims()
    for number, each in enumerate(claimed):
        known.add(str(number), [each])
    overlapping = {str(number) for number, each in enumerate(claimed) if overlaps(each, glob)}

    owner = known.owner([glob])

    assert owner in overlapping if overlapping else owner == ""


def test_the_first_owner_of_a_glob_keeps_it() -> None:
    known = Claims()
    known.add("first", ["src/**"])
    known.add("second", ["src/**"])

    assert known.owner(["lib", "src/a.py"]) == "first"


def test_a_thousand_scopes_compile_each_glob_once_and_compare_few_pairs() -> None:
    known = Claims()
    claims._cached_ends.cache_clear()
    compared = 0
    for number in range(1000):
        globs = [f"pages/{number}/**", f"notes/{number}-*.md"]
        for glob in globs:
            compared += len(list(known._related(claims.ends(glob)[0])))
        assert known.owner(globs) == ""
        known.add(str(number), globs)

    assert claims._cached_ends.cache_info().misses == 2000
    assert compared < 1000


def test_a_very_long_glob_is_not_kept() -> None:
    claims._cached_ends.cache_clear()

    assert claims.ends("a" * 1000 + "/*.md") == ("a" * 1000 + "/", ".md")
    assert claims._cached_ends.cache_info().currsize == 0
