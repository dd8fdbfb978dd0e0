"""The repository's root, found from the current folder, and the paths below it.

Invariant: nothing is written here. Paths are strings: importing pathlib would take a fifth of the
time that `factory status` needs to start.
"""
# ruff: noqa: PTH109, PTH110, PTH112, PTH118, PTH120, PTH123

import os
import sqlite3
from contextlib import closing

from factory.ground.errors import FactoryError, RepositoryError
from factory.store import rows, views
from factory.store.facts_at import identity_at


def root() -> str:
    """Return the repository's folder that contains the factory; raise FactoryError if none does."""
    top = repository()
    if os.path.isdir(within(top)):
        return top
    if other := _other_with_factory(top):
        raise FactoryError(
            f"no factory has been started in {top}; this repository has one in {other}\n"
            f"  to see its state: cd {other} && factory status"
        )
    raise FactoryError(f"no factory has been started in {top}.\n  start it: factoryd start")


def repository() -> str:
    """Return the top of the working tree; of the main working tree if only that has a factory."""
    top = _working_tree()
    main = _main_worktree(top)
    if main and os.path.isdir(within(main)) and not os.path.isdir(within(top)):
        return main
    return top


def which_inbox(top: str, inbox: str) -> list[str]:
    """Return lines that say which inbox counts, if this is not the working tree `top`."""
    here = _working_tree()
    if here == top:
        return []
    read = f"{top}/{inbox}/"
    lines = [f"this is a linked working tree: factoryd reads {read}, not its {inbox}"]
    if count := task_files(f"{here}/{inbox}"):
        unread = "task files in this working tree that factoryd does not read"
        lines.append(f"! {unread}: {count} (move them to {read})")
    return lines


def task_files(inbox: str) -> int:
    """Return the number of task files in that folder; 0 if it cannot be read."""
    count = 0
    try:
        with os.scandir(inbox) as entries:
            for entry in entries:
                is_task = entry.name.lower().endswith(".md")
                count += is_task and entry.name[0] not in ".#~"
    except OSError:
        return 0
    return count


def _other_with_factory(top: str) -> str:
    """Return the working tree in which the factory of this repository was last started, or ""."""
    try:
        with open(os.path.join(_common_dir(top), "factoryd-lock")) as lock:
            other = lock.read().strip()
    except OSError:
        return ""
    is_ours = other != top and os.path.isdir(within(other))
    return other if is_ours and _main_of(other) == _main_of(top) else ""


def _main_of(top: str) -> str:
    return _main_worktree(top) or top


def _working_tree() -> str:
    """Return the top of the working tree that contains the current folder."""
    top = here = os.getcwd()
    while not os.path.exists(os.path.join(top, ".git")):
        if _is_bare(top):
            make = "git worktree add ../NAME BRANCH"
            raise RepositoryError(
                f"{top} is a bare repository; the factory works in a checkout.\n  make one: {make}"
            )
        if top == os.path.dirname(top):
            make = "git init && git commit --allow-empty -m new"
            raise RepositoryError(f"{here} is not in a git repository.\n  make one: {make}")
        top = os.path.dirname(top)
    return top


def within(top: str, *names: str) -> str:
    """Return a path in the factory's own folder."""
    return os.path.join(top, ".factory", *names)


def run_dir(top: str, unit: str, number: int) -> str:
    """Return the folder with that attempt's prompt and output."""
    return within(top, "attempts", unit, str(number))


def store(top: str, *, write: bool = False) -> closing[sqlite3.Connection]:
    """Return the open store of that root; raise StoreError if it is missing or unusable."""
    return closing(views.open_store(within(top, "store.sqlite"), write=write))


def daemon(top: str) -> rows.Daemon:
    """Return what is known about the daemon."""
    if not os.path.exists(within(top, "store.sqlite")):
        return rows.Daemon(state="stopped", pid=None, since=None, version=None)
    with store(top) as con:
        return views.daemon(con)


def copied_from(top: str) -> str:
    """Return the original's checkout if `top` is a copy that was never started, or ""."""
    if not os.path.exists(within(top, "store.sqlite")):
        return ""
    with store(top) as con:
        known = views.identity(con)
        if known is None or not views.used_in(con):
            return ""
    from pathlib import Path  # needed only for a store that was used elsewhere

    from factory.store.identity import Found, Identity, compare, here

    git_dir = Path(_common_dir(top))
    before = Identity(**vars(known))
    now = here(Path(top), git_dir, Path(), identity=before.id)
    is_copy = compare(before, now, other=identity_at(before.root)) is Found.COPIED
    return before.root if is_copy else ""


def _is_bare(folder: str) -> bool:
    """Return whether the folder seems to be a bare git dir; starts no git."""
    for name in ("HEAD", "objects", "refs"):
        if not os.path.exists(os.path.join(folder, name)):
            return False
    return "/.git/" not in f"{folder}/"


def _common_dir(top: str) -> str:
    """Return the git dir that all working trees of the repository share."""
    return os.path.join(_main_of(top), ".git")


def _main_worktree(top: str) -> str:
    """Return the main working tree if `top` is a linked working tree, or ""."""
    try:
        with open(os.path.join(top, ".git")) as link:
            git_dir = os.path.join(top, link.read().removeprefix("gitdir:").strip())
        with open(os.path.join(git_dir, "commondir")) as common:
            common_dir = os.path.join(git_dir, common.read().strip())
        return os.path.dirname(os.path.normpath(common_dir))
    except OSError:
        return ""
