"""The user's repository, examined, and what is read out of git."""

import os
import shutil
import signal
import subprocess
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from factory.ground.errors import GitError, NotYet, RepositoryError, TooLong, TooMuch
from factory.ground.pipes import Into
from factory.ground.plumbing import Change, Texts
from factory.repo.examine import Repository, examine, exclude
from factory.repo.git import FACTORY, Git, Person, Recent
from factory.repo.git_dir import clean_environment
from factory.repo.processes import running
from tests.git_repo import EMAIL, PERSON, commit, environment, git, make_repo, write


def user_environment(home: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(home), "GIT_DIR": "/somewhere/else"}


def own(repo: Path) -> Git:
    return Git(git_dir=repo / ".git", own=True, environ=environment())


async def look(root: Path, trunk: str = "") -> Repository:
    return await examine(root, user_environment(root.parent), trunk=trunk)


async def test_a_plain_repository_is_described_whole(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "my repo é", {"a.txt": "a\n"})

    found = await look(repo)

    assert found == Repository(
        root=repo,
        git_dir=repo / ".git",
        common_dir=repo / ".git",
        branch="main",
        ref_format="files",
        identity=Person(PERSON, EMAIL),
        excludes=(repo / ".git/info/exclude").read_text(),
    )


async def test_a_folder_inside_the_repository_leads_to_its_top(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "r", {"deep/er/a.txt": "a\n"})

    assert (await look(repo / "deep/er")).root == repo


@pytest.mark.parametrize("name", ["$HOME", "$D", "${D}", "~"])
async def test_a_variable_in_the_name_of_a_folder_is_not_filled_in(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_repo(tmp_path / "other", {"b.txt": "b\n"}, "theirs")
    repo = make_repo(tmp_path / name, {"a.txt": "a\n"})
    for variable in ("HOME", "D"):
        monkeypatch.setenv(variable, "other")
    make_repo(tmp_path / "above" / name / "r", {"a.txt": "a\n"})

    found = await look(repo)
    below = await look(tmp_path / "above" / name / "r")

    assert (found.root, found.git_dir, found.branch) == (repo, repo / ".git", "main")
    assert below.root == tmp_path / "above" / name / "r"
    assert found.root != other


async def test_a_linked_worktree_knows_where_refs_are(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "r", {"a.txt": "a\n"})
    git(repo, "worktree", "add", "-q", "-b", "side", str(tmp_path / "linked"))

    found = await look(tmp_path / "linked")

    assert (found.root, found.git_dir, found.common_dir, found.branch) == (
        tmp_path / "linked",
        repo / ".git/worktrees/linked",
        repo / ".git",
        "side",
    )


async def test_a_worktree_of_a_bare_repository_is_a_place_to_start(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "r", {"a.txt": "a\n"})
    git(tmp_path, "clone", "-q", "--bare", str(repo), str(tmp_path / "bare.git"))
    git(tmp_path / "bare.git", "worktree", "add", "-q", str(tmp_path / "linked"), "main")

    found = await look(tmp_path / "linked")

    assert (found.root, found.common_dir) == (tmp_path / "linked", tmp_path / "bare.git")


async def test_how_refs_are_stored_is_told_apart(tmp_path: Path) -> None:
    files = make_repo(tmp_path / "files", {"a.txt": "a\n"}, "main", "--object-format=sha256")
    reftable = make_repo(tmp_path / "reftable", {"a.txt": "a\n"}, "main", "--ref-format=reftable")
    commit(files, {"a.txt": "b\n"})
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{files}", "shallow")

    seen = [await look(repo) for repo in (files, reftable, tmp_path / "shallow")]

    assert [found.ref_format for found in seen] == ["files", "reftable", "files"]


async def test_without_an_identity_the_factory_lends_its_own(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "r", {"a.txt": "a\n"})
    git(repo, "config", "--unset", "user.name")
    git(repo, "config", "--unset", "user.email")

    assert (await look(repo)).identity == Person("factoryd", "factoryd@factoryd.invalid")


async def test_the_users_own_ignore_rules_are_known(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "r", {"a": ""})
    write(tmp_path, {".config/git/ignore": "*.mine"})
    (repo / ".git/info/exclude").write_text("here\n")

    assert (await look(repo)).excludes == "*.mine\nhere\n"


async def test_a_configured_excludes_file_replaces_the_usual_one(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "r", {"a": ""})
    write(tmp_path, {".config/git/ignore": "*.usual\n", "mine": "*.chosen\n"})
    git(repo, "config", "core.excludesFile", "~/mine")
    (repo / ".git/info/exclude").unlink()

    assert (await look(repo)).excludes == "*.chosen\n"


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda root: None, "is not in a git repository"),
        (lambda root: git(root, "init", "-q", "--bare"), "is a bare repository"),
        (lambda root: git(root, "init", "-q", "-b", "main"), "has no commit yet"),
        (
            lambda root: git(make_repo(root, {"a": ""}), "checkout", "-q", "--detach"),
            "No branch is checked out",
        ),
    ],
)
async def test_what_cannot_be_worked_with_is_refused_with_a_sentence(
    tmp_path: Path, make: Callable[[Path], object], sentence: str
) -> None:
    root = tmp_path / "r"
    root.mkdir()
    make(root)

    with pytest.raises(RepositoryError, match=sentence):
        await look(root)


async def test_a_missing_folder_is_no_repository(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="not in a git repository"):
        await look(tmp_path / "gone")


async def test_a_detached_head_is_fine_when_trunk_is_named(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "r", {"a": ""})
    git(repo, "checkout", "-q", "--detach")

    assert (await look(repo, "main")).branch == "main"


async def test_a_misspelt_trunk_is_answered_with_the_nearest_branch(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "r", {"a": ""}, "develop")

    with pytest.raises(RepositoryError, match="did you mean develop"):
        await look(repo, "devlop")


async def test_git_that_is_missing_or_too_old_is_said(tmp_path: Path) -> None:
    (tmp_path / "git").write_text("#!/bin/sh\necho git version 2.30.9\n")
    (tmp_path / "git").chmod(0o755)
    (tmp_path / "none").mkdir()

    with pytest.raises(RepositoryError, match=r"git version 2\.30\.9 is too old"):
        await examine(tmp_path, {"PATH": str(tmp_path)})
    with pytest.raises(RepositoryError, match="git is not on PATH"):
        await examine(tmp_path, {"PATH": str(tmp_path / "none")})


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        (
            "echo 'libcurl.so.4: cannot open' >&2; exit 127",
            r"could not be run .* 127\): libcurl\.so\.4: cannot open",
        ),
        ("exit 1", r"could not be run .* 1\): no error output"),
        ("echo hello", r"could not be run .* 0\): hello"),
    ],
)
async def test_a_git_that_fails_is_quoted_and_not_called_old(
    tmp_path: Path, program: str, sentence: str
) -> None:
    (tmp_path / "git").write_text(f"#!/bin/sh\n{program}\n")
    (tmp_path / "git").chmod(0o755)

    with pytest.raises(RepositoryError, match=sentence):
        await examine(tmp_path, {"PATH": str(tmp_path)})


async def test_a_git_that_is_no_program_is_said(tmp_path: Path) -> None:
    (tmp_path / "git").write_bytes(b"\0\1\2\3")
    (tmp_path / "git").chmod(0o755)

    with pytest.raises(RepositoryError, match=r"git could not be run: .*Exec format error"):
        await examine(tmp_path, {"PATH": str(tmp_path)})


async def test_filters_partial_clones_and_populated_submodules_are_not_yet(tmp_path: Path) -> None:
    lfs = make_repo(tmp_path / "lfs", {".gitattributes": "*.bin filter=lfs\n", "a.bin": "x"})
    lazy = make_repo(tmp_path / "lazy", {"a": ""})
    git(lazy, "config", "remote.origin.promisor", "true")
    outer = make_repo(tmp_path / "outer", {"a": ""})
    git(outer, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(lazy), "sub")

    for repo, sentence in (
        (lfs, "filter=lfs"),
        (lazy, "partial clones"),
        (outer, r"submodules \(sub\)"),
    ):
        with pytest.raises(NotYet, match=sentence):
            await look(repo)


async def test_a_submodule_that_is_not_populated_is_fine(tmp_path: Path) -> None:
    inner, outer = (
        make_repo(tmp_path / "inner", {"a": ""}),
        make_repo(tmp_path / "outer", {"a": ""}),
    )
    git(
        outer,
        "update-index",
        "--add",
        "--cacheinfo",
        f"160000,{git(inner, 'rev-parse', 'HEAD')},sub",
    )

    assert (await look(outer)).branch == "main"


async def test_a_filter_that_touches_no_tracked_file_is_fine(tmp_path: Path) -> None:
    repo = make_repo(
        tmp_path / "r", {".gitattributes": "*.bin filter=lfs\n*.txt text\n", "a.txt": "x"}
    )

    assert (await look(repo)).branch == "main"


async def test_a_repository_of_someone_else_is_answered_with_the_command_that_trusts_it(
    tmp_path: Path,
) -> None:
    repo = make_repo(tmp_path / "r", {"a": ""})
    env = user_environment(tmp_path)
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    for folder in (repo, repo / ".git"):
        os.chown(folder, 12345, 12345)

    with pytest.raises(RepositoryError, match=r"safe\.directory"):
        await examine(repo, env)


async def test_lines_are_excluded_once(tmp_path: Path) -> None:
    (tmp_path / "info").mkdir()
    (tmp_path / "info/exclude").write_text("mine")

    exclude(tmp_path, ["/inbox/", "/.factory/"])
    exclude(tmp_path, ["/inbox/", "/.factory/"])

    assert (tmp_path / "info/exclude").read_text() == "mine\n/inbox/\n/.factory/\n"


async def test_exclude_makes_the_file_where_there_is_none(tmp_path: Path) -> None:
    exclude(tmp_path, ["/inbox/"])

    assert (tmp_path / "info/exclude").read_text() == "/inbox/\n"


async def test_many_files_are_read_in_one_go_and_missing_ones_left_out(tmp_path: Path) -> None:
    files = {"a b.txt": "one\n", "ü/x": "", "new\nline": "two"}
    repo = make_repo(tmp_path / "r", files)

    read = await own(repo).read_many("HEAD", [*files, "no such\nfile", "ü"])

    assert read == Texts(files, {})


async def test_a_file_of_more_bytes_than_are_read_is_named_and_not_read(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "r", {"small": "1234", "large": "12345", "folder/x": ""})
    blobs = {path: git(repo, "rev-parse", f"HEAD:{path}") for path in ("small", "large", "folder")}

    by_path = await own(repo).read_many("HEAD", blobs, most=4)
    by_id = await own(repo).read(blobs, most=4)

    assert by_path == by_id == Texts({"small": "1234"}, {"large": 5})


async def test_files_are_not_read_beyond_what_is_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("factory.repo.git._BATCH_MOST", 6)
    repo = make_repo(tmp_path / "r", {"a": "1234", "b": "123", "c": "12"})

    read = await own(repo).read_many("HEAD", ["a", "b", "c"])

    assert read == Texts({"a": "1234", "c": "12"}, {"b": 3})


async def test_a_large_file_takes_no_memory(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "r", {"small": "x"})
    with (repo / "large").open("wb") as file:
        file.truncate(64 << 20)
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "large")
    tracemalloc.start()

    read = await own(repo).read_many("HEAD", ["large", "small"])

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert read == Texts({"small": "x"}, {"large": 64 << 20})
    assert peak < 1 << 20


async def test_a_command_that_prints_more_than_it_may_is_ended(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "r", {"large": "x" * (1 << 20)})

    with pytest.raises(TooMuch) as caught:
        await own(repo).run("show", "HEAD:large", into=Into(1 << 16))

    assert len(caught.value.out) <= 1 << 16
    assert "it printed more than" in str(caught.value)


async def test_a_line_that_is_never_to_be_excluded_is_taken_out_and_the_users_own_stay(
    tmp_path: Path,
) -> None:
    file = tmp_path / "info/exclude"
    file.parent.mkdir()
    file.write_bytes(b"mine\xff\r\n/inbox/\n/inbox/x\n")

    exclude(tmp_path, ["/.inbox/"], never=["/inbox/"])

    assert file.read_bytes() == b"mine\xff\r\n/inbox/x\n/.inbox/\n"
    assert [path.name for path in file.parent.iterdir()] == ["exclude"]


async def test_a_listing_has_every_path(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "r", {"a b.txt": "", "ü/x": ""})

    assert list(await own(repo).listing("HEAD")) == ["a b.txt", "ü/x"]
    assert await own(repo).show("HEAD", "none") is None


async def test_the_listing_of_a_commit_made_here_is_as_git_has_it(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "r", {"a": "", "b/c": "", "b-d": "", "z": ""})
    ours, before = own(repo), (await own(repo).commit("HEAD"))
    await ours.listing(before)
    (repo / "b-d").unlink()
    (repo / "z").write_text("other")
    (repo / "b" / "ä").write_text("new")
    (repo / "a").unlink()
    (repo / "a").symlink_to("z")
    git(repo, "add", "-A")

    made = await ours.commit_tree(
        git(repo, "write-tree").strip(), [before], "m", author=FACTORY, committer=FACTORY
    )

    assert await ours.listing(made) == await own(repo).listing(made)
    assert await ours.links(made) == await own(repo).links(made) == {"a"}
    assert await ours.links(before) == frozenset()
    assert list(await ours.listing(made)) == ["a", "b/c", "b/ä", "z"]


async def test_what_changed_names_modes_and_blobs_on_both_sides(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "r", {"gone": "1", "kept": "2", "tool": "3"})
    (repo / "gone").unlink()
    (repo / "tool").chmod(0o755)
    commit(repo, {"new": "1"})
    one, three = (git(repo, "rev-parse", f"HEAD:{name}") for name in ("new", "tool"))

    changes = await own(repo).changed("HEAD~", "HEAD")

    assert changes == [
        Change("D", "gone", "100644", "", one, ""),
        Change("A", "new", "", "100644", "", one),
        Change("M", "tool", "100644", "100755", three, three),
    ]


async def test_a_commit_is_made_from_a_tree_with_its_author_and_committer(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "r", {"a": ""})

    made = await own(repo).commit_tree(
        "HEAD^{tree}",
        ["HEAD"],
        "Subject\n\nFactory-Unit: u\n",
        author=Person("bot", "b@x"),
        committer=Person("Ü", "u@x"),
    )

    assert git(
        repo, "log", "-1", "--format=%an %ae %cn %ce %s %(trailers:key=Factory-Unit)", made
    ) == ("bot b@x Ü u@x Subject Factory-Unit: u")


async def test_a_name_that_means_no_commit_is_empty_and_no_ancestor(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "r", {"a": ""})

    assert await own(repo).commit("refs/heads/none") == ""
    assert await own(repo).commit("--help") == ""
    assert not await own(repo).contains("HEAD", "1" * 40)


async def test_a_failing_command_says_which_and_why(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "r", {"a": ""})

    with pytest.raises(GitError, match=r"git ls-tree .* ended with 128: fatal"):
        await own(repo).listing("none")


def test_no_git_variable_of_the_caller_gets_through() -> None:
    assert clean_environment({"GIT_DIR": "x", "HOME": "h"}) == {
        "HOME": "h",
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
    }


async def test_what_the_factory_owns_hears_no_configuration_of_the_users(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "r", {"a": ""})
    write(tmp_path, {".gitconfig": "[alias]\n\tx = !echo planted\n"})
    env = user_environment(tmp_path)

    mine, theirs = (Git(git_dir=repo / ".git", own=flag, environ=env) for flag in (True, False))

    assert await theirs.text("x") == "planted"
    with pytest.raises(GitError):
        await mine.text("x")


@pytest.mark.parametrize("proc", [Path("/proc"), Path("/nonexistent")])
async def test_a_git_at_work_is_seen_with_its_arguments(tmp_path: Path, proc: Path) -> None:
    repo = make_repo(tmp_path / "r", {"a": ""})
    child = subprocess.Popen(  # noqa: ASYNC220
        ["git", "cat-file", "--batch"],
        cwd=repo,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    )
    assert child.stdin
    assert child.stdout
    child.stdin.write(b"HEAD\n")
    child.stdout.readline()  # it answers, so it is git already

    seen = await running(environment(), proc)

    child.communicate(b"")
    assert any(
        argv[:3] == ["git", "cat-file", "--batch"] and at in (repo, None) for at, argv in seen
    )


# ── what is asked once ──


async def test_the_tree_of_a_commit_and_a_diff_are_asked_for_once(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "r", {"a": "old\n"})
    first, second = git(repo, "rev-parse", "HEAD"), commit(repo, {"a": "new\n"})
    mine = own(repo)
    asked = await mine.tree(second), await mine.changed(first, second)

    (repo / ".git").rename(tmp_path / "gone")

    assert (await mine.tree(second), await mine.changed(first, second)) == asked
    assert asked[0] == git(tmp_path, "--git-dir=gone", "rev-parse", f"{second}^{{tree}}")
    assert await mine.read_many(second, []) == Texts({}, {})


async def test_a_ref_is_read_from_its_file_or_from_packed_refs(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "r", {"a": ""})
    git(repo, "symbolic-ref", "refs/heads/alias", "refs/heads/main")
    loose = own(repo).read_ref("refs/heads/main")

    git(repo, "pack-refs", "--all")

    assert loose == own(repo).read_ref("refs/heads/main") == git(repo, "rev-parse", "main")
    assert [own(repo).read_ref(f"refs/heads/{name}") for name in ("alias", "none", "ma.n")] == [
        "",
        "",
        "",
    ]


async def test_every_change_of_a_tag_is_seen_in_the_marks(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "r", {"a": ""})
    seen = [own(repo).tag_marks()]
    second = commit(repo, {"a": "b"})

    for argv in (["v1", "HEAD~"], ["deep/er", "HEAD~"], ["-f", "v1", second], ["-d", "deep/er"]):
        git(repo, "tag", *argv)
        seen.append(own(repo).tag_marks())

    assert len(set(seen)) == len(seen)
    assert own(repo).tag_marks() == seen[-1]


def dies_once(folder: Path, locks: str) -> dict[str, str]:
    """An environment whose git, the first time, makes a lock as git does and is killed."""
    (folder / "bin").mkdir()
    real, once = shutil.which("git"), folder / "died"
    script = f'#!/bin/sh\n[ -e {once} ] && exec {real} "$@"\ntouch {once} {locks}\nkill -9 $$\n'
    (folder / "bin/git").write_text(script)
    (folder / "bin/git").chmod(0o755)
    return environment() | {"PATH": f"{folder}/bin:{os.environ['PATH']}"}


@pytest.mark.parametrize(
    ("lock", "argv"),
    [
        ("refs/heads/new.lock", ("update-ref", "refs/heads/new", "HEAD")),
        ("index.lock", ("read-tree", "HEAD")),
        (
            "refs/tags/one.lock",
            ("fetch", "-q", ".", "+refs/tags/*:refs/tags/*", "+refs/heads/main:refs/heads/new"),
        ),
        ("packed-refs.lock", ("pack-refs", "--all")),
    ],
)
async def test_a_command_of_our_own_that_was_killed_is_unlocked_and_run_again(
    lock: str, argv: tuple[str, ...], tmp_path: Path
) -> None:
    repo = make_repo(tmp_path / "r", {"a.txt": "a\n"})
    git(repo, "tag", "one")
    environ = dies_once(tmp_path, str(repo / ".git" / lock))
    ours = Git(
        git_dir=repo / ".git", own=True, environ=environ, work_tree=repo, index=repo / ".git/index"
    )

    done = await ours.run(*argv)

    assert (done.code, (repo / ".git" / lock).exists()) == (0, False)


async def test_a_transaction_of_our_own_that_was_killed_is_unlocked_and_run_again(
    tmp_path: Path,
) -> None:
    repo = make_repo(tmp_path / "r", {"a.txt": "a\n"})
    (repo / ".git/refs/factory").mkdir()
    environ = dies_once(tmp_path, str(repo / ".git/refs/factory/new.lock"))

    await Git(git_dir=repo / ".git", own=True, environ=environ).run(
        "update-ref",
        "--stdin",
        stdin=f"create refs/factory/new {git(repo, 'rev-parse', 'HEAD')}\n".encode(),
    )

    assert git(repo, "rev-parse", "refs/factory/new") == git(repo, "rev-parse", "HEAD")


async def test_a_command_on_the_users_repository_that_was_killed_leaves_their_locks_alone(
    tmp_path: Path,
) -> None:
    repo = make_repo(tmp_path / "r", {"a.txt": "a\n"})
    lock = repo / ".git/refs/heads/new.lock"

    with pytest.raises(GitError, match="ended with -9"):
        await Git(git_dir=repo / ".git", own=False, environ=dies_once(tmp_path, str(lock))).run(
            "update-ref", "refs/heads/new", "HEAD"
        )

    assert lock.exists()


def hangs(tmp_path: Path, lock: Path) -> dict[str, str]:
    """An environment whose git makes a lock and then does nothing for ever."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git").write_text(f"#!/bin/sh\ntouch {lock}\necho busy >&2\nexec sleep 60\n")
    (tmp_path / "bin/git").chmod(0o755)
    return {**environment(), "PATH": f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}"}


async def test_a_command_that_hangs_is_ended_at_its_limit_and_the_error_names_it_and_its_pid(
    tmp_path: Path,
) -> None:
    repo, pids = make_repo(tmp_path / "r", {"a.txt": "a\n"}), list[int]()
    lock = repo / ".git/refs/heads/new.lock"
    environ = hangs(tmp_path, lock)
    ours = Git(git_dir=repo / ".git", own=True, environ=environ)

    with pytest.raises(TooLong) as caught:
        await ours.run("update-ref", "refs/heads/new", "HEAD", seconds=0.3, started=pids.append)

    sentence = f"it took too long, so the factory ended it (pid {pids[0]}). busy"
    assert str(caught.value) == f"git update-ref refs/heads/new HEAD ended with -15: {sentence}"
    assert (lock.exists(), ours.commands.slow) == (False, [])


async def test_a_command_on_the_users_repository_that_hangs_leaves_their_locks_alone(
    tmp_path: Path,
) -> None:
    repo = make_repo(tmp_path / "r", {"a.txt": "a\n"})
    lock = repo / ".git/refs/heads/new.lock"
    users = Git(git_dir=repo / ".git", own=False, environ=hangs(tmp_path, lock))

    done = await users.run(
        "update-ref", "refs/heads/new", "HEAD", seconds=0.3, ok=(-signal.SIGTERM,)
    )

    assert (done.over, lock.exists()) == (True, True)


async def test_a_command_that_was_asked_to_end_and_exits_is_none_that_said_no(
    tmp_path: Path,
) -> None:
    repo = make_repo(tmp_path / "r", {"a.txt": "a\n"})
    environ = hangs(tmp_path, tmp_path / "lock")
    (tmp_path / "bin/git").write_text("#!/bin/sh\ntrap 'exit 1' TERM\nsleep 60 & wait\n")

    with pytest.raises(TooLong):
        await Git(git_dir=repo / ".git", own=True, environ=environ).run(
            "diff", ok=(0, 1), seconds=0.3
        )


async def test_seizing_our_own_ends_what_a_dead_daemons_git_does_there_and_removes_every_lock(
    tmp_path: Path,
) -> None:
    repo = make_repo(tmp_path / "r", {"a.txt": "a\n"})
    ours = own(repo)
    locks = [
        repo / ".git" / name for name in ("refs/heads/main.lock", "packed-refs.lock", "config.lock")
    ]
    survivor = stuck(ours)
    for lock in locks:
        lock.touch()

    await ours.seize()

    assert survivor.wait(10) == -signal.SIGKILL
    assert [lock for lock in locks if lock.exists()] == []


def stuck(ours: Git) -> subprocess.Popen[bytes]:
    """A git on that git dir which a daemon of ours started before it died."""
    environ = {
        "FACTORY_RUN": str(ours.git_dir),
        "PATH": os.environ["PATH"],
        "GIT_DIR": str(ours.git_dir),
    }
    never, _ = os.pipe()
    return subprocess.Popen(["git", "cat-file", "--batch"], stdin=never, env=environ)


def test_a_cache_keeps_the_newest_entries_within_its_bytes_and_at_least_two(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("factory.repo.git.MOST_BYTES", 100)
    known = Recent[str, str](4, len)

    for name, size in (("a", 30), ("b", 30), ("a", 40), ("c", 30)):
        known[name] = name * size
    kept = [*known]
    known["large"] = "x" * 1000
    known["larger"] = "x" * 2000

    assert kept == ["b", "a", "c"]
    assert [*known] == ["large", "larger"]
    known["small"] = "x"
    assert [*known] == ["larger", "small"]


def test_a_cache_without_sizes_keeps_a_number_of_entries() -> None:
    known = Recent[int, int](3)

    for number in range(9):
        known[number] = number

    assert [*known] == [6, 7, 8]
