"""The command `submit`: which commit it names to the daemon, and what it says to the person."""

from pathlib import Path

import pytest

from factory.cli.main import factory
from tests.cli_line import Line
from tests.git_repo import commit, git, make_repo, write

LATER = "the next start does this; the daemon is not running (factoryd start)\n"


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Line:
    root = make_repo(tmp_path / "repo", {"a.txt": "a\n", ".gitignore": ".factory/\n"})
    git(root, "branch", "fix/login")
    monkeypatch.chdir(root)
    return Line(root)


def test_a_branch_is_submitted_by_its_commit_and_its_name(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    code = factory(["submit", "fix/login", "--title", "Fix the login"])

    head = git(line.root, "rev-parse", "fix/login")
    asked = {"commit": head, "name": "fix/login", "title": "Fix the login"}
    assert (code, capsys.readouterr().out) == (0, LATER)
    assert line.requests() == [("submit", asked)]


@pytest.mark.parametrize(
    ("rev", "name"), [("HEAD", "main"), ("HEAD~0", ""), ("refs/heads/fix/login", "fix/login")]
)
def test_a_revision_has_the_name_of_its_branch_if_it_names_one(
    rev: str, name: str, line: Line
) -> None:
    assert factory(["submit", rev]) == 0

    ((_, asked),) = line.requests()
    assert asked == {"commit": git(line.root, "rev-parse", rev), "name": name, "title": ""}


def test_in_a_linked_working_tree_head_is_that_trees(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there"
    git(line.root, "worktree", "add", "-q", "-b", "mine", str(there))
    made = commit(there, {"b.txt": "b\n"})
    monkeypatch.chdir(there)

    assert factory(["submit", "HEAD"]) == 0

    assert line.requests() == [("submit", {"commit": made, "name": "mine", "title": ""})]


def test_uncommitted_changes_are_named(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    write(line.root, {"a.txt": "changed\n"})

    assert factory(["submit", "HEAD"]) == 0

    said = "! the uncommitted changes in your checkout are not part of it\n"
    assert capsys.readouterr().out == LATER + said


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["fix/logn"], "there is no branch or commit 'fix/logn': did you mean fix/login?"),
        (["--", "--upload-pack=x"], "there is no branch or commit '--upload-pack=x'"),
        (["HEAD", "--title", " "], "the title is empty"),
        ([], "the following arguments are required: BRANCH|COMMIT"),
    ],
)
def test_what_names_no_commit_is_refused(
    argv: list[str], said: str, line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    assert factory(["submit", *argv]) == 2

    assert said in capsys.readouterr().err
    assert line.requests() == []
