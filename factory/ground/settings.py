"""The settings in force, with the place that sets each value; settings_file.py reads them.

Invariant: this module does not import pydantic, because the daemon would keep it in memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of an attempt."""

    attempts: int = 3
    minutes: float = 45
    first_event_s: float = 60
    silence_s: float = 480
    memory_gb: float = 0
    processes: int = 1000
    cpu_minutes: float = 0
    disk_gb: float = 20


@dataclass(frozen=True, kw_only=True)
class GateLimits:
    """Settings for running gates."""

    benches: int = 2
    flaky_reruns: int = 1
    timeout_s: float = 0


@dataclass(frozen=True, kw_only=True)
class Merge:
    """How units land."""

    judge: Literal["tip", "each"] = "tip"
    batch: int = 32
    push: str = ""


@dataclass(frozen=True, kw_only=True)
class Review:
    """Limits of reviews."""

    wip: int = 4


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits on spending; None means no limit."""

    attempt_usd: float | None = None
    unit_usd: float | None = None
    day_usd: float | None = None
    attempt_tokens: int | None = None
    unit_tokens: int | None = None
    day_tokens: int | None = None
    unit_minutes: float | None = None
    day_minutes: float | None = None


@dataclass(frozen=True, kw_only=True)
class Confinement:
    """Whether commands run in a sandbox."""

    mode: Literal["auto", "required", "off"] = "auto"


@dataclass(frozen=True, kw_only=True)
class Env:
    """Variables for setup, gates and `run` commands."""

    passed: tuple[str, ...] = ()  # `pass` in the file; that word is reserved in Python


@dataclass(frozen=True, kw_only=True)
class Notify:
    """Where notifications go."""

    urls: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Keep:
    """How long files of finished units are kept."""

    days: int = 30


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings, with a default for each missing key."""

    workers: int = 3
    agent: str = ""
    fallback: tuple[str, ...] = ()
    trunk: str = ""
    limits: Limits = Limits()
    gates: GateLimits = GateLimits()
    merge: Merge = Merge()
    review: Review = Review()
    budget: Budget = Budget()
    sandbox: Confinement = Confinement()
    env: Env = Env()
    notify: Notify = Notify()
    keep: Keep = Keep()
    # dotted key → the line of the file or the variable that sets it; a missing key has its default
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)


def flat(settings: Settings) -> dict[str, Any]:
    """Return the value of each setting by its dotted key."""
    found = dict[str, Any]()
    for each in fields(settings):
        value = getattr(settings, each.name)
        if is_dataclass(value):
            for inner in fields(value):
                found[f"{each.name}.{_in_file(inner.name)}"] = getattr(value, inner.name)
        elif each.name != "sources":
            found[each.name] = value
    return found


def nested(values: Mapping[str, Any], sources: Mapping[str, str]) -> Settings:
    """Return the settings with these valid values by dotted key: the reverse of `flat`."""
    tops = dict[str, Any]()
    tables = dict[str, dict[str, Any]]()
    for key, value in values.items():
        plain = tuple(value) if isinstance(value, list) else value
        table, _, name = key.rpartition(".")
        if table:
            tables.setdefault(table, {})[_in_python(name)] = plain
        else:
            tops[name] = plain
    settings = Settings(sources=sources, **tops)
    for table, given in tables.items():
        tops[table] = replace(getattr(settings, table), **given)
    return replace(settings, **tops)


def explain(settings: Settings) -> dict[str, tuple[Any, str]]:
    """Return each key's value and place: a line of the file, a variable, or "default"."""
    explained = {}
    for key, value in flat(settings).items():
        shown = list(value) if isinstance(value, tuple) else value
        explained[key] = (shown, settings.sources.get(key, "default"))
    return explained


def _in_file(name: str) -> str:
    return "pass" if name == "passed" else name


def _in_python(name: str) -> str:
    return "passed" if name == "pass" else name
