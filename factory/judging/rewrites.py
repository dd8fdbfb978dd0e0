"""Finds what a gate changed in the tree that it judged.

Invariant: the gate saw exactly what would land. A tracked file counts as changed if its content,
its kind or its executable bit differs. Time stamps, attributes and the tree's own `.git` do not
matter. Only the daemon's own index counts.
"""

import os
import re
import stat
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath

from anyio import to_thread

from factory.ground import disk, faults
from factory.ground.plumbing import GITLINK
from factory.ground.regular import is_real
from factory.ground.scope import with_parents
from factory.ground.sentences import shown
from factory.repo.git import Git

MOST_KEPT = 100  # most paths that a verdict lists
_CHUNK = 1 << 20
_AT_ONCE = 1000  # so many files are written at a time, to compare them
# Attributes that mark a folder which hides the content of the same folder in the layer below.
_OPAQUE = ("user.overlay.opaque", "trusted.overlay.opaque")

# For tools that change files: the form that only checks them. The first matching pattern counts.
_CHECK_FORMS: Mapping[str, str] = {
    r"\bruff\s+format\b": "ruff format --check",
    r"\bruff\b": "ruff check --no-fix",
    r"\bblack\b": "black --check",
    r"\bisort\b": "isort --check",
    r"\beslint\b": "eslint without --fix",
    r"\bprettier\b": "prettier --check",
    r"\bstylelint\b": "stylelint without --fix",
    r"\bbiome\b": "biome check without --write",
    r"\bcargo\s+fmt\b": "cargo fmt --check",
    r"\bcargo\b": "cargo with --locked",
    r"\bgofmt\b": "gofmt -l",
    r"\bclang-format\b": "clang-format --dry-run -Werror",
    r"\bterraform\s+fmt\b": "terraform fmt -check",
    r"\bnpm\s+(install|i)\b": "npm ci",
    r"\buv\b": "uv with --locked",
}


async def changed_in(git: Git, commit: str, *, beside: Path) -> list[str]:
    """Return the tracked files of git's work tree that differ from the commit in its index.

    `beside`: a folder for the copies to compare with; the function deletes this folder.
    """
    assert git.work_tree is not None
    if not is_real(git.work_tree):
        return ["the whole tree"]
    # Do not use the attributes in the tree, because a gate may have written them.
    by_commit = f"--attr-source={commit}"
    suspects = await _suspects(git, by_commit)
    changed = list[str]()
    for at in range(0, len(suspects), _AT_ONCE):
        some = suspects[at : at + _AT_ONCE]
        with faults.step("tree.compare"):
            await to_thread.run_sync(_make_empty, beside)
            await _check_out(git, by_commit, some, beside)
            changed += await to_thread.run_sync(_changed, some, git.work_tree, beside)
            await to_thread.run_sync(disk.remove, beside)
    return changed


async def _suspects(git: Git, by_commit: str) -> list[str]:
    """Return the files whose times, size or mode differ from the index, even with equal content."""
    assert git.work_tree is not None
    asked = (by_commit, "diff-files", "-z", "--name-only", "--ignore-submodules=all")
    told = await git.run(*asked)
    if told.err:  # git could not read a folder
        await to_thread.run_sync(_open_all, git.work_tree)
        told = await git.run(*asked)
    suspects = os.fsdecode(told.out).split("\0")[:-1]
    if told.err:
        suspects.append(told.err.decode(errors="replace").strip()[:200])
    return suspects


async def _check_out(git: Git, by_commit: str, paths: Sequence[str], folder: Path) -> None:
    """Write these files into the folder, in the version that the index has."""
    names = os.fsencode("".join(f"{path}\0" for path in paths))
    options = ("-f", "-q", "-z", "--stdin", f"--prefix={folder}/")
    await git.run(by_commit, "checkout-index", *options, stdin=names, ok=(0, 1, 128))


async def changed_above(git: Git, layer: Path) -> list[str]:
    """Return the tracked files that a command changed in a layer above git's work tree.

    The work tree itself must be unchanged.
    """
    assert git.work_tree is not None
    touched = await to_thread.run_sync(_touched, layer, git.work_tree)
    if not touched:
        return []
    suspects = []
    for entry in await git.names("ls-files", "-s", "-z"):
        facts, _, path = entry.partition("\t")
        is_module = facts.startswith(GITLINK)
        if not is_module and not touched.isdisjoint(with_parents(path)):
            suspects.append(path)
    return await to_thread.run_sync(_changed, suspects, layer, git.work_tree)


# ── in words ──


def sentence(paths: Collection[str], said: str) -> str:
    """Return what the reader must do; `said`: command and output, which name the gate's tool."""
    files = "a tracked file" if len(paths) == 1 else f"{len(paths)} tracked files"
    form = check_form(said)
    check = "a form that only checks"
    if form:
        check = f"{check} ({form})"
    return (
        f"The gate succeeded, but it changed {files}: {shown(sorted(paths))}. "
        "So it did not judge what would land, and it is red. "
        f"Commit its changes, or let the gate use {check}. "
        "If the gate has to change files, name them in its file: # rewrites: PATH"
    )


def built_over(paths: Collection[str]) -> str:
    """Return advice if setup writes tracked files, because gates then do not see what lands."""
    return (
        f"Setup overwrites {shown(sorted(paths))}, which git tracks: "
        "gates would judge these files and not the ones that land. "
        "Remove them from `# keeps:` in setup.sh, or from git."
    )


def told(command: str, output: str) -> str:
    """Return the command, and the commands that a script runner prints before it runs them."""
    announced = [line for line in output.splitlines() if line.startswith(("> ", "$ "))]
    return "\n".join([command, *announced])


def check_form(said: str) -> str:
    """Return the form in which the tool in this text only checks; empty for an unknown tool."""
    for pattern, form in _CHECK_FORMS.items():
        if re.search(pattern, said):
            return form
    return ""


# ── a layer above the tree ──


def _touched(layer: Path, tree: Path) -> frozenset[str]:
    """Return the paths that the layer changes, removes, or replaces as a whole folder."""
    found = list[str]()
    left = [""]  # folders still to visit
    while left:
        inside = left.pop()
        for entry in _entries(layer / inside):
            path = f"{inside}/{entry.name}" if inside else entry.name
            before = _about(tree, path)
            if before is None:
                continue  # the path exists only in the layer
            both = stat.S_ISDIR(before.st_mode) and entry.is_dir(follow_symlinks=False)
            if both and not _is_opaque(entry.path):
                left.append(path)
            else:
                found.append(path)
    return frozenset(found)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    disk.reopen(folder)
    with os.scandir(folder) as found:
        return list(found)


def _is_opaque(folder: str) -> bool:
    return not set(_OPAQUE).isdisjoint(os.listxattr(folder, follow_symlinks=False))


# ── one file, now and before ──


def _changed(paths: Sequence[str], now: Path, before: Path) -> list[str]:
    return [path for path in paths if _differs(path, now, before)]


def _differs(path: str, now: Path, before: Path) -> bool:
    """Whether the file differs between the two folders; links are compared, not followed."""
    here = _about(now, path)
    was = _about(before, path)
    if here is None or was is None:
        return True
    if stat.S_IFMT(here.st_mode) != stat.S_IFMT(was.st_mode):
        return True
    if stat.S_ISLNK(here.st_mode):
        return (now / path).readlink() != (before / path).readlink()
    if not stat.S_ISREG(here.st_mode):
        return False
    is_other_mode = (here.st_mode ^ was.st_mode) & stat.S_IXUSR
    if is_other_mode or here.st_size != was.st_size:
        return True
    return _content_differs(now / path, before / path)


def _content_differs(one: Path, other: Path) -> bool:
    _make_readable(one)
    with one.open("rb") as here, other.open("rb") as there:
        while True:
            some = here.read(_CHUNK)
            if some != there.read(_CHUNK):
                return True
            if not some:
                return False


def _make_readable(path: Path) -> None:
    mode = path.lstat().st_mode
    if not mode & stat.S_IRUSR:
        path.chmod(stat.S_IMODE(mode) | stat.S_IRUSR)


def _about(root: Path, path: str) -> os.stat_result | None:
    """Return the file's status; None if there is no file, or if a parent folder is a link."""
    for parent in PurePosixPath(path).parents:
        if (root / parent).is_symlink() and parent.name:
            return None
    try:
        return (root / path).lstat()
    except OSError:
        return None


def _make_empty(folder: Path) -> None:
    disk.remove(folder)
    folder.mkdir(parents=True)


def _open_all(top: Path) -> None:
    for _ in disk.below(top, opened=True):
        pass
