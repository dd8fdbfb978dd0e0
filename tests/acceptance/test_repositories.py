"""Repositories as people have them: odd names, odd states, and those that are refused with a sentence."""

from collections.abc import Callable
from pathlib import Path

import pytest

from factory.journal import Event
from factory.records import CardKind
from factory.unit import UnitState
from tests.acceptance.line import Line, files
from tests.git_repo import commit, git, make_repo

FINE = "write(f'{os.environ[\"FACTORY_UNIT\"]}.txt', 'fine')"


def lands(line: Line) -> None:
    """The line of that repository works."""
    line.start()
    line.drop("one", FINE)
    line.unit("one")


@pytest.fixture
def made(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Line]:
    """Makes a line that is taken down at the end."""

    def make(folder: Path = tmp_path, name: str = "repo") -> Line:
        line = Line(folder, name=name)
        request.addfinalizer(line.close)
        return line

    return make


@pytest.mark.parametrize("name", ["with a space", "ünïcödé 猫", "quo'te$(x)", "-dash", "per%cent?#"])
def test_a_repository_lands_whatever_its_path(made: Callable[..., Line], tmp_path: Path, name: str) -> None:
    lands(made(tmp_path, name))


def test_a_dirty_checkout_is_landed_into_and_stays_dirty(made: Callable[..., Line]) -> None:
    line = made()
    (line.root / "story.txt").write_text("mine\n")
    (line.root / "untracked.txt").write_text("mine\n")

    lands(line)

    assert line.git("status", "--porcelain").splitlines() == [" M story.txt", "?? untracked.txt"]
    assert (line.root / "one.txt").read_text() == "fine"


def test_file_names_that_git_quotes_land(made: Callable[..., Line]) -> None:
    line = made().start()
    names = ["a b.txt", "ü.txt", 'quo"te.txt', "new\nline.txt", "-dash.txt", ":colon.txt"]
    line.drop("odd", "".join(f"write({name!r}, 'fine')\n" for name in names))

    landed = line.unit("odd")

    found = line.git("ls-tree", "-z", "--name-only", landed.commit).split("\0")
    assert set(names) <= set(found)
    assert line.git("status", "--porcelain") == ""


def test_a_shallow_clone_works(made: Callable[..., Line], tmp_path: Path) -> None:
    origin = make_repo(tmp_path / "origin", files())
    commit(origin, {"more.txt": "more"})
    git(tmp_path, "clone", "-q", "--depth=1", origin.as_uri(), "repo")
    for key, value in (("user.name", "Ada Tester"), ("user.email", "ada@example.invalid")):
        git(tmp_path / "repo", "config", key, value)

    lands(made())


def test_a_repository_of_sha256_works(made: Callable[..., Line], tmp_path: Path) -> None:
    make_repo(tmp_path / "repo", files(), "main", "--object-format=sha256")

    lands(made())


def test_trunk_that_is_checked_out_elsewhere_is_landed_there(made: Callable[..., Line], tmp_path: Path) -> None:
    line = made()
    line.git("checkout", "-q", "-b", "mine")
    line.git("worktree", "add", "-q", str(tmp_path / "elsewhere"), "main")
    line.configure_before('agent = "scripted"\ntrunk = "main"\n')

    lands(line)

    assert (tmp_path / "elsewhere/one.txt").read_text() == "fine"
    assert not (line.root / "one.txt").exists()
    assert git(tmp_path / "elsewhere", "status", "--porcelain") == ""


def test_trunk_that_is_checked_out_nowhere_is_moved_all_the_same(made: Callable[..., Line]) -> None:
    line = made().start()
    line.git("checkout", "-q", "-b", "mine")

    line.drop("one", FINE)

    landed = line.unit("one")
    assert line.git("rev-parse", "main") == landed.commit
    assert line.git("rev-parse", "mine") == line.begin
    assert line.git("status", "--porcelain") == ""


def test_a_branch_that_is_checked_out_while_the_line_runs_is_never_touched(made: Callable[..., Line]) -> None:
    line = made().start()
    line.drop("before", FINE)
    line.unit("before")
    line.git("checkout", "-q", "-b", "mine", line.begin)
    line.drop("after", FINE)
    line.unit("after")

    line.git("checkout", "-q", "main")

    assert line.git("status", "--porcelain") == ""
    assert (line.root / "after.txt").read_text() == "fine"


def test_trunk_renamed_underneath_is_one_card_and_goes_on_when_it_is_back(made: Callable[..., Line]) -> None:
    line = made().start()
    line.until("trunk is judged", lambda: line.fact("trunk")["state"] == "green")
    line.git("branch", "-m", "main", "trunk")
    line.drop("one", FINE)

    card = line.card(CardKind.CONFIG)

    assert "main" in card.question
    line.git("branch", "-m", "trunk", "main")
    line.unit("one")
    line.no_card(CardKind.CONFIG)


def test_trunk_that_a_person_moved_on_is_what_units_land_on(made: Callable[..., Line]) -> None:
    line = made().start()
    go = line.folder / "go"
    line.drop("one", f"hold({str(go)!r}); {FINE}")
    line.event(Event.ATTEMPT_STARTED, unit="one")

    theirs = line.commit({"theirs.txt": "theirs\n"})
    go.touch()

    landed = line.unit("one")
    assert line.git("rev-parse", f"{landed.commit}^") == theirs


def test_a_linked_worktree_shares_the_one_factory(made: Callable[..., Line], tmp_path: Path) -> None:
    line = made().start()
    line.git("worktree", "add", "-q", str(tmp_path / "linked"), "-b", "linked")
    other = Line(tmp_path, name="linked")

    code, said = other.refused()

    assert (code, "already running" in said) == (3, True)
    line.drop("one", FINE)
    line.unit("one")


def test_a_rebase_of_trunk_in_progress_is_waited_for(made: Callable[..., Line]) -> None:
    line = made().start()
    line.until("trunk is judged", lambda: line.fact("trunk")["state"] == "green")
    line.git("checkout", "-q", "-b", "base")
    line.commit({"story.txt": "theirs\n"})
    line.git("checkout", "-q", "main")
    line.commit({"story.txt": "ours\n"})
    line.git("rebase", "base", ok=False)
    line.drop("one", FINE)

    line.card(CardKind.LANDING_BLOCKED)

    line.git("rebase", "--abort")
    line.unit("one")
    line.no_card(CardKind.LANDING_BLOCKED)


def test_a_lock_of_somebody_elses_git_is_waited_for_and_then_said(made: Callable[..., Line]) -> None:
    line = made().start()
    lock = line.root / ".git/index.lock"
    lock.touch()
    line.drop("one", FINE)

    card = line.card(CardKind.LANDING_BLOCKED)

    assert "index.lock" in card.question
    assert lock.exists()
    lock.unlink()
    line.unit("one")


def test_git_is_never_left_with_refs_hooks_or_config_of_ours(made: Callable[..., Line]) -> None:
    line = made()
    before = line.git("config", "--local", "--list")

    lands(line)

    assert line.git("config", "--local", "--list") == before
    assert line.git("for-each-ref", "--format=%(refname)") == "refs/heads/main"
    assert "/.factory/\n/inbox/\n" in (line.root / ".git/info/exclude").read_text()


def test_a_detached_head_is_refused_unless_trunk_is_named(made: Callable[..., Line]) -> None:
    line = made()
    line.git("checkout", "-q", "--detach")

    code, said = line.refused()

    assert (code, "detached" in said) == (1, True)
    assert not (line.root / ".factory").exists()
    line.configure_before('agent = "scripted"\ntrunk = "main"\n')
    lands(line)


def test_a_bare_repository_is_refused(made: Callable[..., Line], tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "--bare", "repo")

    code, said = made().refused()

    assert (code, "bare" in said) == (1, True)


def test_a_repository_without_a_commit_is_refused(made: Callable[..., Line], tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main", "repo")

    code, said = made().refused()

    assert (code, "commit" in said) == (1, True)
    assert not (tmp_path / "repo/.factory").exists()


def test_a_folder_that_is_no_repository_is_refused(made: Callable[..., Line], tmp_path: Path) -> None:
    (tmp_path / "repo").mkdir()

    code, said = made().refused()

    assert (code, "git" in said) == (1, True)


def test_what_is_not_built_yet_about_repositories_is_refused_by_name(made: Callable[..., Line]) -> None:
    line = made()
    line.commit({".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n", "a.bin": "big\n"})

    code, said = line.refused()

    assert (code, "not yet" in said) == (2, True)


def test_tracked_inbox_files_of_the_first_start_are_not_taken_and_that_is_said(made: Callable[..., Line]) -> None:
    line = made()
    (line.root / "inbox").mkdir()
    (line.root / "inbox/old.md").write_text("Old news\n")
    line.git("add", "-f", "inbox/old.md")
    line.git("commit", "-qm", "tracked")

    lands(line)

    assert [unit["id"] for unit in line.status()["units_open"]] == []
    assert any("old.md" in warning for warning in line.status()["warnings"])
    (line.root / "inbox/old.md").write_text("---\nrun: echo new > news.txt\n---\nNews\n")
    line.unit("old", UnitState.LANDED)
    assert (line.root / "inbox/old.md").exists()
