"""The plan of a landing, and its possible results.

Invariant: the module has only values; nothing here reads a repository.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class LandingPlan:
    """The open step of a landing: everything that recovery needs to know."""

    base: str
    to: str
    paths: tuple[str, ...]
    at: float  # seconds since the epoch; every lock of our git is younger
    checkout: str = ""  # the working tree that has trunk checked out
    git_dir: str = ""  # the git dir of that working tree
    pid: int = 0  # pid of our git, as soon as it runs

    def data(self) -> str:
        """Return the plan as JSON, for the journal."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, data: str) -> "LandingPlan":
        """Return the plan that `data()` wrote."""
        fields = json.loads(data)
        fields["paths"] = tuple(fields["paths"])
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class Landed:
    """Trunk contains the commit, or contained it earlier."""

    commit: str


@dataclass(frozen=True, slots=True)
class Moved:
    """Trunk or its checkout is not as planned, so plan again. `said`: what recovery restored."""

    tip: str
    said: str = ""


@dataclass(frozen=True, slots=True)
class Blocked:
    """The landing failed, or would change files or refs of others. Trunk has not moved.

    Exceptions: if our git is still `running`, it can still move trunk; if its result is `unknown`,
    it may have moved trunk. In both cases, the step stays open.
    """

    kind: str  # dirty, untracked, busy, locked, failed, refused, running, unknown
    reason: str
    paths: tuple[str, ...] = ()
    # Files to watch: once one of them changes, the reason may be gone.
    look: tuple[Path, ...] = field(default=(), compare=False)
    mend: str = ""  # the command that fixes the problem, if factoryd knows one

    @property
    def is_open(self) -> bool:
        """Whether our git may have moved trunk, or can still move it."""
        return self.kind in ("running", "unknown")


Outcome = Landed | Moved | Blocked
