"""What a landing must do, and its result.

Invariant: only values; nothing here reads a repository.
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
    at: float  # seconds since the epoch; every lock of ours is younger
    checkout: str = ""  # the working tree that has trunk checked out
    git_dir: str = ""  # its git dir
    pid: int = 0  # pid of our git, once it runs

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
    """Trunk contains, or contained, the commit."""

    commit: str


@dataclass(frozen=True, slots=True)
class Moved:
    """Trunk or its checkout is not as planned: plan again. `said`: what recovery restored."""

    tip: str
    said: str = ""


@dataclass(frozen=True, slots=True)
class Blocked:
    """Landing failed, or would change files or refs of others; trunk has not moved.

    But if our git is still `running`, it may yet move trunk; if its result is `unknown`, it may
    have moved trunk. Then the step stays open.
    """

    kind: str  # dirty, untracked, busy, locked, failed, refused, running, unknown
    reason: str
    paths: tuple[str, ...] = ()
    # The reason may be gone once one of these has changed.
    look: tuple[Path, ...] = field(default=(), compare=False)
    mend: str = ""  # the command that fixes it, if one is known

    @property
    def is_open(self) -> bool:
        """Whether our git may have moved trunk, or may yet move it."""
        return self.kind in ("running", "unknown")


Outcome = Landed | Moved | Blocked
