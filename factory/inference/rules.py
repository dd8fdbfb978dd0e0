"""The gates and the setup of one commit, as values.

Invariant: a digest covers all that decides a verdict or an environment, and nothing else.
"""

import hashlib
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from factory.ground.names import CONVENTIONS, HIDDEN
from factory.inference.files import SETUP_INPUTS, gates_in, matching

DEPENDENCIES = ("node_modules", ".venv")
_GATE_FOLDERS = (gates_in(CONVENTIONS), gates_in(HIDDEN[CONVENTIONS]))


@dataclass(frozen=True, slots=True)
class Gate:
    """A judge of a clean checkout: exit 0 is green. Same group in parallel, lower groups first."""

    name: str
    group: int
    command: tuple[str, ...] = ()
    reason: str = ""  # the gate's file, or why it was inferred
    said: str = ""  # the command as a person would type it, where it differs
    script: str = ""  # the text of a *.sh gate, written outside the bench before it runs
    timeout_s: float = 0.0  # 0: as configured, or measured
    flaky_reruns: int | None = None  # None: as configured
    rewrites: tuple[str, ...] = ()  # globs of tracked files that it may change: they are put back

    @property
    def digest(self) -> str:
        """Digest of all that decides its verdict."""
        return digest(self.name, self.script, *self.command, *self.rewrites)

    @property
    def inferred(self) -> bool:
        """Whether no gate file of the repository asks for it."""
        return not self.reason.startswith(_GATE_FOLDERS)

    @property
    def shown(self) -> str:
        """The command that reproduces it in a checkout."""
        if self.said:
            return self.said
        if self.script:
            return f"sh {self.reason}"
        return shlex.join(self.command)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How to make an environment; commands name its venv `{venv}`, and its Python `{python}`."""

    kind: str = "none"  # script, uv, pip, npm, several joined by +
    commands: tuple[tuple[str, ...], ...] = ()
    script: str = ""  # runs after the commands
    # Globs of what it reads: an environment serves while their content is unchanged.
    inputs: tuple[str, ...] = ()
    keeps: tuple[str, ...] = ()  # what it makes inside the tree
    # Build the tree's own packages once more, on dependencies that are already there.
    rebuild: tuple[tuple[str, ...], ...] = ()
    made_from: tuple[str, ...] = ()  # globs of what that build reads; none: the whole tree
    reason: str = "nothing to prepare was found"

    @property
    def digest(self) -> str:
        """Digest of all that decides what the environment holds."""
        commands = map(shlex.join, (*self.commands, *self.rebuild))
        return digest(self.kind, self.script, *commands, *self.inputs, *self.keeps, *self.made_from)

    @property
    def inferred(self) -> bool:
        """Whether it was read from manifests, and no script says it."""
        return self.kind not in ("none", "script")

    @property
    def dependencies(self) -> tuple[str, ...]:
        """Where it installs dependencies in the tree; they serve while `inputs` are unchanged."""
        found: list[str] = []
        if self.kind == "script":
            found += DEPENDENCIES
        found += filter(_holds_dependencies, self.keeps)
        return tuple(dict.fromkeys(found))

    @property
    def builds(self) -> tuple[str, ...]:
        """What else it makes in the tree: built from each tree, and never carried to another."""
        return tuple(path for path in self.keeps if not _holds_dependencies(path))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How one commit is judged; a change must not touch `sources` unseen."""

    gates: tuple[Gate, ...] = ()
    setup: Setup = Setup()
    sources: frozenset[str] = frozenset()
    unread: frozenset[str] = frozenset()  # files whose content matters and was too large to read

    def sources_among(self, changed: Iterable[str]) -> frozenset[str]:
        """Return `sources`, and changed paths that an inferred setup would read, new ones too."""
        if not self.setup.inferred:
            return self.sources
        return self.sources.union(matching(changed, *SETUP_INPUTS, *self.setup.inputs))


def digest(*parts: str) -> str:
    """Return one digest of all parts, in their order."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def _holds_dependencies(path: str) -> bool:
    return PurePosixPath(path).name in DEPENDENCIES
