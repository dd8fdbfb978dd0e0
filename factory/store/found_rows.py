"""The rows about settings, and about what factoryd inferred, that `factory config` prints."""

from __future__ import annotations

from factory.store.rows import Row

TYPE_CHECKING = False  # as in rows.py
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Literal


class Setting(Row):
    """The present value of a setting, and its source."""

    value: Any
    """The setting's value; null if it is not set. docs/configuration.md names its unit."""

    source: str
    """The source of the value: the default, factory.toml or an environment variable."""


class FoundGate(Row):
    """A gate that factoryd uses now."""

    name: str
    """The gate's name."""

    command: str
    """The gate's command."""

    reason: str
    """The gate's file, or why factoryd inferred the gate."""


class FoundStep(Row):
    """A step of the project's CI that factoryd does not run."""

    code: str
    """The command, or the name of the whole job."""

    origin: str
    """The file, and the line if it is one step."""

    why: str
    """Why factoryd does not run the step."""


class FoundSetup(Row):
    """How factoryd makes an environment."""

    kind: str
    """The method: pip, uv, npm or script, or several with +. `none` if no setup is needed."""

    reason: str
    """The file that factoryd read the method from."""

    commands: Sequence[str] = ()
    """Its commands, in their order. `venv` stands for the environment of a workspace or bench."""


class Inferred(Row):
    """What factoryd inferred at its last start. Before the first start, it has no keys."""

    gates: Sequence[FoundGate] = ()
    """The gates that factoryd uses now."""

    advisory: Sequence[FoundGate] = ()
    """Inferred checks that fail on trunk. They do not judge until they pass there."""

    skipped: Sequence[FoundStep] = ()
    """Steps that judge in the project's CI and that factoryd does not run."""

    setup: FoundSetup | None = None
    """How factoryd makes an environment."""

    agents: Sequence[str] = ()
    """The runtimes whose programs are installed."""

    runtimes: Sequence[str] = ()
    """All runtimes that have a file."""

    agent: str = ""
    """The runtime for units whose task names none; empty if no runtime is installed."""


class Config(Row):
    """What `factory config --json` prints."""

    schema: Literal[1]
    """The version of this format."""

    settings: Mapping[str, Setting]
    """Every setting by its dotted name, with the value in force."""

    inferred: Inferred
    """What factoryd inferred for everything that is not configured."""

    error: str
    """The error in factory.toml; until it is fixed, the last valid version counts. Else empty."""
