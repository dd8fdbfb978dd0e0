"""Where everything of one factory lies on disk."""

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
        # Workspaces and benches: outside the repository, so that nothing resolves upwards into it.
        self.work = work
        self.names = names or Names()
        self.inbox = root / self.names.inbox  # where task files are dropped
        self.lock = common_dir / "factoryd-lock"  # held by the one daemon of this repository
        self.home = root / ".factory"
        self.store = self.home / "store.sqlite"
        self.git = self.home / "git"  # the factory repository
        self.index = self.home / "index"  # the daemon's own index files, one a workspace or bench
        self.intake = self.home / "intake"  # task files between the inbox and the store
        self.judged = self.home / "judged"  # logs of gates
        self.pid = self.home / "daemon.pid"  # readable once the daemon is up
        self.log = self.home / "daemon.log"
        self.high_water = self.home / "high-water"  # numbers that were given out last
        self.wake = self.home / "wake"  # touched by commands after they wrote a request

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders that a daemon needs."""
        return self.home, self.inbox, self.judged, self.index, self.home / "attempts", self.work

    @property
    def worked(self) -> bool:
        """Whether a daemon has worked here, so that there was a store."""
        return self.git.exists() or any((self.home / "attempts").glob("*/*"))

    def unit_dir(self, unit: str) -> Path:
        """Return the folder of one unit: its task file, named as its source, and its run dirs."""
        return self.home / "attempts" / unit

    def run_dir(self, unit: str, attempt: int) -> Path:
        """Return the folder with prompt, output, outbox and exit file of one attempt."""
        return self.unit_dir(unit) / str(attempt)


def check_writable(where: Places, *folders: Path) -> None:
    """Raise RepositoryError if a folder cannot be made or written, or is misplaced; make nothing.

    Without `folders`, check all that a daemon needs.
    """
    if where.work.resolve().is_relative_to(where.root.resolve()):
        raise RepositoryError(
            f"{where.work} lies in {where.root}: what runs in the workspaces there would find your "
            "checkout above it. Let XDG_STATE_HOME name a folder outside of the repository. "
            "Then start again."
        )
    for folder in folders or where.folders:
        there = folder
        while not os.path.lexists(there):
            there = there.parent
        if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
            continue
        needs = "It has to be a folder that you can write"
        if folder != there:
            needs += f", for {folder}"
        if folder == where.work:
            needs += "; or let XDG_STATE_HOME name another place"
        raise RepositoryError(f"{there} is none, or cannot be written. {needs}. Then start again.")


def there(root: Path) -> frozenset[str]:
    """Return the names of the factory's folders (ground/names.py) that are in the checkout."""
    return frozenset(name for name in ALL if (root / name).is_dir())


def holding(root: Path) -> frozenset[str]:
    """Return those that are not empty; a folder that the factory makes there does not count."""
    return frozenset(name for name in there(root) if any(map(_counts, _entries(root / name))))


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []  # the code that must read there has a better message


def _counts(path: Path) -> bool:
    if path.name.startswith("."):
        return False
    is_made = path.name == "rejected" and path.parent.name in (INBOX, HIDDEN[INBOX])
    return not is_made or bool(_entries(path))


def home(environ: Mapping[str, str]) -> Path:
    """Return the user's HOME; the one that the system knows if it is unset or relative."""
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

    The work folder's name is that of the repository and a digest of its path.
    """
    state = Path(environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():  # unset, or relative: its specification says to ignore that
        state = home(environ) / ".local/state"
    real = root.resolve()
    digest = hashlib.sha256(os.fsencode(real)).hexdigest()[:8]
    # No folder with a separator of PATH can be on PATH, nor hold a venv.
    name = real.name.replace(os.pathsep, "-")
    return Places(
        root=root, common_dir=common_dir, work=state / "factoryd" / f"{name}-{digest}", names=names
    )
