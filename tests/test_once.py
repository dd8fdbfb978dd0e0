"""Gates run once, for real, on trunk, a revision or the checkout as it is."""

from pathlib import Path

import pytest

from factory.ground.errors import FactoryError, UsageError
from factory.once import judge_once
from tests.git_repo import commit, git, make_repo, write

GATE = {"conventions/gates/10-whole.sh": "test ! -e broken\n"}


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return make_repo(tmp_path / "repo", {"a.txt": "a\n", **GATE})


def answers(repo: Path, *, rev: str | None = None, here: bool = False) -> list[tuple[str, bool]]:
    return [(gate, green) for gate, green, _, _ in judge_once(repo, rev=rev, here=here)]


def test_trunk_is_judged_as_it_is_committed(repo: Path) -> None:
    write(repo, {"broken": ""})

    assert answers(repo) == [("10-whole", True)]


def test_the_checkout_is_judged_with_what_is_not_committed(repo: Path) -> None:
    write(repo, {"broken": ""})
    before = git(repo, "status", "--porcelain")

    assert answers(repo, here=True) == [("10-whole", False)]
    assert git(repo, "status", "--porcelain") == before


def test_a_revision_is_judged_by_the_gates_of_trunk(repo: Path) -> None:
    git(repo, "checkout", "-q", "-b", "other")
    commit(
        repo, {"broken": "", "conventions/gates/10-whole.sh": "true\n"}, "Break it, and its gate"
    )
    git(repo, "checkout", "-q", "main")

    assert answers(repo, rev="other") == [("10-whole", False)]


def test_the_work_of_an_attempt_is_judged_although_only_the_factory_has_it(repo: Path) -> None:
    own = repo / ".factory/git"
    git(repo.parent, "clone", "-q", "--bare", str(repo), str(own))
    clone = repo.parent / "agent"
    git(repo.parent, "clone", "-q", str(own), str(clone))
    made = commit(clone, {"broken": ""}, "work")
    git(clone, "push", "-q", "origin", f"{made}:refs/factory/attempts/fix/1")

    assert answers(repo, rev=made[:12]) == [("10-whole", False)]


def test_what_cannot_be_judged_is_refused_with_a_sentence(repo: Path) -> None:
    with pytest.raises(UsageError, match="no revision 'nowhere'"):
        answers(repo, rev="nowhere")
    git(repo, "rm", "-q", "-r", "conventions")
    commit(repo, {"a.txt": "b\n"}, "No gate")

    with pytest.raises(FactoryError, match="factoryd found no gate"):
        answers(repo)


def test_a_state_folder_that_cannot_be_used_is_said(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for state, says in (
        (tmp_path / "file", "file is not a folder that you can write to"),
        (repo / "state", "outside of the"),
    ):
        monkeypatch.setenv("XDG_STATE_HOME", str(state))
        with pytest.raises(FactoryError, match=says):
            answers(repo)


def test_nothing_of_it_is_left(repo: Path, tmp_path: Path) -> None:
    answers(repo)

    assert [path for path in (tmp_path / "state").rglob("*") if path.is_file()] == []
    assert not (repo / ".factory").exists()


def test_the_checkout_is_judged_by_a_build_of_its_own_and_not_by_the_one_that_lies_in_it(
    repo: Path,
) -> None:
    setup = "# keeps: dist\nmkdir -p dist && cp a.txt dist/\n"
    gate = {"conventions/gates/10-whole.sh": "grep -q a dist/a.txt\n"}
    commit(repo, {"conventions/workspace/setup.sh": setup, ".gitignore": "dist\n"} | gate, "Build")
    trunk = answers(repo)
    write(repo, {"dist/a.txt": "a\n", "a.txt": "b\n"})

    assert (trunk, answers(repo, here=True)) == ([("10-whole", True)], [("10-whole", False)])
