"""The hint that complaints about unknown words end with."""

from factory.ground.errors import did_you_mean


def test_only_near_words_are_suggested() -> None:
    assert did_you_mean("fix-logn", ["fix-login", "other"]) == ": did you mean fix-login?"
    assert did_you_mean("zzz", ["fix-login"]) == ""


def test_a_word_is_near_whatever_its_case_and_comes_back_as_it_is_spelt() -> None:
    assert did_you_mean("workres", ["WORKERS"]) == ": did you mean WORKERS?"


def test_the_last_part_of_a_dotted_name_is_near_it() -> None:
    assert did_you_mean("wip", ["review.wip", "wipe"]) == ": did you mean review.wip?"
