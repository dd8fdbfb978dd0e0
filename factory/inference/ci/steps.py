"""The steps of a project's CI, as values."""

from dataclasses import dataclass, field

from factory.inference.ci.tools import Kind
from factory.inference.rules import Skipped


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One command of CI. `folder`: where it runs, below the root; `origin`: `ci.yml:41`."""

    kind: Kind
    code: str
    words: tuple[str, ...]  # empty if only a shell can run the code
    folder: str = ""
    env: tuple[tuple[str, str], ...] = ()
    origin: str = ""
    shell: str = ""


@dataclass(slots=True)
class Job:
    """The steps of one job, in their order. `path`: the file that describes it."""

    name: str
    path: str
    steps: list[Step] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    takes_builds: bool = False  # whether the job downloads what another job built
