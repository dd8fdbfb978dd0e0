"""What a landing is to do, and what came of it.

Invariant: values; nothing here looks at a repository.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class LandingPlan:
    """The open step of a landing: all that recovery needs to know."""

    base: str
    to: str
    paths: tuple[str, ...]
    at: float  # seconds since the epoch: no lock of ours is older
    checkout: str = ""  # the working tree that has trunk checked out
    git_dir: str = ""  # its git dir
    pid: int = 0  # of our git, once it runs

    def data(self) -> str:
        """The plan as JSON, for the journal."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, data: str) -> "LandingPlan":
        """The plan that `data()` wrote."""
        fields = json.loads(data)
        fields["paths"] = tuple(fields["paths"])
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class Landed:
    """Trunk contains, or contained, the commit."""

    commit: str


@dataclass(frozen=True, slots=True)
class Moved:
    """Trunk or its checkout is not as planned: plan again. `said`: what was put right."""

    tip: str
    said: str = ""


@dataclass(frozen=True, slots=True)
class Blocked:
    """Landing would touch what is not ours, or failed (disk full, git killed); trunk has not moved.

    But a git of ours that is `running` may move it yet, and one whose work is `unknown` may have:
    the step stays open.
    """

    kind: str  # dirty, untracked, busy, locked, failed, refused, running, unknown
    reason: str
    paths: tuple[str, ...] = ()
    # It may be over once one of these has changed.
    look: tuple[Path, ...] = field(default=(), compare=False)
    mend: str = ""  # the command that mends it, where one is known

    @property
    def is_open(self) -> bool:
        """Whether our git may have moved trunk, or may yet."""
        return self.kind in ("running", "unknown")


Outcome = Landed | Moved | Blocked
