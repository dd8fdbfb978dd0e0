"""The files that rule, in real repositories: read up to a bound, and named where they are larger."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from factory.ground import bounded
from factory.ground.plumbing import Texts
from factory.judging.rule_files import RuleFiles, conventions_in, too_large
from factory.repo.git import Git
from tests.git_repo import git, make_repo
from tests.repo.test_git import own

LOCK = '[[package]]\nname = "pytest"\nversion = "1"\ndependencies = [\n  { name = "x" }\n]\n[[package]]\nname = "y"\n'


def sparse(file: Path, size: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as opened:
        opened.truncate(size)


def committed(repo: Path) -> str:
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "more")
    return git(repo, "rev-parse", "HEAD")


async def test_of_a_lock_file_only_the_names_are_read_which_git_looks_for(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "r", {"uv.lock": LOCK + "# rest\n" * 200_000, "a": "x"})
    mine, commit = own(repo), git(repo, "rev-parse", "HEAD")

    read = await RuleFiles(mine).read(commit, dict(await mine.listing(commit)))

    assert read == Texts({"a": "x", "uv.lock": 'name = "pytest"\nname = "y"\n'}, {})


async def test_a_lock_file_beyond_its_bound_is_named(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "r", {})
    sparse(repo / "uv.lock", bounded.LOCK_FILE + 1)
    mine, commit = own(repo), committed(repo)

    read = await RuleFiles(mine).read(commit, dict(await mine.listing(commit)))

    assert read == Texts({}, {"uv.lock": bounded.LOCK_FILE + 1})


async def test_what_was_read_of_one_commit_is_not_read_again_for_the_next(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "r", {"a": "x", "uv.lock": LOCK})
    mine, commit = own(repo), git(repo, "rev-parse", "HEAD")
    files, blobs = RuleFiles(mine), dict(await mine.listing(commit))
    first = await files.read(commit, blobs)

    (repo / ".git").rename(tmp_path / "gone")

    assert await files.read(commit, blobs) == first


async def test_two_commits_that_are_read_at_the_same_time_take_no_file_from_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = make_repo(tmp_path / "r", {"gate": "strict"})
    mine, commit = own(repo), git(repo, "rev-parse", "HEAD")
    files, blobs = RuleFiles(mine), dict(await mine.listing(commit))
    await files.read(commit, blobs)
    reading = Git.read

    async def meanwhile(git: Git, asked: Mapping[str, str]) -> Texts:
        monkeypatch.setattr(Git, "read", reading)
        await files.read("another commit", {})
        return await reading(git, asked)

    monkeypatch.setattr(Git, "read", meanwhile)

    assert await files.read(commit, blobs) == Texts({"gate": "strict"}, {})


async def test_only_files_that_rule_are_too_large(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "r", {"a": "x"})
    mine, before = own(repo), git(repo, "rev-parse", "HEAD")
    larger = bounded.PARSED + 1
    rules = ["conventions/gates/10-x.sh", "pyproject.toml", "tests/test_big.py"]
    for path in (*rules, "data.bin", "package-lock.json", "conventions/picture.png"):
        sparse(repo / path, larger)
    for number in range(20):
        sparse(repo / f"tests/test_a{number:02}.py", 1)
    sparse(repo / "uv.lock", larger)
    after = committed(repo)
    changes = await mine.changed(before, after)

    found = await too_large(mine, after, changes, "conventions")

    # Of tests only the first twenty are looked into.
    assert found == dict.fromkeys(rules[:2], larger)


def test_of_the_folder_with_the_conventions_only_what_counts_is_read() -> None:
    paths = [
        "conventions/gates/10-x.sh",
        "conventions/picture.png",
        "conventions/policy.toml",
        "other/gates/x",
    ]

    assert conventions_in(paths, "conventions") == [paths[0], paths[2]]
