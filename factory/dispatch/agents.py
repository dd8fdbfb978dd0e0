"""Finds the agents that this line can use now: runtime files whose programs are installed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from factory.agents.runtime import Runtime, find
from factory.agents.runtime_file import parse_runtime
from factory.ground.conventions import Conventions
from factory.ground.errors import ConfigError, did_you_mean
from factory.ground.reserved import NO_AGENT, TAKEN


@dataclass(frozen=True, slots=True)
class Agents:
    """The agents by name, and the agent that stands in for the default agent."""

    default: str  # the agent for units that name none; "": none is installed
    missing: Mapping[str, str]  # agents that cannot be used, each with the reason
    installed: tuple[str, ...] = ()
    unknown: frozenset[str] = frozenset()  # names in factory.toml without a runtime file
    fallback: tuple[str, ...] = ()  # agents that stand in for a paused default, in this order
    modelless: frozenset[str] = frozenset()  # agents whose command has no `{model}`
    deputy: str = ""  # the agent of the fallback that stands in now
    because: str = ""  # why it stands in

    @property
    def acting(self) -> str:
        """Return the agent for units that name none."""
        return self.deputy or self.default

    def deputized(self, stopped: Mapping[str, datetime], at: datetime) -> "Agents":
        """Return each agent with its deputy: one that is not paused, or whose pause ends first."""
        able = [name for name in (self.default, *self.fallback) if not self.trouble(name)]
        first = min(able, key=lambda name: stopped.get(name, at), default=self.default)
        return replace(self, deputy="" if first == self.default else first)

    def trouble(self, name: str) -> str:
        """Return why the agent cannot be used, or ""; the name "" means that none is installed."""
        if not name:
            return (
                "No agent program is installed: install claude or codex, or name another in "
                "factory.toml (`agent`)."
            )
        if name in self.installed:
            return ""
        known = {*self.installed, *self.missing} - self.unknown
        return self.missing.get(name) or _unknown(name, known)


def shell_runtime(command: str) -> Runtime:
    """Return the runtime for a unit with `run`: a shell that runs this command."""
    return Runtime(name=NO_AGENT, command=("sh", "-c", command))


def the_runtime(name: str, conventions: Conventions) -> Runtime:
    """Return the runtime; raise ConfigError if it is missing or its file is wrong."""
    file = conventions.runtimes.get(name)
    if file is None:
        raise ConfigError(_unknown(name, conventions.runtimes))
    if name in TAKEN:
        raise ConfigError(
            f"{file.where}: the name {name} is reserved for units without an agent; "
            "give the runtime another name"
        )
    return parse_runtime(name, file.text, where=file.where)


def find_agents(
    conventions: Conventions,
    *,
    configured: str,
    path: str,
    root: Path,
    fallback: Sequence[str] = (),
) -> Agents:
    """Look for every runtime's program; the default is the configured one, or the first found."""
    missing = {}
    for name in conventions.runtimes:
        why = _why_missing(name, conventions, path, root)
        if why:
            missing[name] = why
    found = [name for name in conventions.runtimes if name not in missing]
    runtimes = {name: the_runtime(name, conventions) for name in found}
    unknown = frozenset({configured, *fallback} - conventions.runtimes.keys() - {""})
    for name in unknown:
        meant = did_you_mean(name, conventions.runtimes) or "."
        missing[name] = (
            f"factory.toml names the agent {name!r}, but there is no runtime file for it{meant}"
        )

    def comes_last(name: str) -> bool:  # a shipped agent that cannot continue a session
        return conventions.runtimes[name].is_shipped and not runtimes[name].resume

    installed = sorted(found, key=comes_last)
    modelless = []
    for name, runtime in runtimes.items():
        if "{model}" not in str(runtime.command):
            modelless.append(name)
    return Agents(
        default=configured or (installed[0] if installed else ""),
        missing=missing,
        installed=tuple(installed),
        unknown=unknown,
        fallback=tuple(fallback),
        modelless=frozenset(modelless),
    )


def _unknown(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    meant = did_you_mean(name, names) or "."
    there = ", ".join(names) or "none"
    return f"There is no runtime {name!r}{meant} The runtimes are {there}."


def _why_missing(name: str, conventions: Conventions, path: str, root: Path) -> str:
    try:
        runtime = the_runtime(name, conventions)
    except ConfigError as error:
        return str(error)
    if find(runtime.program, path=path, root=root):
        return ""
    where = "it is not on PATH"
    if "/" in runtime.program:
        where = "that file is missing or not executable"
    return f"The program of agent {name}, {runtime.program!r}, is not installed: {where}."
