"""Repositories as people have them: odd names, odd states, and those that are refused with a sentence."""

from collections.abc import Callable
from pathlib import Path

import pytest

from factory.store.journal import Event
from factory.store.records import CardKind
from factory.store.unit import UnitState
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


@pytest.mark.parametrize("name", ["ünïcödé and 猫", "-quo'te$(x)", "per%cent?#"])
def test_a_repository_lands_whatever_its_path(
    made: Callable[..., Line], tmp_path: Path, name: str
) -> None:
    lands(made(tmp_path, name))


def test_a_dirty_checkout_is_landed_into_and_stays_dirty(made: Callable[..., Line]) -> None:
    line = made()
    (line.root / "story.txt").write_text("mine\n")
    (line.root / "untracked.txt").write_text("mine\n")

    lands(line)

    assert line.git("status", "--porcelain").splitlines() == [" M story.txt", "?? untracked.txt"]
    assert (line.root / "one.txt").read_text() == "fine"


def test_file_names_that_git_quotes_land(shared: Line) -> None:
    names = ["a b.txt", "ü.txt", 'quo"te.txt', "new\nline.txt", "-dash.txt", ":colon.txt"]
    shared.drop("quoted", "".join(f"write({name!r}, 'fine')\n" for name in names))

    landed = shared.unit("quoted")

    found = shared.git("ls-tree", "-z", "--name-only", landed.commit).split("\0")
    assert set(names) <= set(found)
    assert shared.git("status", "--porcelain") == ""


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


def test_trunk_that_is_checked_out_elsewhere_is_landed_there(
    made: Callable[..., Line], tmp_path: Path
) -> None:
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


def test_a_branch_that_is_checked_out_while_the_line_runs_is_never_touched(
    made: Callable[..., Line],
) -> None:
    line = made().start()
    line.drop("before", FINE)
    line.unit("before")
    line.git("checkout", "-q", "-b", "mine", line.begin)
    line.drop("after", FINE)
    line.unit("after")

    line.git("checkout", "-q", "main")

    assert line.git("status", "--porcelain") == ""
    assert (line.root / "after.txt").read_text() == "fine"


def test_trunk_renamed_underneath_is_one_card_and_goes_on_when_it_is_back(shared: Line) -> None:
    shared.git("branch", "-m", "main", "trunk")
    shared.drop("renamed", FINE)

    card = shared.card(CardKind.CONFIG)

    assert "main" in card.question
    shared.git("branch", "-m", "trunk", "main")
    shared.unit("renamed")
    shared.no_card(CardKind.CONFIG)


def test_trunk_that_a_person_moved_on_is_what_units_land_on(shared: Line) -> None:
    go = shared.folder / "go-upon"
    shared.drop("upon", f"hold({str(go)!r}); {FINE}")
    shared.event(Event.ATTEMPT_STARTED, unit="upon")

    theirs = shared.commit({"theirs.txt": "theirs\n"})
    go.touch()

    landed = shared.unit("upon")
    assert shared.git("rev-parse", f"{landed.commit}^") == theirs


def test_a_linked_worktree_shares_the_one_factory(
    made: Callable[..., Line], tmp_path: Path
) -> None:
    line = made().start()
    line.git("worktree", "add", "-q", str(tmp_path / "linked"), "-b", "linked")
    other = Line(tmp_path, name="linked")

    code, said = other.refused()

    assert (code, f"already running, in {line.root}." in said) == (3, True)
    line.drop("one", FINE)
    line.unit("one")


def test_a_rebase_of_trunk_in_progress_is_waited_for(shared: Line) -> None:
    shared.git("checkout", "-q", "-b", "base")
    shared.commit({"story.txt": "theirs\n"})
    shared.git("checkout", "-q", "main")
    shared.commit({"story.txt": "ours\n"})
    shared.git("rebase", "base", ok=False)
    shared.drop("rebased", FINE)

    shared.card(CardKind.LANDING_BLOCKED)

    shared.git("rebase", "--abort")
    shared.unit("rebased")
    shared.no_card(CardKind.LANDING_BLOCKED)


def test_a_lock_of_somebody_elses_git_is_waited_for_and_then_said(shared: Line) -> None:
    lock, mark = shared.root / ".git/index.lock", shared.mark()
    lock.touch()
    shared.drop("locked", FINE)

    card = shared.card(CardKind.LANDING_BLOCKED)

    assert "index.lock" in card.question
    shared.until("it rests", lambda: len(shared.entries(Event.LANDING_CLOSED, after=mark)) >= 2)
    assert lock.exists()
    lock.unlink()
    shared.unit("locked")
    shared.no_card(CardKind.LANDING_BLOCKED)


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


def test_a_repository_without_a_commit_is_refused(
    made: Callable[..., Line], tmp_path: Path
) -> None:
    git(tmp_path, "init", "-q", "-b", "main", "repo")

    code, said = made().refused()

    assert (code, "commit" in said) == (1, True)
    assert not (tmp_path / "repo/.factory").exists()


def test_a_folder_that_is_no_repository_is_refused(
    made: Callable[..., Line], tmp_path: Path
) -> None:
    (tmp_path / "repo").mkdir()

    code, said = made().refused()

    assert (code, "git" in said) == (1, True)


def test_what_is_not_built_yet_about_repositories_is_refused_by_name(
    made: Callable[..., Line],
) -> None:
    line = made()
    line.commit({".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n", "a.bin": "big\n"})

    code, said = line.refused()

    assert (code, "not yet" in said) == (2, True)


def test_tracked_inbox_files_of_the_first_start_are_not_taken_and_that_is_said(
    made: Callable[..., Line],
) -> None:
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


# ── a person who does something at the very moment of a landing ──


def at_the_merge(line: Line, does: str) -> None:
    """Let a shell command of the user's run just before git merges, in their checkout and environment."""
    clean = "env -u GIT_DIR -u GIT_WORK_TREE -u GIT_INDEX_FILE"
    line.wrap_git(on=" --ff-only ", before=f"(cd {line.root} && {clean} sh -c '{does}') >&2")


def test_a_commit_of_theirs_at_that_moment_is_landed_upon(made: Callable[..., Line]) -> None:
    line = made()
    at_the_merge(line, "echo theirs > theirs.txt; git add theirs.txt; git commit -qm theirs")

    lands(line)

    assert line.git("log", "--format=%s", "-3").splitlines() == ["one", "theirs", "start"]
    assert line.git("status", "--porcelain") == ""


def test_another_branch_that_they_check_out_at_that_moment_is_put_back(
    made: Callable[..., Line],
) -> None:
    line = made()
    at_the_merge(line, "git checkout -q -b mine")

    lands(line)

    assert line.git("rev-parse", "mine") == line.begin
    assert line.git("rev-parse", "HEAD") == line.begin
    assert line.git("status", "--porcelain") == ""
    assert line.on_trunk() == ["one"]


def test_an_edit_of_theirs_at_that_moment_stays_and_blocks_the_landing(
    made: Callable[..., Line],
) -> None:
    line = made()
    at_the_merge(line, "echo mine > story.txt")
    line.start()
    line.drop("one", "write('story.txt', 'theirs\\n')")

    line.card(CardKind.LANDING_BLOCKED)

    assert (line.root / "story.txt").read_text() == "mine\n"
    assert line.git("rev-parse", "main") == line.begin
    line.git("checkout", "-q", "story.txt")
    line.unit("one")


def test_a_file_that_they_ignore_is_not_overwritten(made: Callable[..., Line]) -> None:
    line = made()
    line.commit({".gitignore": "*.secret\n"})
    (line.root / "my.secret").write_text("mine\n")
    line.start()
    line.drop(
        "one",
        "git('add', '-f', '.') if Path('.gitignore').unlink() else write('my.secret', 'theirs')",
    )

    line.card(CardKind.LANDING_BLOCKED)

    assert (line.root / "my.secret").read_text() == "mine\n"
    (line.root / "my.secret").unlink()
    line.unit("one")
