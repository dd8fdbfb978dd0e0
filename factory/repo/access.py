"""Checks whether a user can read and write a git dir, and names the command that fixes it.

Invariant: the check changes nothing and starts no process.
"""

import os
import pwd
import re
import shlex
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from factory.ground.regular import is_real

# how git uses a path: as a folder, a file it appends to, or a file it reads
FOLDER, APPENDED, READ = "folder", "appended", "read"
_NEEDS = {FOLDER: os.R_OK | os.W_OK | os.X_OK, APPENDED: os.R_OK | os.W_OK, READ: os.R_OK}
_FAN_OUT = re.compile("[0-9a-f]{2}|info|pack")
# git replaces these files by a rename, so only their folder has to be writable.
_FILES = ("HEAD", "config", "packed-refs", "shallow", "index")


class User(NamedTuple):
    """The user whose access rights are checked."""

    uid: int
    groups: frozenset[int]

    @property
    def name(self) -> str:
        """The user's name in the form that commands accept."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)


class Unusable(NamedTuple):
    """A path that git needs and that the user cannot use."""

    path: Path
    trouble: str
    mend: str  # the command that fixes the problem

    @property
    def said(self) -> str:
        """Return one sentence for a person."""
        return f"{self.path} {self.trouble}. To fix it: {self.mend}"


def me() -> User:
    """Return the user who runs this process."""
    return User(os.geteuid(), frozenset({os.getegid(), *os.getgroups()}))


def owner(folder: Path) -> User:
    """Return the user who owns a folder: this is the daemon's user, even if root runs us."""
    about = folder.stat()
    if about.st_uid == os.geteuid():
        return me()
    try:
        name = pwd.getpwuid(about.st_uid).pw_name
    except KeyError:
        return User(about.st_uid, frozenset({about.st_gid}))
    return User(about.st_uid, frozenset(os.getgrouplist(name, about.st_gid)))


def first_unusable(git_dir: Path, user: User) -> Unusable | None:
    """Return the first path in a git dir (common or of a worktree) that `user` cannot use."""
    for path, use in _paths(git_dir):
        with suppress(FileNotFoundError):  # a running git removed it
            wrong = _trouble(path, use, user)
            if wrong:
                trouble, mend = wrong
                names = {"path": shlex.quote(str(path)), "all": shlex.quote(str(git_dir))}
                return Unusable(path, trouble, mend.format(**names))
    return None


def _paths(git_dir: Path) -> Iterator[tuple[Path, str]]:
    """Yield the paths that git needs, each with its use. A folder comes before its content."""
    yield git_dir, FOLDER
    yield from _top(git_dir)
    yield from _objects(git_dir / "objects")
    for name in ("refs", "reftable"):
        yield from _below(git_dir / name, READ)
    yield from _below(git_dir / "logs", APPENDED)
    for worktree in _entries(git_dir / "worktrees"):
        yield worktree, FOLDER
        yield from _top(worktree)
        yield from _below(worktree / "logs", APPENDED)


def _top(git_dir: Path) -> Iterator[tuple[Path, str]]:
    for name in _FILES:
        yield git_dir / name, READ


def _objects(objects: Path) -> Iterator[tuple[Path, str]]:
    yield objects, FOLDER
    for folder in _entries(objects):
        if _FAN_OUT.fullmatch(folder.name):
            yield folder, FOLDER
            for file in _entries(folder):
                yield file, READ


def _below(folder: Path, use: str) -> Iterator[tuple[Path, str]]:
    """Yield a folder, which may be missing, and everything in it."""
    if os.path.lexists(folder):
        yield folder, FOLDER
    for path in _entries(folder):
        if is_real(path):
            yield from _below(path, use)
        else:
            yield path, use


def _entries(folder: Path) -> list[Path]:
    """Return the content of a folder; [] if it is unreadable, which `_trouble` reports."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _trouble(path: Path, use: str, user: User) -> tuple[str, str] | None:
    """Return what is wrong with a path, and the command that fixes it."""
    try:
        about = path.stat()
    except PermissionError:
        return "cannot be examined", "ls -ld {path}"
    is_folder = stat.S_ISDIR(about.st_mode)
    if is_folder != (use == FOLDER):
        kind = "a folder" if use == FOLDER else "a file"
        return f"is in the place of {kind}", "mv {path} {path}.aside"
    if _may(path, about, use, user):
        return None
    cannot = "be read" if use == READ else "be written"
    if about.st_uid != user.uid:
        theirs = User(about.st_uid, frozenset()).name
        trouble = f"cannot {cannot} by {user.name}: it belongs to {theirs}"
        return trouble, f"sudo chown -R {shlex.quote(user.name)} {{all}}"
    if not _bits_allow(about, _NEEDS[use], user):
        return f"cannot {cannot} by {user.name}, who owns it", "chmod -R u+rwX {all}"
    return f"cannot {cannot}: its disk or an access list refuses it", "ls -ld {path}; df {path}"


def _may(path: Path, about: os.stat_result, use: str, user: User) -> bool:
    wanted = _NEEDS[use]
    if user.uid != os.geteuid():
        return _bits_allow(about, wanted, user)
    effective = os.access in os.supports_effective_ids
    return os.access(path, wanted, effective_ids=effective)


def _bits_allow(about: os.stat_result, wanted: int, user: User) -> bool:
    """Whether the mode gives the user the wanted rights (R_OK, W_OK and X_OK, added)."""
    if user.uid == 0:
        return True
    if about.st_uid == user.uid:
        digit = about.st_mode >> 6
    elif about.st_gid in user.groups:
        digit = about.st_mode >> 3
    else:
        digit = about.st_mode
    return digit & wanted == wanted
