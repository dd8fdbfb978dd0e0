"""Checks and repairs a tree that an agent left, before git reads it.

Invariant: the sweep follows no link, opens no file, and never holds all entries of a large folder
in memory.
"""

import os
import secrets
import shutil
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from factory.ground import disk


def sweep(root: Path) -> list[str]:
    """Delete fifos, sockets and devices, and list the folders that are repositories.

    It checks every folder, because the agent's ignore files decide which folders git reads, and a
    fifo called .gitignore would block git for ever.
    """
    nested = set()
    for inside, entry in disk.walk(root, opened=True):
        if inside and entry.name.lower() == ".git" and ".git" not in inside.split("/"):
            nested.add(inside)
        if not (entry.is_file(follow_symlinks=False) or entry.is_symlink() or entry.is_dir()):
            Path(entry.path).unlink(missing_ok=True)
    return sorted(nested)


def make_readable(root: Path) -> None:
    """Make files readable again that the agent made unreadable for their owner."""
    for _, entry in disk.walk(root, opened=True):
        with suppress(OSError):  # a path may be too long together with its last name
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISREG(mode) and not mode & stat.S_IRUSR:
                Path(entry.path).chmod(stat.S_IMODE(mode) | stat.S_IRUSR)


def move_git_dirs(tree: Path, nested: Iterable[str], aside: Path) -> list[str]:
    """Move git dirs aside; return those whose name is not exactly `.git`."""
    odd = []
    for path in nested:
        for name in _git_dirs(tree / path):
            aside.mkdir(parents=True, exist_ok=True)
            target = aside / f"{secrets.token_hex(3)}-{Path(path).name[:100]}"
            shutil.move(tree / path / name, target)
            if name != ".git":
                odd.append(f"{path}/{name}")
    return odd


def _git_dirs(folder: Path) -> list[str]:
    disk.reopen(folder)
    with os.scandir(folder) as found:
        return [entry.name for entry in found if entry.name.lower() == ".git"]
