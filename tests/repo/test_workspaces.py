"""What agents leave behind, what is taken from it, and that the next attempt sees nothing of it."""

import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from factory.child import process
from factory.ground.errors import FactoryError, GitError, TooLong
from factory.repo.benches import Benches
from factory.repo.checkouts import CHECKOUT_S
from factory.repo.git import Git
from factory.repo.meanwhile import OnTrunk
from factory.repo.workspaces import CLAIM, Conflict, Snapshot, Workspace, Workspaces
from tests.git_repo import commit, environment, git, make_repo

FILES = {
    "README.md": "read me\n",
    "src/app.py": "print('app')\n",
    "src/lib/deep.py": "deep = 1\n",
    "tests/test_app.py": "def test(): pass\n",
    ".gitignore": "build/\n*.log\n",
    "with space/ü nicode.txt": "text\n",
}


@dataclass(frozen=True)
class Line:
    root: Path
    user: Path
    own: Git
    base: str
    workspaces: Workspaces
    benches: Benches

    @property
    def aside(self) -> Path:
        return self.root / "attempt"

    async def workspace(self) -> Workspace:
        return await self.workspaces.prepare(self.workspaces.at("w1"), base=self.base)

    async def snapshot(self, workspace: Workspace) -> Snapshot:
        return await self.workspaces.snapshot(workspace, base=self.base, aside=self.aside)

    async def commit(self, files: dict[str, str]) -> str:
        made = commit(self.user, files)
        await self.own.run(
            "fetch",
            "-q",
            str(self.user),
            "+refs/heads/main:refs/heads/main",
            "+refs/tags/*:refs/tags/*",
        )
        return made

    def changes(self, tree: str) -> dict[str, str]:
        """Status letter by path, of a tree against the base."""
        lines = git(
            self.own.git_dir,
            "-c",
            "core.quotePath=false",
            "diff-tree",
            "-r",
            "--name-status",
            self.base,
            tree,
        )
        return {path: status for status, path in (line.split("\t") for line in lines.splitlines())}

    def text(self, tree: str, path: str) -> str:
        return git(self.own.git_dir, "show", f"{tree}:{path}")


def make_repositories(root: Path, files: dict[str, str], *options: str) -> None:
    user = make_repo(root / "user", files, "main", *options)
    git(user, "tag", "v1")
    git(user, "tag", "-a", "v1.1", "-m", "annotated")
    git(root, "clone", "-q", "--bare", "--local", str(user), "own")


def make_line(root: Path) -> Line:
    own = Git(git_dir=root / "own", own=True, environ=environment())
    work, index = root / "work", root / "index"
    workspaces = Workspaces(
        own=own,
        folder=work / "workspaces",
        index_dir=index,
        trunk_branch="main",
        excludes="*.mine\n",
    )
    benches = Benches(
        own=own, folder=work / "benches", index_dir=index, trunk_branch="main", size=2
    )
    return Line(
        root, root / "user", own, git(root / "user", "rev-parse", "HEAD"), workspaces, benches
    )


@pytest.fixture(scope="module")
def seed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("seed")
    make_repositories(root, FILES)
    return root


@pytest.fixture
def line(seed: Path, tmp_path: Path) -> Line:
    shutil.copytree(seed, tmp_path, dirs_exist_ok=True)
    return make_line(tmp_path)


def content(tree: Path) -> dict[str, str]:
    """Every entry below `tree` but its own .git: kind, executable bit and bytes or target."""
    found = {}
    for folder, folders, files in os.walk(tree):
        if Path(folder) == tree:
            folders[:] = [name for name in folders if name != ".git"]
        links = [name for name in folders if Path(folder, name).is_symlink()]
        for name in [*files, *links]:
            path = Path(folder, name)
            key = str(path.relative_to(tree))
            if path.is_symlink():
                found[key] = f"link {path.readlink()}"
            elif path.is_file():
                found[key] = f"file {bool(path.stat().st_mode & 0o100)} {path.read_text()}"
            else:
                found[key] = "special"
    return found


FRESH = {path: f"file False {text}" for path, text in FILES.items()}


# What agents do to a tree. Each is followed by a snapshot, and by a reset that must leave no trace.


def commits_by_itself(tree: Path) -> None:
    (tree / "src/app.py").write_text("committed\n")
    git(tree, "commit", "-qam", "mine")


def switches_branch(tree: Path) -> None:
    git(tree, "checkout", "-q", "-b", "elsewhere")
    commit(tree, {"new.py": "new\n"})
    git(tree, "branch", "-f", "main", "HEAD")


def leaves_a_rebase_in_progress(tree: Path) -> None:
    commit(tree, {"README.md": "one\n"})
    git(tree, "checkout", "-q", "-b", "side", "HEAD^")
    commit(tree, {"README.md": "two\n"})
    git(tree, "rebase", "@{-1}", ok=False)
    assert (tree / ".git/rebase-merge").is_dir()


def deletes_its_git_dir(tree: Path) -> None:
    shutil.rmtree(tree / ".git")


def deletes_its_files(tree: Path) -> None:
    for path in tree.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def deletes_its_workspace(tree: Path) -> None:
    shutil.rmtree(tree)


def deletes_all_of_its_place(tree: Path) -> None:
    shutil.rmtree(tree.parent)


def replaces_its_workspace_by_a_link(tree: Path) -> None:
    target = tree.parent.parent / "target"
    tree.rename(target)
    tree.symlink_to(target)


def replaces_its_place_by_a_link(tree: Path) -> None:
    target = tree.parent.parent / "target"
    tree.parent.rename(target)
    tree.parent.symlink_to(target)


def replaces_its_workspace_by_a_file(tree: Path) -> None:
    shutil.rmtree(tree)
    tree.write_text("file")


def replaces_its_git_dir_by_a_link(tree: Path) -> None:
    target = tree.parent / "elsewhere"
    (tree / ".git").rename(target)
    (tree / ".git").symlink_to(target)


def replaces_its_git_dir_by_a_file(tree: Path) -> None:
    target = tree.parent / "elsewhere"
    (tree / ".git").rename(target)
    (tree / ".git").write_text(f"gitdir: {target}\n")


def plants_programs_in_its_git_dir(tree: Path) -> None:
    trap = tree.parent.parent / "trap.sh"
    trap.write_text(f"#!/bin/sh\ntouch {trap}.sprung\ncat\n")
    trap.chmod(0o755)
    for key in (
        "core.fsmonitor",
        "filter.evil.clean",
        "filter.evil.smudge",
        "core.editor",
        "diff.external",
    ):
        git(tree, "config", key, str(trap))
    for hook in ("post-checkout", "pre-commit", "post-index-change", "reference-transaction"):
        (tree / ".git/hooks").mkdir(exist_ok=True)
        (tree / ".git/hooks" / hook).symlink_to(trap)
    (tree / ".git/objects/info/alternates").write_text(str(tree.parent))
    (tree / ".git/info/attributes").write_text("* filter=evil\n")
    (tree / ".gitattributes").write_text("* filter=evil\n")


def makes_a_repository_with_commits(tree: Path) -> None:
    make_repo(tree / "nested", {"inner.py": "inner\n", "more/even.py": "even\n"})


def makes_an_empty_repository(tree: Path) -> None:
    (tree / "nested").mkdir()
    git(tree / "nested", "init", "-q")
    (tree / "nested/inner.py").write_text("inner\n")


def makes_a_repository_in_a_repository(tree: Path) -> None:
    make_repo(make_repo(tree / "nested", {"inner.py": "inner\n"}) / "again", {"more.py": "more\n"})


def makes_a_repository_of_a_tracked_folder(tree: Path) -> None:
    make_repo(tree / "src", {"extra.py": "extra\n"})


def makes_a_repository_of_a_tracked_file(tree: Path) -> None:
    (tree / "README.md").unlink()
    make_repo(tree / "README.md", {"inner.py": "inner\n"})


def adds_a_submodule(tree: Path) -> None:
    source = make_repo(tree.parent / "source", {"inner.py": "inner\n"})
    git(
        tree,
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        str(source),
        "nested",
    )


def makes_unreadable_things(tree: Path) -> None:
    (tree / "closed").mkdir()
    (tree / "closed/file.py").write_text("closed\n")
    (tree / "closed/file.py").chmod(0)
    (tree / "src/app.py").chmod(0)
    (tree / "closed").chmod(0)
    (tree / "src").chmod(0o555)


def closes_its_place(tree: Path) -> None:
    tree.chmod(0)
    tree.parent.chmod(0)


def makes_fifos_and_sockets(tree: Path) -> None:
    os.mkfifo(tree / "src/fifo")
    os.mkfifo(tree / "src/.gitignore")
    (tree / "README.md").unlink()
    os.mkfifo(tree / "README.md")
    here = Path.cwd()
    os.chdir(tree)  # a socket's name is short
    try:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind("socket")
    finally:
        os.chdir(here)


def hides_a_fifo_and_a_repository_among_dependencies(tree: Path) -> None:
    with (tree / ".gitignore").open("a") as ignore:
        ignore.write("!node_modules/\n")
    make_repo(tree / "node_modules/dep", {"inner.js": "inner\n"})
    os.mkfifo(tree / "node_modules/.gitignore")


def makes_odd_names(tree: Path) -> None:
    for name in (
        "n" * 255,
        "späce ü 中",
        "new\nline",
        "*star?[a]",
        " lead",
        "trail ",
        "App.py",
        "app.PY",
        "-dash",
        "a\\b",
    ):
        (tree / name).write_text("odd\n")
    Path(os.fsdecode(os.fsencode(tree) + b"/latin\xe9")).write_text("odd\n")


def makes_names_that_pass_for_git_dirs(tree: Path) -> None:
    (tree / "src/.GIT").mkdir()
    (tree / "src/.GIT/config").write_text("[core]\n")
    (tree / "git~1").write_text("no\n")
    (tree / ".GIT").mkdir()
    (tree / ".GIT/x").write_text("no\n")


def makes_a_folder_deeper_than_a_path_is_long(tree: Path) -> None:
    here = os.open(tree, os.O_RDONLY)
    for _ in range(120):
        os.mkdir("d" * 40, dir_fd=here)
        inner = os.open("d" * 40, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)


def makes_binary_executables_and_links(tree: Path) -> None:
    (tree / "blob.bin").write_bytes(bytes(range(128)) * 100)
    (tree / "src/app.py").chmod(0o755)
    (tree / "out").symlink_to("/etc")
    (tree / "dangling").symlink_to("nowhere")


def moves_a_tracked_folder_and_links_to_it(tree: Path) -> None:
    (tree / "build").mkdir()
    (tree / "src").rename(tree / "build/src")
    (tree / "src").symlink_to("build/src")


def swaps_files_and_folders(tree: Path) -> None:
    shutil.rmtree(tree / "src")
    (tree / "src").write_text("file\n")
    (tree / "README.md").unlink()
    (tree / "README.md").mkdir()
    (tree / "README.md/inside").write_text("inside\n")


def hides_files_by_ignoring_them(tree: Path) -> None:
    (tree / ".gitignore").write_text("*.secret\n")
    (tree / "hidden.secret").write_text("hidden\n")
    (tree / ".git/info/exclude").write_text("*.planted\n")
    (tree / "hidden.planted").write_text("planted\n")


def breaks_git_by_attributes(tree: Path) -> None:
    (tree / ".gitattributes").write_text("*.txt working-tree-encoding=UTF-16\n")
    (tree / "bad.txt").write_bytes(b"odd")
    (tree / ".git/index.lock").touch()


def links_its_ignore_files(tree: Path) -> None:
    (tree / ".gitignore").unlink()
    (tree / ".gitignore").symlink_to("/etc/passwd")
    (tree / ".gitattributes").symlink_to("/etc/passwd")


VANDALS: list[Callable[[Path], None]] = [
    commits_by_itself,
    switches_branch,
    leaves_a_rebase_in_progress,
    deletes_its_git_dir,
    deletes_its_files,
    deletes_its_workspace,
    deletes_all_of_its_place,
    replaces_its_workspace_by_a_link,
    replaces_its_place_by_a_link,
    replaces_its_workspace_by_a_file,
    replaces_its_git_dir_by_a_link,
    replaces_its_git_dir_by_a_file,
    plants_programs_in_its_git_dir,
    makes_a_repository_with_commits,
    makes_an_empty_repository,
    makes_a_repository_in_a_repository,
    makes_a_repository_of_a_tracked_folder,
    makes_a_repository_of_a_tracked_file,
    adds_a_submodule,
    makes_unreadable_things,
    closes_its_place,
    makes_fifos_and_sockets,
    hides_a_fifo_and_a_repository_among_dependencies,
    makes_odd_names,
    makes_names_that_pass_for_git_dirs,
    makes_a_folder_deeper_than_a_path_is_long,
    makes_binary_executables_and_links,
    moves_a_tracked_folder_and_links_to_it,
    swaps_files_and_folders,
    hides_files_by_ignoring_them,
    breaks_git_by_attributes,
    links_its_ignore_files,
]


def ids(vandal: Callable[[Path], None]) -> str:
    return vandal.__name__


@pytest.mark.parametrize("vandal", VANDALS, ids=ids)
async def test_nothing_of_what_an_agent_left_reaches_the_next_attempt(
    line: Line, vandal: Callable[[Path], None]
) -> None:
    workspace = await line.workspace()
    refs = git(line.own.git_dir, "for-each-ref")
    vandal(workspace.tree)
    await line.snapshot(workspace)

    again = await line.workspace()

    assert content(again.tree) == FRESH
    assert git(again.tree, "status", "--porcelain") == ""
    assert git(again.tree, "rev-parse", "HEAD", "main") == f"{line.base}\n{line.base}"
    assert git(line.own.git_dir, "for-each-ref") == refs
    assert not (line.root / "work/workspaces/trap.sh.sprung").exists()
    assert [path.name for path in (line.root / "work/workspaces").glob("*.abandoned-*")] == []


async def test_a_pipe_in_the_place_of_a_claim_is_no_claim_and_is_not_waited_for(line: Line) -> None:
    place = line.workspaces.place("w1")
    place.mkdir(parents=True, exist_ok=True)
    os.mkfifo(place / CLAIM)

    assert line.workspaces.claimed_by("w1") == ""


async def test_a_reset_without_a_snapshot_leaves_nothing_either(line: Line) -> None:
    workspace = await line.workspace()
    moves_a_tracked_folder_and_links_to_it(workspace.tree)

    again = await line.workspace()

    assert content(again.tree) == FRESH
    assert git(again.tree, "status", "--porcelain") == ""


@pytest.mark.parametrize("vandal", VANDALS, ids=ids)
async def test_nothing_of_what_gates_left_on_a_bench_reaches_the_next(
    line: Line, vandal: Callable[[Path], None]
) -> None:
    async with line.benches.take() as bench:
        await bench.show(line.base)
        vandal(bench.tree)

        await bench.show(line.base)

        assert content(bench.tree) == FRESH
        assert git(bench.tree, "status", "--porcelain", "--ignored") == ""
        assert git(bench.tree, "describe", "--tags", "--exact-match") == "v1.1"


CHANGES: list[tuple[Callable[[Path], None], dict[str, str]]] = [
    (commits_by_itself, {"src/app.py": "M"}),
    (switches_branch, {"new.py": "A"}),
    (deletes_its_git_dir, {}),
    (deletes_its_files, dict.fromkeys(FILES, "D")),
    (replaces_its_git_dir_by_a_link, {}),
    (replaces_its_git_dir_by_a_file, {}),
    (plants_programs_in_its_git_dir, {".gitattributes": "A"}),
    (makes_a_repository_with_commits, {"nested/inner.py": "A", "nested/more/even.py": "A"}),
    (makes_an_empty_repository, {"nested/inner.py": "A"}),
    (makes_a_repository_in_a_repository, {"nested/inner.py": "A", "nested/again/more.py": "A"}),
    (makes_a_repository_of_a_tracked_folder, {"src/extra.py": "A"}),
    (makes_a_repository_of_a_tracked_file, {"README.md": "D", "README.md/inner.py": "A"}),
    (adds_a_submodule, {".gitmodules": "A", "nested/inner.py": "A"}),
    (makes_unreadable_things, {"closed/file.py": "A"}),
    (closes_its_place, {}),
    (makes_fifos_and_sockets, {"README.md": "D"}),
    (
        hides_a_fifo_and_a_repository_among_dependencies,
        {".gitignore": "M", "node_modules/dep/inner.js": "A"},
    ),
    (
        makes_binary_executables_and_links,
        {"blob.bin": "A", "dangling": "A", "out": "A", "src/app.py": "M"},
    ),
    (
        swaps_files_and_folders,
        {
            "src": "A",
            "src/app.py": "D",
            "src/lib/deep.py": "D",
            "README.md": "D",
            "README.md/inside": "A",
        },
    ),
    (
        moves_a_tracked_folder_and_links_to_it,
        {"src": "A", "src/app.py": "D", "src/lib/deep.py": "D"},
    ),
    (hides_files_by_ignoring_them, {".gitignore": "M", "hidden.planted": "A"}),
    (breaks_git_by_attributes, {".gitattributes": "A", "bad.txt": "A"}),
    (links_its_ignore_files, {".gitattributes": "A", ".gitignore": "T"}),
]


@pytest.mark.parametrize(
    ("vandal", "expected"), CHANGES, ids=lambda value: getattr(value, "__name__", "")
)
async def test_a_snapshot_is_what_the_tree_shows(
    line: Line, vandal: Callable[[Path], None], expected: dict[str, str]
) -> None:
    workspace = await line.workspace()
    vandal(workspace.tree)

    snapshot = await line.snapshot(workspace)

    assert line.changes(snapshot.tree) == expected
    assert snapshot.changed == bool(expected)
    assert not snapshot.gone


@pytest.mark.parametrize(
    "vandal",
    [
        deletes_its_workspace,
        deletes_all_of_its_place,
        replaces_its_workspace_by_a_link,
        replaces_its_place_by_a_link,
        replaces_its_workspace_by_a_file,
    ],
    ids=ids,
)
async def test_a_workspace_that_is_gone_is_said_and_counts_as_unchanged(
    line: Line, vandal: Callable[[Path], None]
) -> None:
    workspace = await line.workspace()
    (workspace.tree / "src/app.py").write_text("elsewhere\n")
    vandal(workspace.tree)

    snapshot = await line.snapshot(workspace)

    base_tree = git(line.own.git_dir, "rev-parse", f"{line.base}^{{tree}}")
    assert snapshot == Snapshot(tree=base_tree, changed=False, gone=True)


async def test_what_is_behind_a_link_is_not_cleaned(line: Line) -> None:
    workspace = await line.workspace()
    outside = line.root / "outside"
    shutil.copytree(workspace.tree, outside)
    (outside / "precious").write_text("precious\n")
    shutil.rmtree(workspace.tree)
    workspace.tree.symlink_to(outside)

    await line.workspace()

    assert (outside / "precious").read_text() == "precious\n"
    assert not workspace.tree.is_symlink()


async def test_an_untouched_workspace_is_no_change(line: Line) -> None:
    workspace = await line.workspace()

    snapshot = await line.snapshot(workspace)

    assert not snapshot.changed


async def test_the_git_dirs_of_nested_repositories_are_kept_with_the_attempt(line: Line) -> None:
    workspace = await line.workspace()
    makes_a_repository_in_a_repository(workspace.tree)

    snapshot = await line.snapshot(workspace)

    assert snapshot.nested == ("nested", "nested/again")
    kept = sorted((line.aside / "nested").iterdir(), key=lambda path: path.name.partition("-")[2])
    assert [git(path, "log", "--format=%s") for path in kept] == ["start", "start"]


async def test_an_ignored_repository_is_left_where_it_is(line: Line) -> None:
    workspace = await line.workspace()
    make_repo(workspace.tree / "build/vendored", {"inner.py": "inner\n"})

    snapshot = await line.snapshot(workspace)

    assert (snapshot.changed, snapshot.nested) == (False, ())
    assert (workspace.tree / "build/vendored/.git").is_dir()


async def test_a_submodule_of_trunk_stays_one(line: Line) -> None:
    source = make_repo(line.root / "source", {"inner.py": "inner\n"})
    git(
        line.user,
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        str(source),
        "sub",
    )
    base = await line.commit({})
    workspace = await line.workspaces.prepare(line.workspaces.at("w1"), base=base)
    empty = await line.workspaces.snapshot(workspace, base=base, aside=line.aside)
    git(
        workspace.tree,
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "update",
        "--init",
    )

    filled = await line.workspaces.snapshot(workspace, base=base, aside=line.aside)
    again = await line.workspaces.prepare(line.workspaces.at("w1"), base=base)

    assert (empty.changed, filled.changed, filled.nested) == (False, False, ())
    assert list((again.tree / "sub").iterdir()) == []


async def test_in_a_submodule_that_the_agent_populates_nothing_of_its_runs(line: Line) -> None:
    source = make_repo(
        line.root / "source", {"inner.py": "inner\n", ".gitattributes": "*.py filter=trap\n"}
    )
    git(
        line.user,
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        str(source),
        "sub",
    )
    base = await line.commit({})
    workspace = await line.workspaces.prepare(line.workspaces.at("w1"), base=base)
    sub = workspace.tree / "sub"
    git(workspace.tree, "clone", "--quiet", str(source), str(sub))
    for key in ("core.fsmonitor", "filter.trap.clean"):
        git(sub, "config", key, f"touch {line.root}/sprung; cat")
    (sub / "inner.py").write_text("other\n")

    same = await line.workspaces.snapshot(workspace, base=base, aside=line.aside)
    sprung = (line.root / "sprung").exists()
    git(sub, "commit", "-qam", "more")
    moved = await line.workspaces.snapshot(workspace, base=base, aside=line.aside)

    assert not sprung
    assert not same.changed
    assert git(line.own.git_dir, "ls-tree", "--object-only", moved.tree, "sub") == git(
        sub, "rev-parse", "HEAD"
    )


async def test_odd_names_arrive_byte_for_byte(line: Line) -> None:
    workspace = await line.workspace()
    makes_odd_names(workspace.tree)
    made = {os.fsencode(path.name) for path in workspace.tree.iterdir()} - {b".git"}

    snapshot = await line.snapshot(workspace)

    names = subprocess.run(
        ["git", "ls-tree", "-z", "--name-only", snapshot.tree],
        cwd=line.own.git_dir,
        env=environment(),
        check=True,
        capture_output=True,
    ).stdout
    assert set(names.rstrip(b"\0").split(b"\0")) == made


async def test_modes_bytes_and_links_arrive(line: Line) -> None:
    workspace = await line.workspace()
    makes_binary_executables_and_links(workspace.tree)

    snapshot = await line.snapshot(workspace)

    listing = git(line.own.git_dir, "ls-tree", "-r", snapshot.tree).splitlines()
    modes = {entry.partition("\t")[2]: entry[:6] for entry in listing}
    assert (modes["blob.bin"], modes["out"], modes["src/app.py"]) == ("100644", "120000", "100755")
    assert line.text(snapshot.tree, "out") == "/etc"


@pytest.mark.parametrize(
    ("vandal", "word", "missed"),
    [
        (makes_names_that_pass_for_git_dirs, "git~1", (".GIT/x", "git~1", "src/.GIT")),
        (makes_a_folder_deeper_than_a_path_is_long, "warning", ()),
        (links_its_ignore_files, ".gitignore", ()),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_what_git_cannot_take_is_said(
    line: Line, vandal: Callable[[Path], None], word: str, missed: tuple[str, ...]
) -> None:
    workspace = await line.workspace()
    (workspace.tree / "fine.py").write_text("fine\n")
    vandal(workspace.tree)

    snapshot = await line.snapshot(workspace)
    await line.workspace()  # pytest itself cannot delete a tree that deep

    assert word in snapshot.left_out
    assert snapshot.missed == missed
    assert line.changes(snapshot.tree)["fine.py"] == "A"


async def test_what_tools_and_setup_made_stays_out(line: Line) -> None:
    workspace = await line.workspaces.prepare(
        line.workspaces.at("w1", keeps=("generated", "we[i]rd")), base=line.base
    )
    for path in (
        "node_modules/a/x.js",
        "src/__pycache__/x.pyc",
        "p.egg-info/x",
        "generated/x",
        "we[i]rd/x",
        "n.mine",
        "a.log",
    ):
        (workspace.tree / path).parent.mkdir(parents=True, exist_ok=True)
        (workspace.tree / path).write_text("made\n")

    snapshot = await line.snapshot(workspace)
    keeps = ("generated", "we[i]rd")
    again = await line.workspaces.prepare(
        line.workspaces.at("w1", keeps=keeps), base=line.base, spares=None
    )
    warm = content(again.tree)
    again = await line.workspaces.prepare(
        line.workspaces.at("w1", keeps=keeps), base=line.base, spares=("we[i]rd",)
    )

    assert not snapshot.changed
    assert {"generated/x", "we[i]rd/x", "node_modules/a/x.js", "a.log"} <= warm.keys()
    assert content(again.tree) == FRESH | {"we[i]rd/x": "file False made\n"}
    assert git(again.tree, "status", "--porcelain") == ""


async def test_a_shipped_name_that_trunk_tracks_something_in_is_not_left_out(line: Line) -> None:
    base = await line.commit({"examples/node_modules/[x] y/a.js": "a\n"})
    workspace = await line.workspaces.prepare(line.workspaces.at("w1"), base=base)
    for path in ("examples/node_modules/[x] y/b.js", "node_modules/c.js"):
        (workspace.tree / path).parent.mkdir(parents=True, exist_ok=True)
        (workspace.tree / path).write_text("made\n")

    snapshot = await line.workspaces.snapshot(workspace, base=base, aside=line.aside)

    assert (
        git(line.own.git_dir, "diff-tree", "-r", "--name-only", base, snapshot.tree)
        == "examples/node_modules/[x] y/b.js"
    )


async def test_the_same_name_moves_on_to_a_new_base(line: Line) -> None:
    await line.workspace()
    base = await line.commit({"src/app.py": "moved on\n", "new/file.py": "new\n"})

    workspace = await line.workspaces.prepare(line.workspaces.at("w1"), base=base)

    assert content(workspace.tree)["src/app.py"] == "file False moved on\n"
    assert (
        git(workspace.tree, "rev-parse", "HEAD", "main", "v1^{commit}")
        == f"{base}\n{base}\n{line.base}"
    )


async def test_an_agent_can_use_git_and_the_factory_repository_does_not_notice(line: Line) -> None:
    workspace = await line.workspace()
    objects = git(line.own.git_dir, "count-objects", "-v")

    (workspace.tree / "new.py").write_text("new\n")
    git(workspace.tree, "add", "-A")
    git(workspace.tree, "stash")
    git(workspace.tree, "stash", "pop")
    git(workspace.tree, "-c", "user.useConfigOnly=true", "commit", "-qm", "mine")
    git(workspace.tree, "gc", "-q", "--prune=now")

    assert git(workspace.tree, "log", "--format=%s") == "mine\nstart"
    assert git(line.own.git_dir, "count-objects", "-v") == objects


async def test_carried_work_is_uncommitted_on_the_newest_base(line: Line) -> None:
    workspace = await line.workspace()
    (workspace.tree / "src/app.py").write_text("mine\n")
    (workspace.tree / "new.py").write_text("new\n")
    first = await line.snapshot(workspace)
    kept = await line.workspaces.keep(
        "fix", 1, tree=first.tree, base=line.base, message="attempt 1"
    )
    base = await line.commit({"README.md": "theirs\n"})

    tree = await line.workspaces.carry(kept, onto=base, diff=line.root / "old.diff")
    assert isinstance(tree, str)
    workspace = await line.workspaces.prepare(line.workspaces.at("w1"), base=base, tree=tree)
    second = await line.workspaces.snapshot(workspace, base=base, aside=line.aside)

    assert git(workspace.tree, "status", "--porcelain") == " M src/app.py\n?? new.py"
    assert git(workspace.tree, "rev-parse", "HEAD") == base
    assert second.tree == tree
    assert line.text(tree, "README.md") == "theirs"


async def test_work_that_does_not_merge_is_a_conflict_with_the_old_diff_in_a_file(
    line: Line,
) -> None:
    workspace = await line.workspace()
    (workspace.tree / "README.md").write_text("mine\n")
    first = await line.snapshot(workspace)
    kept = await line.workspaces.keep(
        "fix", 1, tree=first.tree, base=line.base, message="attempt 1"
    )
    base = await line.commit({"README.md": "theirs\n"})

    outcome = await line.workspaces.carry(kept, onto=base, diff=line.root / "attempt" / "old.diff")

    old = line.root / "attempt" / "old.diff"
    others = (OnTrunk(base, "", "change"),)
    assert outcome == Conflict(("README.md",), old, intent="change", changers=others)
    assert "+mine" in old.read_text()


async def test_an_old_diff_that_is_too_long_gives_the_names_and_where_it_can_be_read(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("factory.repo.workspaces.DIFF_MOST", 10_000)
    workspace = await line.workspace()
    (workspace.tree / "README.md").write_text("mine\n")
    (workspace.tree / "long").write_text("".join(f"line {number}\n" for number in range(2000)))
    first = await line.snapshot(workspace)
    kept = await line.workspaces.keep(
        "fix", 1, tree=first.tree, base=line.base, message="attempt 1"
    )
    base = await line.commit({"README.md": "theirs\n"})

    outcome = await line.workspaces.carry(kept, onto=base, diff=line.root / "attempt" / "old.diff")

    assert isinstance(outcome, Conflict)
    said = f"The diff is too long: git show {kept}. It changed:\n\nM\tREADME.md\nA\tlong\n"
    assert (line.root / "attempt" / "old.diff").read_text() == said


async def test_a_git_that_takes_too_long_is_no_fault_of_the_tree_which_stays(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = await line.workspace()
    (workspace.tree / "build").mkdir()
    (workspace.tree / "build/kept").write_text("warm\n")
    run, tried = Git.run, list[float]()

    async def hangs(self: Git, *argv: str, seconds: float = 0, **more: Any) -> process.Output:
        if argv[0] == "read-tree":
            tried.append(seconds)
            raise TooLong(argv, -15, "it took too long")
        return await run(self, *argv, seconds=seconds, **more)

    monkeypatch.setattr(Git, "run", hangs)
    with pytest.raises(TooLong):
        await line.workspace()

    assert tried == [CHECKOUT_S]
    assert (workspace.tree / "build/kept").exists()


async def test_a_kept_attempt_is_a_ref_on_its_base(line: Line) -> None:
    tree = git(line.own.git_dir, "rev-parse", f"{line.base}^{{tree}}")

    kept = await line.workspaces.keep(
        "fix", 3, tree=tree, base=line.base, message="subject\n\nbody\n"
    )

    assert git(line.own.git_dir, "rev-parse", "refs/factory/attempts/fix/3") == kept
    assert (
        git(line.own.git_dir, "log", "-1", "--format=%P %T %an %s") == f" {tree} Ada Tester start"
    )
    assert (
        git(line.own.git_dir, "log", "-1", "--format=%P %T %an %s", kept)
        == f"{line.base} {tree} factoryd subject"
    )


async def test_a_tree_that_is_kept_again_is_the_same_commit(line: Line) -> None:
    tree = git(line.own.git_dir, "rev-parse", f"{line.base}^{{tree}}")
    kept = await line.workspaces.keep("fix", 3, tree=tree, base=line.base, message="first")

    again = await line.workspaces.keep("fix", 3, tree=tree, base=line.base, message="second")

    assert again == kept


@pytest.mark.parametrize("packed", [False, True])
async def test_a_ref_that_keeps_work_is_never_overwritten_both_trees_are_kept(
    line: Line, packed: bool
) -> None:
    workspace = await line.workspace()
    (workspace.tree / "new.py").write_text("work\n")
    work = (await line.snapshot(workspace)).tree
    nothing = git(line.own.git_dir, "rev-parse", f"{line.base}^{{tree}}")
    first = await line.workspaces.keep("fix", 3, tree=work, base=line.base, message="work")
    if packed:
        git(line.own.git_dir, "pack-refs", "--all")

    second = await line.workspaces.keep("fix", 3, tree=nothing, base=line.base, message="gone")
    third = await line.workspaces.keep("fix", 3, tree=work, base=second, message="on another base")

    refs = git(
        line.own.git_dir, "for-each-ref", "--format=%(refname) %(objectname)", "refs/factory"
    ).splitlines()
    ref = "refs/factory/attempts/fix/3"
    assert sorted(refs) == sorted(
        [f"{ref} {third}", f"{ref}-{first[:12]} {first}", f"{ref}-{second[:12]} {second}"]
    )


async def test_the_same_tree_of_another_attempt_is_another_commit(line: Line) -> None:
    tree = git(line.own.git_dir, "rev-parse", f"{line.base}^{{tree}}")
    first = await line.workspaces.keep(
        "fix", 3, tree=tree, base=line.base, message="m\n\nFactory-Run: one\n"
    )

    second = await line.workspaces.keep(
        "fix", 3, tree=tree, base=line.base, message="m\n\nFactory-Run: two\n"
    )

    assert await line.workspaces.kept("fix", 3, nonce="two") == second != first
    assert await line.workspaces.kept("fix", 3, nonce="one") == ""
    assert git(line.own.git_dir, "rev-parse", f"refs/factory/attempts/fix/3-{first[:12]}") == first


async def test_two_that_keep_the_same_attempt_at_once_lose_nothing(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = await line.workspace()
    (workspace.tree / "new.py").write_text("work\n")
    work = (await line.snapshot(workspace)).tree
    nothing = git(line.own.git_dir, "rev-parse", f"{line.base}^{{tree}}")
    commit = Workspaces.commit

    async def meanwhile(self: Workspaces, tree: str, *, base: str, message: str) -> str:
        made = await commit(self, tree, base=base, message=message)
        monkeypatch.undo()
        await self.keep("fix", 3, tree=work, base=base, message="the other one's")
        return made

    monkeypatch.setattr(Workspaces, "commit", meanwhile)
    with pytest.raises(GitError, match="update-ref"):
        await line.workspaces.keep("fix", 3, tree=nothing, base=line.base, message="m")

    assert git(line.own.git_dir, "rev-parse", "refs/factory/attempts/fix/3^{tree}") == work


async def test_a_resumed_session_finds_its_own_git_dir(line: Line) -> None:
    workspace = await line.workspace()
    commits_by_itself(workspace.tree)
    before = git(workspace.tree, "rev-parse", "HEAD")
    snapshot = await line.snapshot(workspace)

    await line.workspaces.prepare(
        line.workspaces.at("w1"), base=line.base, tree=snapshot.tree, renew_git=False
    )

    assert git(workspace.tree, "rev-parse", "HEAD") == before
    assert git(workspace.tree, "status", "--porcelain") == ""


async def test_a_resumed_session_that_closed_its_folder_finds_it_open_again(line: Line) -> None:
    workspace = await line.workspace()
    closes_its_place(workspace.tree)

    await line.workspaces.prepare(line.workspaces.at("w1"), base=line.base, renew_git=False)

    assert content(workspace.tree) == FRESH


async def test_a_resumed_session_without_a_git_dir_gets_one_at_its_base(line: Line) -> None:
    workspace = await line.workspace()
    (workspace.tree / "src/app.py").write_text("mine\n")
    snapshot = await line.snapshot(workspace)
    deletes_its_git_dir(workspace.tree)

    await line.workspaces.prepare(
        line.workspaces.at("w1"), base=line.base, tree=snapshot.tree, renew_git=False
    )

    assert git(workspace.tree, "rev-parse", "HEAD") == line.base
    assert git(workspace.tree, "status", "--porcelain") == " M src/app.py"


@pytest.mark.parametrize("damage", [b"", b"garbage", None])
async def test_a_damaged_or_missing_index_costs_time_and_nothing_else(
    line: Line, damage: bytes | None
) -> None:
    workspace = await line.workspace()
    index = line.root / "index/workspaces-w1"
    (workspace.tree / "src/app.py").write_text("mine\n")
    index.unlink() if damage is None else index.write_bytes(damage)
    Path(f"{index}.lock").touch()

    snapshot = await line.snapshot(workspace)
    if damage is not None:
        index.write_bytes(damage)
    Path(f"{index}.lock").touch()
    await line.workspace()

    assert line.changes(snapshot.tree) == {"src/app.py": "M"}
    assert content(workspace.tree) == FRESH


async def test_an_unknown_base_is_an_error_and_not_an_endless_attempt(line: Line) -> None:
    with pytest.raises((FactoryError, GitError)):
        await line.workspaces.prepare(line.workspaces.at("w1"), base="0" * 39 + "1")


async def test_a_folder_that_cannot_be_written_is_said(line: Line) -> None:
    (line.root / "work").mkdir()
    (line.root / "work/workspaces").write_text("in the way")

    with pytest.raises(OSError, match="workspaces"):
        await line.workspace()


async def test_an_abandoned_workspace_is_snapshotted_and_never_used_again(line: Line) -> None:
    workspace = await line.workspace()
    (workspace.tree / "late.py").write_text("late\n")

    aside = line.workspaces.abandon("w1")
    snapshot = await line.snapshot(line.workspaces.at(aside.name))
    again = await line.workspace()

    assert line.changes(snapshot.tree) == {"late.py": "A"}
    assert content(again.tree) == FRESH


async def test_the_workspace_of_an_attempt_is_found_where_it_was_put_aside(line: Line) -> None:
    await line.workspaces.prepare(line.workspaces.at("w1"), base=line.base, nonce="mine")
    assert line.workspaces.where("w1", "mine") == "w1"
    aside = line.workspaces.abandon("w1")
    assert line.workspaces.where("w1", "mine") == aside.name

    await line.workspaces.prepare(line.workspaces.at("w1"), base=line.base, nonce="theirs")

    assert line.workspaces.where("w1", "mine") == aside.name
    assert [line.workspaces.where("w1", nonce) for nonce in ("theirs", "nobody's", "")] == [
        "w1",
        "w1",
        "w1",
    ]


async def test_a_repository_of_sha256_works_as_any_other(tmp_path: Path) -> None:
    make_repositories(tmp_path, FILES, "--object-format=sha256")
    line = make_line(tmp_path)
    workspace = await line.workspace()
    makes_a_repository_of_a_tracked_folder(workspace.tree)
    breaks_git_by_attributes(workspace.tree)

    snapshot = await line.snapshot(workspace)
    again = await line.workspace()

    assert len(snapshot.tree) == 64
    assert line.changes(snapshot.tree) == {
        ".gitattributes": "A",
        "bad.txt": "A",
        "src/extra.py": "A",
    }
    assert git(again.tree, "status", "--porcelain") == ""
    assert git(again.tree, "rev-parse", "HEAD") == line.base


async def test_a_shallow_repository_has_a_log_that_ends_where_it_does(line: Line) -> None:
    await line.commit({"README.md": "two\n"})
    git(line.root, "clone", "-q", "--bare", "--depth=1", f"file://{line.user}", "shallow")
    own = Git(git_dir=line.root / "shallow", own=True, environ=environment())
    workspaces = Workspaces(
        own=own, folder=line.root / "w", index_dir=line.root / "i", trunk_branch="main"
    )

    workspace = await workspaces.prepare(
        workspaces.at("w1"), base=git(line.user, "rev-parse", "HEAD")
    )

    assert git(workspace.tree, "log", "--format=%s") == "change"


async def test_line_ends_that_attributes_would_change_do_not_make_a_fresh_tree_differ(
    line: Line,
) -> None:
    crlf = git(line.user, "hash-object", "-w", "--no-filters", str(_crlf(line.root)))
    git(line.user, "update-index", "--add", "--cacheinfo", f"100644,{crlf},crlf.txt")
    git(line.user, "commit", "-qm", "crlf")
    (line.user / ".gitattributes").write_text("* text=auto\n")
    git(line.user, "add", ".gitattributes")
    git(line.user, "commit", "-qm", "attributes")
    git(line.user, "reset", "-q", "--hard")
    base = await line.commit({".gitattributes": "* text=auto\n", "other.txt": "x\n"})
    await line.workspaces.prepare(line.workspaces.at("w1"), base=base)
    marker = line.workspaces.place("w1") / "tree/build/warm"
    marker.parent.mkdir()
    marker.touch()

    await line.workspaces.prepare(line.workspaces.at("w1"), base=base, spares=None)

    assert marker.exists()


def _crlf(root: Path) -> Path:
    (root / "crlf.txt").write_bytes(b"one\r\ntwo\r\n")
    return root / "crlf.txt"


async def test_a_bench_is_one_takers_at_a_time_and_the_pool_can_be_resized(line: Line) -> None:
    names = []

    async with line.benches.take() as one, line.benches.take() as two:
        names += [one.name, two.name]
        with anyio.move_on_after(0.02) as waited:
            async with line.benches.take():
                pass
        line.benches.resize(3)
        async with line.benches.take() as three:
            names.append(three.name)
    async with line.benches.take() as again:
        names.append(again.name)

    assert waited.cancelled_caught
    assert names == ["b1", "b2", "b3", "b1"]


async def test_a_bench_keeps_what_setup_made_and_nothing_else_that_is_ignored(line: Line) -> None:
    async with line.benches.take() as bench:
        await bench.show(line.base, keeps=("node_modules",))
        for path in ("node_modules/a/.git/HEAD", "build/cache", "debug.log"):
            (bench.tree / path).parent.mkdir(parents=True, exist_ok=True)
            (bench.tree / path).write_text("made\n")

        await bench.show(line.base, keeps=("node_modules",))

        assert content(bench.tree) == FRESH | {"node_modules/a/.git/HEAD": "file False made\n"}
        assert git(bench.tree, "status", "--porcelain") == ""
        assert git(bench.tree, "ls-files", "src") == "src/app.py\nsrc/lib/deep.py"


@pytest.mark.parametrize("left", ["an/empty/folder/", "debug.log", "new.txt", "src/lib/deep.py"])
async def test_one_trifle_left_on_a_bench_is_enough_to_have_it_cleaned(
    line: Line, left: str
) -> None:
    async with line.benches.take() as bench:
        await bench.show(line.base)
        if left.endswith("/"):
            (bench.tree / left).mkdir(parents=True)
        else:
            (bench.tree / left).write_text("made\n")

        await bench.show(line.base)

        assert content(bench.tree) == FRESH
        assert not (bench.tree / "an").exists()


async def test_a_tag_that_moved_is_shown_where_it_is(line: Line) -> None:
    async with line.benches.take() as bench:
        await bench.show(line.base)
        moved = await line.commit({"README.md": "later\n"})
        git(line.own.git_dir, "tag", "-f", "v1", moved)

        await bench.show(moved)

        assert git(bench.tree, "rev-parse", "v1") == moved


async def test_a_bench_shows_a_commit_that_no_branch_has(line: Line) -> None:
    workspace = await line.workspace()
    (workspace.tree / "src/app.py").write_text("candidate\n")
    snapshot = await line.snapshot(workspace)
    candidate = await line.workspaces.keep(
        "fix", 1, tree=snapshot.tree, base=line.base, message="m"
    )

    async with line.benches.take() as bench:
        await bench.show(candidate)

        assert content(bench.tree)["src/app.py"] == "file False candidate\n"
        assert git(bench.tree, "rev-parse", "HEAD", "main") == f"{candidate}\n{line.base}"
