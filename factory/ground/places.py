"""Where the files of one factory lie on disk."""

import hashlib
import os
import pwd
from collections.abc import Mapping
from pathlib import Path

from factory.ground.errors import RepositoryError
from factory.ground.names import ALL, HIDDEN, INBOX, Names


class Places:
    """The folders and files of the factory of one repository."""

    def __init__(
        self, root: Path, common_dir: Path, work: Path, names: Names | None = None
    ) -> None:
        self.root = root  # the user's checkout
        self.common_dir = common_dir  # the common git dir
        # Workspaces and benches. They lie outside the repository, so that no program finds the
        # repository in a parent folder.
        self.work = work
        self.names = names or Names()
        self.inbox = root / self.names.inbox  # where people put task files
        self.lock = common_dir / "factoryd-lock"  # the one daemon of this repository holds it
        self.home = root / ".factory"
        self.store = self.home / "store.sqlite"
        self.git = self.home / "git"  # the factory repository
        self.index = self.home / "index"  # the daemon's index files, one per workspace or bench
        self.intake = self.home / "intake"  # task files between the inbox and the store
        self.judged = self.home / "judged"  # logs of gates
        self.pid = self.home / "daemon.pid"  # gives a reader data once the daemon has started
        self.log = self.home / "daemon.log"
        self.high_water = self.home / "high-water"  # the highest numbers that the store has used
        self.wake = self.home / "wake"  # commands touch this file after they wrote a request

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders that a daemon needs."""
        return self.home, self.inbox, self.judged, self.index, self.home / "attempts", self.work

    @property
    def worked(self) -> bool:
        """Whether a daemon has worked here before. If so, a store must have existed."""
        return self.git.exists() or any((self.home / "attempts").glob("*/*"))

    def unit_dir(self, unit: str) -> Path:
        """Return a unit's folder, with the task file (named as its source) and the run dirs."""
        return self.home / "attempts" / unit

    def run_dir(self, unit: str, attempt: int) -> Path:
        """Return the folder of one attempt: its prompt, output, outbox and exit file."""
        return self.unit_dir(unit) / str(attempt)


def check_writable(where: Places, *folders: Path) -> None:
    """Raise RepositoryError if a folder is in a wrong place or not writable; create no folder.

    Without `folders`, check all folders that a daemon needs.
    """
    if where.work.resolve().is_relative_to(where.root.resolve()):
        raise RepositoryError(
            f"{where.work} lies in {where.root}: programs in the workspaces there would find your "
            "checkout above them. Let XDG_STATE_HOME name a folder outside of the repository. "
            "Then start again."
        )
    for folder in folders or where.folders:
        there = folder
        while not os.path.lexists(there):
            there = there.parent
        if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
            continue
        needs = "Make it one"
        if folder != there:
            needs += f", because {folder} has to lie in it"
        if folder == where.work:
            needs += ", or let XDG_STATE_HOME name another place"
        raise RepositoryError(
            f"{there} is not a folder that you can write to. {needs}. Then start again."
        )


def there(root: Path) -> frozenset[str]:
    """Return which of factoryd's folder names (ground/names.py) exist in the checkout."""
    return frozenset(name for name in ALL if (root / name).is_dir())


def holding(root: Path) -> frozenset[str]:
    """Return the names of the folders that contain more than folders made by factoryd."""
    return frozenset(name for name in there(root) if any(map(_counts, _entries(root / name))))


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []  # other code reads the folder later and has a better message


def _counts(path: Path) -> bool:
    if path.name.startswith("."):
        return False
    is_made = path.name == "rejected" and path.parent.name in (INBOX, HIDDEN[INBOX])
    return not is_made or bool(_entries(path))


def home(environ: Mapping[str, str]) -> Path:
    """Return the user's HOME. If it is unset or relative, return the one from the user database."""
    named = Path(environ.get("HOME", ""))
    if named.is_absolute():
        return named
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        return Path("/nonexistent")


def places(
    root: Path, common_dir: Path, environ: Mapping[str, str], names: Names | None = None
) -> Places:
    """Return the places of the repository at `root`.

    The work folder's name is the repository's name and a digest of its path.
    """
    state = Path(environ.get("XDG_STATE_HOME", ""))
    # the variable is unset or relative; the specification says to ignore a relative path
    if not state.is_absolute():
        state = home(environ) / ".local/state"
    real = root.resolve()
    digest = hashlib.sha256(os.fsencode(real)).hexdigest()[:8]
    # A folder whose name contains PATH's separator cannot be on PATH and cannot hold a venv.
    name = real.name.replace(os.pathsep, "-")
    return Places(
        root=root, common_dir=common_dir, work=state / "factoryd" / f"{name}-{digest}", names=names
    )
