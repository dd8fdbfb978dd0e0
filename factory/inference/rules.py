"""The gates and the setup of one commit, as values.

Invariant: a digest covers everything that affects a verdict or an environment, and nothing else.
"""

import hashlib
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TypeVar

from factory.ground.names import CONVENTIONS, HIDDEN
from factory.inference.files import SETUP_INPUTS, gates_in, matching

CHECKS, TESTS = 10, 20  # the groups of inferred gates
DEPENDENCIES = ("node_modules", ".venv")
_T = TypeVar("_T")
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
    said: str = ""  # the command as a person would type it, if it differs from the real command
    script: str = ""  # the text of a *.sh gate; factoryd writes it to a file outside the bench
    timeout_s: float = 0.0  # 0: the configured limit or the measured one
    flaky_reruns: int | None = None  # None: the configured number of reruns
    # globs of tracked files that the gate may change; factoryd restores them
    rewrites: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Digest of everything that affects the gate's verdict."""
        return digest(self.name, self.script, *self.command, *self.rewrites)

    @property
    def inferred(self) -> bool:
        """Whether the repository has no file for this gate."""
        return not self.reason.startswith(_GATE_FOLDERS)

    @property
    def shown(self) -> str:
        """The command that a person can run in a checkout to run the gate."""
        if self.said:
            return self.said
        if self.script:
            return f"sh {self.reason}"
        return shlex.join(self.command)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How to make an environment. In commands, `{venv}` and `{python}` stand for paths."""

    kind: str = "none"  # script, uv, pip or npm, or several of them joined by +
    commands: tuple[tuple[str, ...], ...] = ()
    script: str = ""  # the text of a script that runs after the commands
    # Globs of the files that setup reads. An environment can be used again while these are
    # unchanged.
    inputs: tuple[str, ...] = ()
    keeps: tuple[str, ...] = ()  # paths that setup makes inside the tree
    # Commands that only build the tree's own packages again, with existing dependencies.
    rebuild: tuple[tuple[str, ...], ...] = ()
    # globs of files that this build reads; empty means the whole tree
    made_from: tuple[str, ...] = ()
    reason: str = "nothing to prepare was found"

    @property
    def digest(self) -> str:
        """Digest of everything that affects the content of the environment."""
        commands = map(shlex.join, (*self.commands, *self.rebuild))
        return digest(self.kind, self.script, *commands, *self.inputs, *self.keeps, *self.made_from)

    def joined(self, other: "Setup") -> "Setup":
        """Return a setup that makes what both make."""
        if Setup() in (self, other):
            return other if self == Setup() else self
        kinds = [kind for kind in f"{self.kind}+{other.kind}".split("+") if kind != "none"]
        return Setup(
            kind="+".join(dict.fromkeys(kinds)),
            commands=_once(self.commands, other.commands),
            inputs=_once(self.inputs, other.inputs),
            keeps=_once(self.keeps, other.keeps),
            rebuild=_once(self.rebuild, other.rebuild),
            reason=f"{self.reason}; {other.reason}",
        )

    def shown(self, *, again: bool = False) -> list[str]:
        """Return the commands as a person types them; `venv` stands for the environment.

        `again`: only those that build the tree's own packages.
        """
        lines = []
        for command in self.rebuild if again else self.commands:
            words = []
            for word in command:
                words.append(word.replace("{venv}", "venv").replace("{python}", "python3"))
            lines.append(words[-1] if words[0] == "sh" else shlex.join(words))
        if self.script:
            lines.append(f"sh {self.reason}")
        return lines

    @property
    def inferred(self) -> bool:
        """Whether the setup was inferred from manifests. Otherwise a script describes it."""
        return self.kind not in ("none", "script")

    @property
    def reads_tree(self) -> bool:
        """Whether setup may read more files of the tree than `inputs`."""
        return bool(self.script or self.rebuild or self.builds)

    @property
    def dependencies(self) -> tuple[str, ...]:
        """The folders of dependencies in the tree. They are reused while `inputs` are unchanged."""
        found: list[str] = []
        if self.kind == "script":
            found += DEPENDENCIES
        found += filter(_holds_dependencies, self.keeps)
        return tuple(dict.fromkeys(found))

    @property
    def builds(self) -> tuple[str, ...]:
        """The other paths that setup makes in the tree. They are built separately for each tree."""
        return tuple(path for path in self.keeps if not _holds_dependencies(path))


@dataclass(frozen=True, slots=True)
class Skipped:
    """A step of CI that is not run here, and why not."""

    code: str
    origin: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How to judge one commit. A guard refuses a change of `sources` without permission."""

    gates: tuple[Gate, ...] = ()
    setup: Setup = Setup()
    sources: frozenset[str] = frozenset()
    # files whose content matters, but that are too large to read
    unread: frozenset[str] = frozenset()
    # steps that judge in CI and not here; no verdict depends on them
    skipped: tuple[Skipped, ...] = field(default=(), compare=False)

    def sources_among(self, changed: Iterable[str]) -> frozenset[str]:
        """Return `sources`, and those changed or new paths that an inferred setup would read."""
        if not self.setup.inferred:
            return self.sources
        return self.sources.union(matching(changed, *SETUP_INPUTS, *self.setup.inputs))


def digest(*parts: str) -> str:
    """Return one digest of all parts in their order."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def _once(first: tuple[_T, ...], second: tuple[_T, ...]) -> tuple[_T, ...]:
    """Return all items in their order, each once."""
    return tuple(dict.fromkeys((*first, *second)))


def _holds_dependencies(path: str) -> bool:
    return PurePosixPath(path).name in DEPENDENCIES
