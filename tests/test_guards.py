"""Which changes are refused before anything is judged."""

import pytest

from factory.guards import Refused, guard, shown
from factory.unit import EndReason

SOURCES = frozenset({"pyproject.toml", "Makefile"})


def test_a_change_of_ordinary_files_is_let_through() -> None:
    assert guard(["src/a.py", "tests/test_a.py", "docs/inbox.md"], sources=SOURCES) is None


@pytest.mark.parametrize(
    "path", ["inbox/x.md", "INBOX/x.md", ".factory/store.sqlite", ".Factory/x", "inbox", ".factory"]
)
def test_the_factorys_own_folders_are_refused_in_any_case_and_nothing_lifts_it(path: str) -> None:
    refused = guard(["a.py", path], sources=SOURCES, allow=["edit-gates", "protected"], scope=["**"])

    assert refused == Refused(
        EndReason.OUT_OF_SCOPE,
        (path,),
        f"it touches {path}: .factory/ and inbox/ are the factory's own, and nothing lifts that",
        liftable=False,
    )


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("link", "inbox"),
        ("link", "./INBOX/x"),
        ("a/b/link", "../../.factory"),
        ("link", "../elsewhere/.factory/git"),
        ("link", "/home/somebody/project/inbox"),
        ("a/link", "../a/../inbox/"),
    ],
)
def test_a_symlink_into_the_factorys_own_folders_is_refused(path: str, target: str) -> None:
    refused = guard([path], sources=(), links={path: target})

    assert (refused and refused.paths, refused and refused.liftable) == ((path,), False)


@pytest.mark.parametrize("target", ["docs/inbox", "src", "../other", "inbox2"])
def test_a_symlink_to_elsewhere_is_let_through(target: str) -> None:
    assert guard(["link"], sources=(), links={"link": target}) is None


def test_a_change_outside_the_scope_names_what_lies_outside() -> None:
    refused = guard(["src/a.py", "lib/b.py"], sources=(), scope=["src/**", "docs"])

    assert refused == Refused(
        EndReason.OUT_OF_SCOPE, ("lib/b.py",), "it touches lib/b.py, outside its scope (src/**, docs)"
    )


@pytest.mark.parametrize(
    "path",
    [
        "factory.toml",
        "conventions/gates/10-lint.sh",
        "Conventions/policy.toml",
        "conventions/workspace/setup.sh",
        ".github/workflows/ci.yml",
        ".ci/run",
        ".gitlab-ci.yml",
        "Jenkinsfile",
        "pyproject.toml",
        "PYPROJECT.toml",
        "makefile",
    ],
)
def test_what_judges_or_sets_up_work_is_guarded(path: str) -> None:
    refused = guard(["a.py", path], sources=SOURCES)

    assert refused == Refused(
        EndReason.GUARD, (path,), f"it changes {path}, by which the factory judges or sets up work"
    )


def test_a_task_that_allows_edit_gates_may_change_them() -> None:
    assert guard(["conventions/gates/10.sh", "Makefile"], sources=SOURCES, allow=["edit-gates"]) is None


def test_allowing_edit_gates_does_not_widen_the_scope() -> None:
    refused = guard(["Makefile"], sources=SOURCES, allow=["edit-gates"], scope=["src"])

    assert refused
    assert refused.kind is EndReason.OUT_OF_SCOPE


def test_names_that_only_begin_alike_are_not_guarded() -> None:
    assert guard(["conventions.md", "src/factory.toml", "Makefile.md", ".github/CODEOWNERS"], sources=SOURCES) is None


def test_a_long_list_is_cut_and_an_unprintable_name_is_escaped() -> None:
    assert shown(["a\nb", *"cdefgh"]) == r"'a\nb', c, d, e, f and 2 more"
    assert shown(["x\udcff"]) == r"'x\udcff'"
