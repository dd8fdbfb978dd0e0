"""The gates and the setup of one commit, as values.

Invariant: a digest covers everything that decides a verdict or an environment, and nothing else.
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
    """A command that judges a clean checkout: exit code 0 is green.

    Gates of a group run in parallel, and lower groups run first.
    """

    name: str
    group: int
    command: tuple[str, ...] = ()
    reason: str = ""  # the gate's file, or why it was inferred
    said: str = ""  # the command as a person would type it, if that differs
    script: str = ""  # the text of a *.sh gate, written outside the bench before it runs
    timeout_s: float = 0.0  # 0: the configured or measured limit
    flaky_reruns: int | None = None  # None: the configured number
    rewrites: tuple[str, ...] = ()  # globs of tracked files that it may change; they are restored

    @property
    def digest(self) -> str:
        """Digest of everything that decides its verdict."""
        return digest(self.name, self.script, *self.command, *self.rewrites)

    @property
    def inferred(self) -> bool:
        """Whether the gate has no gate file in the repository."""
        return not self.reason.startswith(_GATE_FOLDERS)

    @property
    def shown(self) -> str:
        """The command that runs the gate in a checkout."""
        if self.said:
            return self.said
        if self.script:
            return f"sh {self.reason}"
        return shlex.join(self.command)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How to make an environment; commands name its venv `{venv}`, and its Python `{python}`."""

    kind: str = "none"  # script, uv, pip, npm, or several joined by +
    commands: tuple[tuple[str, ...], ...] = ()
    script: str = ""  # runs after the commands
    # Globs of the files that it reads: an environment can be used while they are unchanged.
    inputs: tuple[str, ...] = ()
    keeps: tuple[str, ...] = ()  # paths that it makes inside the tree
    # Commands that build the tree's own packages again on existing dependencies.
    rebuild: tuple[tuple[str, ...], ...] = ()
    made_from: tuple[str, ...] = ()  # globs of files that this build reads; empty: the whole tree
    reason: str = "nothing to prepare was found"

    @property
    def digest(self) -> str:
        """Digest of everything that decides what the environment contains."""
        commands = map(shlex.join, (*self.commands, *self.rebuild))
        return digest(self.kind, self.script, *commands, *self.inputs, *self.keeps, *self.made_from)

    @property
    def inferred(self) -> bool:
        """Whether it was inferred from manifests and not from a script."""
        return self.kind not in ("none", "script")

    @property
    def dependencies(self) -> tuple[str, ...]:
        """The folders of dependencies in the tree; they are reused while `inputs` are unchanged."""
        found: list[str] = []
        if self.kind == "script":
            found += DEPENDENCIES
        found += filter(_holds_dependencies, self.keeps)
        return tuple(dict.fromkeys(found))

    @property
    def builds(self) -> tuple[str, ...]:
        """The other paths that it makes in the tree: each tree builds its own."""
        return tuple(path for path in self.keeps if not _holds_dependencies(path))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How one commit is judged; a guard refuses changes of `sources` without permission."""

    gates: tuple[Gate, ...] = ()
    setup: Setup = Setup()
    sources: frozenset[str] = frozenset()
    unread: frozenset[str] = frozenset()  # files whose content matters but is too large to read

    def sources_among(self, changed: Iterable[str]) -> frozenset[str]:
        """Return `sources`, and changed or new paths that an inferred setup would read."""
        if not self.setup.inferred:
            return self.sources
        return self.sources.union(matching(changed, *SETUP_INPUTS, *self.setup.inputs))


def digest(*parts: str) -> str:
    """Return one digest of all parts, in their order."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def _holds_dependencies(path: str) -> bool:
    return PurePosixPath(path).name in DEPENDENCIES
