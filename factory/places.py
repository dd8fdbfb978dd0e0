"""Where everything of one factory lies on disk."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Places:
    """The folders and files of the factory of one repository."""

    root: Path  # the user's checkout
    common_dir: Path  # the common git dir: holds the lock, one factory per repository
    work: Path  # workspaces and benches: outside the repository, so that nothing resolves upwards into it

    @property
    def home(self) -> Path:
        """`.factory/`."""
        return self.root / ".factory"

    @property
    def store(self) -> Path:
        """The SQLite file."""
        return self.home / "store.sqlite"

    @property
    def git(self) -> Path:
        """The factory repository."""
        return self.home / "git"

    @property
    def index(self) -> Path:
        """The daemon's own index files, one a workspace or bench."""
        return self.home / "index"

    @property
    def inbox(self) -> Path:
        """Where task files are dropped."""
        return self.root / "inbox"

    @property
    def intake(self) -> Path:
        """Task files between the inbox and the store."""
        return self.home / "intake"

    @property
    def judged(self) -> Path:
        """Logs of gates."""
        return self.home / "judged"

    @property
    def pid(self) -> Path:
        """Readable once the daemon is up."""
        return self.home / "daemon.pid"

    @property
    def log(self) -> Path:
        """The daemon's own log."""
        return self.home / "daemon.log"

    @property
    def wake(self) -> Path:
        """Touched by commands after they wrote a request."""
        return self.home / "wake"

    @property
    def lock(self) -> Path:
        """Held by the one daemon of this repository."""
        return self.common_dir / "factoryd.lock"

    def run_dir(self, unit: str, attempt: int) -> Path:
        """Prompt, output, outbox and exit file of one attempt."""
        return self.home / "attempts" / unit / str(attempt)


def places(root: Path, common_dir: Path, environ: Mapping[str, str]) -> Places:
    """The places of the repository at `root`; the work folder is named after it and a digest of its path."""
    state = Path(environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():  # unset; or relative, which its specification tells to pass over
        state = Path(environ.get("HOME") or os.path.expanduser("~")) / ".local/state"  # noqa: PTH111
    real = root.resolve()
    digest = hashlib.sha256(os.fsencode(real)).hexdigest()[:8]
    return Places(root=root, common_dir=common_dir, work=state / "factoryd" / f"{real.name}-{digest}")
