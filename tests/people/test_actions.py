"""Actions: each is read from a card as it was written there."""

import pytest

from factory.people import actions
from factory.people.actions import LeaveOut, Repair, Restore, parse, written


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("repair Make test green on main again", Repair("Make test green on main again")),
        ('leave_out ["10-lint", "20-test"]', LeaveOut(("10-lint", "20-test"))),
        ('restore {"10-lint": ["a b.py", "c.py"]}', Restore((("10-lint", ("a b.py", "c.py")),))),
        ("retry", actions.Retry()),
        ("spend_on", actions.SpendOn()),
    ],
)
def test_an_action_is_stored_as_earlier_releases_did(text: str, action: actions.Action) -> None:
    assert parse(text) == action
    assert written(action) == text


def test_each_plain_action_has_its_own_word() -> None:
    for text, action in actions._PLAIN.items():
        assert (written(action), parse(text)) == (text, action)


def test_a_repair_without_a_title_has_the_one_of_the_first_release() -> None:
    assert parse("repair") == Repair("Make trunk green again")


def test_an_action_that_no_release_has_written_is_refused() -> None:
    with pytest.raises(ValueError, match="no action is called 'explode now'"):
        parse("explode now")
