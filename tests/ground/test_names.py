"""Visible and hidden names: which is meant, and what is said about it."""

import pytest

from factory.ground.errors import RepositoryError
from factory.ground.names import Names, advice, choose, folder_of, layout, packaged

FLAT = {"pyproject.toml": '[project]\nname = "p"\nversion = "1"\n'}
GATE = "conventions/gates/10-test.sh"


def named(
    paths: list[str], *, there: str = "", holding: str = "", texts: dict[str, str] | None = None
) -> Names:
    return choose(
        packaged(layout(paths), texts or {}),
        there=there.split() + holding.split(),
        holding=holding.split(),
    )


@pytest.mark.parametrize(
    ("paths", "ours", "theirs"),
    [
        ([], (), ()),
        ([GATE, "conventions/README.md"], ("conventions",), ()),
        ([".conventions/gates/10-test.sh"], (".conventions",), ()),
        (["conventions/policy.toml"], ("conventions",), ()),
        (["conventions/naming.md", "conventions/__init__.py"], (), ("conventions",)),
        (["conventions/naming.md", GATE], ("conventions",), ()),
        (
            ["conventions/naming.md", ".conventions/gates/10-test.sh"],
            (".conventions",),
            ("conventions",),
        ),
        (["inbox/a.md", "inbox/.gitkeep", "inbox/rejected/b.md.error.txt"], ("inbox",), ()),
        (["inbox/__init__.py", "inbox/a.md"], (), ("inbox",)),
        (["src/inbox/a.py", "conventions", "inbox.py", "docs/conventions/gates/a"], (), ()),
    ],
)
def test_a_folder_is_ours_by_what_lies_in_it(
    paths: list[str], ours: tuple[str, ...], theirs: tuple[str, ...]
) -> None:
    found = layout(paths)

    assert (set(found.ours), set(found.theirs)) == (set(ours), set(theirs))


def test_without_a_reason_the_names_are_the_visible_ones() -> None:
    assert named([GATE, "src/a.py"], there="conventions", holding="inbox conventions") == Names()
    assert named([]) == Names()


def test_a_hidden_folder_that_is_there_is_meant() -> None:
    assert named([], there=".inbox").inbox == ".inbox"
    assert named([], there="inbox .inbox").inbox == ".inbox"
    assert named([], there="inbox", holding=".inbox").inbox == ".inbox"
    assert named([], there=".inbox", holding="inbox").inbox == "inbox"


def test_where_setuptools_would_package_a_visible_inbox_it_is_the_hidden_one() -> None:
    names = named(["p/__init__.py", "pyproject.toml"], texts=FLAT)

    why = "Task files go into .inbox/, because setuptools would package a visible inbox/."
    assert names == Names(".inbox", why)
    assert named(["pyproject.toml"], there="inbox", texts=FLAT).inbox == ".inbox", (
        "an empty one is no reason to stay"
    )
    assert named(["src/p.py", "pyproject.toml"], texts=FLAT) == Names()


def test_an_inbox_in_use_stays_and_is_said() -> None:
    names = named(["pyproject.toml"], holding="inbox", texts=FLAT)

    assert (names.inbox, names.why) == ("inbox", "")
    assert names.warnings == (
        "setuptools takes inbox/ for a package, so `pip install -e .` fails or installs it. Empty it, then run "
        "factoryd restart: task files go into .inbox/ from then on.",
    )


@pytest.mark.parametrize("holding", ["", "conventions"])
def test_conventions_that_setuptools_would_package_are_said(holding: str) -> None:
    paths = ["pyproject.toml", *([] if holding else [GATE])]

    assert named(paths, holding=holding, texts=FLAT).warnings == (
        "setuptools takes conventions/ for a package, so `pip install -e .` fails or installs it. Rename it: "
        "git mv conventions .conventions, and commit.",
    )
    assert named([".conventions/gates/10.sh"], holding=".conventions", texts=FLAT).warnings == ()


def test_folders_of_the_projects_own_are_left_to_it() -> None:
    names = named(
        ["inbox/__init__.py", "conventions/naming.md"], holding="inbox conventions .inbox"
    )

    assert names.inbox == ".inbox"
    assert names.theirs == {"inbox", "conventions"}
    assert names.why == (
        "Task files go into .inbox/, because inbox/ is the project's own. conventions/ is the project's own: gates, "
        "prompts and runtimes go into .conventions/."
    )


@pytest.mark.parametrize(
    ("paths", "holding", "said"),
    [
        ([], "inbox .inbox", "Both inbox/ and .inbox/ hold files in the checkout"),
        (
            [],
            "conventions .conventions",
            "Both conventions/ and .conventions/ hold files in the checkout",
        ),
        ([GATE, f".{GATE}"], "", "Both conventions/ and .conventions/ hold files on trunk"),
    ],
)
def test_both_of_a_pair_are_refused(paths: list[str], holding: str, said: str) -> None:
    with pytest.raises(RepositoryError) as refused:
        named(paths, holding=holding)

    assert str(refused.value) == (
        f"{said}, and they are two names of one folder. Move what you need into one of them and remove the other. "
        "Then start again."
    )


def test_where_both_rule_it_is_the_one_that_did_before() -> None:
    both = layout([GATE, f".{GATE}"])

    assert folder_of(both) == "conventions"
    assert folder_of(both, known=".conventions") == ".conventions"
    assert folder_of(layout([f".{GATE}"])) == ".conventions"
    assert folder_of(layout([]), known=".conventions") == ".conventions"


def test_a_setup_that_fails_for_such_a_folder_says_what_to_do() -> None:
    found = (
        "Multiple top-level packages discovered in a flat-layout: ['p', 'inbox', 'conventions']."
    )
    output = f"error: {found}\n\nTo avoid"

    assert advice(output) == (
        "setuptools takes inbox/ and conventions/ for a package. Rename it (git mv inbox .inbox && git mv conventions "
        ".conventions), or list the project's packages in pyproject.toml ([tool.setuptools] packages)."
    )
    assert advice(output.replace("inbox", "q").replace("conventions", "r")) == ""
    assert advice("No matching distribution found for inbox") == ""
