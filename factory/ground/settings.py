"""The settings in factory.toml, all optional, and the place that sets each value.

Invariant: `load` returns only valid settings. For invalid settings, it raises a ConfigError with
the place and the correct form.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, SettingsError

from factory.ground import bounded
from factory.ground.bounded import TooLarge
from factory.ground.errors import ConfigError, did_you_mean
from factory.ground.reserved import NO_AGENT

PREFIX = "FACTORY__"


def _number(value: object) -> object:
    if isinstance(value, bool):  # pydantic would read true and false as 0 and 1
        raise ValueError("true and false are not numbers")
    return value


def _agent(name: str) -> str:
    if name == NO_AGENT:
        raise ValueError("run is not an agent: it stands for units that run a command")
    return name


@dataclass(frozen=True)
class Value:
    """What the manual says about one kind of value: the unit and the allowed values."""

    unit: str
    allowed: str = ""


_MOST = 604_800.0  # the most seconds or minutes
_Count = Annotated[int, BeforeValidator(_number)]
_Time = Annotated[float, BeforeValidator(_number), Field(ge=0, le=_MOST, allow_inf_nan=False)]
_Size = Annotated[float, BeforeValidator(_number), Field(ge=0, le=1e6, allow_inf_nan=False)]
_Cap = Annotated[float | None, BeforeValidator(_number), Field(gt=0, allow_inf_nan=False)]

Whole = Annotated[_Count, Value("number")]
Days = Annotated[_Count, Value("days")]
Seconds = Annotated[_Time, Value("seconds")]
Minutes = Annotated[_Time, Value("minutes")]
Gigabytes = Annotated[_Size, Value("GB")]
Dollars = Annotated[_Cap, Value("dollars")]
MinutesCap = Annotated[_Cap, Value("minutes")]
Tokens = Annotated[int | None, BeforeValidator(_number), Field(gt=0), Value("tokens")]
Name = Annotated[str, Field(pattern=r"^([^-\s]\S*)?$"), Value("name", "a name without blanks")]
Agent = Annotated[Name, AfterValidator(_agent)]
Agents = Annotated[
    tuple[Annotated[str, Field(pattern=r"^[^-\s]\S*$"), AfterValidator(_agent)], ...],
    Value("list", "names of agents, each once"),
]
Names = Annotated[
    tuple[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], ...],
    Value("list", "names of variables"),
]


class Table(BaseModel):
    """A table of the file. Its errors never show a value, because a value could be a secret."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


# The commented factory.toml and the errors show only the first sentence of a description.


class Limits(Table):
    """Limits of an attempt."""

    attempts: Whole = Field(
        default=3,
        ge=1,
        le=100,
        description="How many attempts a unit has before a card asks you. "
        "Interrupted attempts, usage limits and questions do not count.",
    )
    minutes: Minutes = Field(
        default=45, gt=0, description="How long one attempt may take. Fractions are allowed."
    )
    first_event_s: Seconds = Field(
        default=60,
        gt=0,
        description="How long an agent may take until its first output. "
        "factoryd ends an agent that takes longer.",
    )
    silence_s: Seconds = Field(
        default=480,
        gt=0,
        description="How long an agent may print nothing. factoryd then ends it. Time does not "
        "count while a tool call is open or one of its processes uses CPU.",
    )
    memory_gb: Gigabytes = Field(
        default=0,
        description="Memory for one attempt, gate or setup, all processes together. "
        "factoryd measures every two seconds and ends a command that uses more. "
        "0: three quarters of the machine's memory.",
    )
    processes: Whole = Field(
        default=1000,
        ge=1,
        description="How many processes one attempt, gate or setup may have at a time.",
    )
    cpu_minutes: Minutes = Field(
        default=0,
        description="CPU time for one attempt, gate or setup, all processes together. "
        "0: no limit on CPU time. `limits.minutes` and the gate's timeout still apply.",
    )
    disk_gb: Gigabytes = Field(
        default=20,
        gt=0,
        description="Disk space for the folders of one attempt, gate or setup. The environment "
        "counts. No single file may be larger than this.",
    )


class GateLimits(Table):
    """Settings for running gates."""

    benches: Whole = Field(
        default=2,
        ge=1,
        le=64,
        description="How many benches (clean trees for gates) work at the same time.",
    )
    flaky_reruns: Whole = Field(
        default=1,
        ge=0,
        le=10,
        description="How often a red gate runs again on the same tree. "
        "A gate that is red first and then green is *flaky* and counts as green.",
    )
    timeout_s: Seconds = Field(
        default=0,
        description="How long a gate may take. 0: three times the 95th percentile of its earlier "
        "runs, at least 60 seconds. Without earlier runs: 1800 seconds, for a proof on trunk 600.",
    )


class _Merge(Table):
    judge: Literal["tip", "each"] = Field(
        default="tip",
        description="Which commits of a landing the gates judge. "
        "Today they judge each landed commit on its own tree.",
    )
    batch: Whole = Field(default=32, ge=1, le=1000, description="How many units may land together.")
    push: Annotated[str, Value("name", "the name of a remote")] = Field(
        default="", examples=["origin"], description="The remote that landings are pushed to."
    )


class _Review(Table):
    wip: Whole = Field(
        default=4,
        ge=1,
        le=1000,
        description="How many reviews may wait before factoryd starts fewer units.",
    )


class Budget(Table):
    """Limits on spending; a missing key means no limit."""

    attempt_usd: Dollars = Field(
        default=None, examples=[1.0], description="What one attempt may cost."
    )
    unit_usd: Dollars = Field(
        default=None, examples=[2.0], description="What all attempts of one unit may cost together."
    )
    day_usd: Dollars = Field(
        default=None,
        examples=[50.0],
        description="What all attempts that end on one day (UTC) may cost together.",
    )
    attempt_tokens: Tokens = Field(
        default=None,
        examples=[2_000_000],
        description="Tokens for one attempt, input and output together.",
    )
    unit_tokens: Tokens = Field(
        default=None, examples=[5_000_000], description="Tokens for all attempts of one unit."
    )
    day_tokens: Tokens = Field(
        default=None,
        examples=[100_000_000],
        description="Tokens for all attempts that end on one day (UTC).",
    )
    unit_minutes: MinutesCap = Field(
        default=None,
        examples=[120],
        description="Working time of agents on one unit, all attempts together.",
    )
    day_minutes: MinutesCap = Field(
        default=None,
        examples=[600],
        description="Working time of all agents in attempts that end on one day (UTC).",
    )


class _Sandbox(Table):
    mode: Literal["auto", "required", "off"] = Field(
        default="auto",
        description="Whether agents, setup and gates run in a sandbox. "
        '`"auto"`: use bubblewrap (on a Mac: sandbox-exec) if a trial at start shows that it '
        'works; `status` warns if it does not. `"required"`: refuse to start without a sandbox. '
        '`"off"`: never use one.',
    )


class _Env(Table):
    passed: Names = Field(
        default=(),
        alias="pass",
        examples=[["NAME"]],
        description="More environment variables for setup, gates and `run` commands.",
    )


class _Keep(Table):
    days: Days = Field(
        default=30,
        ge=0,
        le=36_500,
        description="How long to keep files of finished units: run folders, logs of gates, and "
        "workspaces that were put aside. Older journal entries are compacted, and older evidence "
        "shortened. 0: for ever. The commits of attempts always stay in the factory repository.",
    )


class _Notify(Table):
    urls: Names = Field(
        default=(),
        examples=[["NAME"]],
        description="Environment variables that hold the addresses for notifications.",
    )


class Settings(BaseSettings):
    """All settings, with a default for each missing key."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
    workers: Whole = Field(
        default=3, ge=1, le=64, description="How many units run at the same time."
    )
    agent: Agent = Field(
        default="",
        examples=["claude"],
        description="The agent for units that name none. Empty: the first installed one. Your "
        "repository's own come before the shipped ones. Shipped ones that cannot continue a "
        "session come last.",
    )
    fallback: Agents = Field(
        default=(),
        examples=[["codex"]],
        description="Agents that take over, in this order, while `agent` cannot work. It cannot "
        "work while it is paused (usage limit, trouble at the provider), not logged in or not "
        "installed. They take units that name neither agent nor model. When `agent` works again, "
        "it gets these units back.",
    )
    trunk: Name = Field(
        default="",
        examples=["main"],
        description="The branch that units land on. Empty: the branch that is checked out at the "
        "first start. A change applies after `factoryd restart`.",
    )
    limits: Limits = Limits()
    gates: GateLimits = GateLimits()
    merge: _Merge = _Merge()
    review: _Review = _Review()
    budget: Budget = Budget()
    sandbox: _Sandbox = _Sandbox()
    env: _Env = _Env()
    notify: _Notify = _Notify()
    keep: _Keep = _Keep()
    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: Any, init_settings: Any, *_: Any, **__: Any
    ) -> tuple[Any, ...]:
        """Use only the values from `load`, because `load` knows the place of each value."""
        return (init_settings,)


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _fields(field.annotation, f"{name}.")
        else:
            yield prefix + (field.alias or name), field


KEYS: Mapping[str, FieldInfo] = dict(_fields(Settings))  # every setting by its dotted key
NOT_YET: Mapping[str, str] = {  # not available yet: only the default is allowed
    "merge.judge": "judging every single commit",
    "merge.batch": "another size of landings",
    "merge.push": "landing by push",
    "review.wip": "another limit of waiting reviews",
    "notify.urls": "notifications",
}


def load(path: Path, env: Mapping[str, str]) -> Settings:
    """Return the settings from the file, if any; FACTORY__ variables in `env` override them.

    Raises ConfigError with one line for each error.
    """
    text, written = _written(path)
    given = _given(env)
    origins = {key: path.name + _line(text, key) for key in _flat(written)}
    origins |= {key: variable(key) for key in _flat(given)}
    try:
        settings = Settings(**_over(written, given))
    except ValidationError as error:
        lines = []
        for wrong in error.errors():
            key = ".".join(part for part in wrong["loc"] if isinstance(part, str))
            place = origins.get(key) or path.name + _line(text, key)
            lines.append(f"{place}: {_sentence(key, wrong)}")
        raise ConfigError("\n".join(lines)) from None
    _refuse_what_is_not_built(settings, origins)
    _refuse_a_repeated_agent(settings, origins)
    settings._origins.update(origins)
    return settings


def summary(field: FieldInfo) -> str:
    """Return the first sentence of a setting's description."""
    first, _, _ = (field.description or "").partition(". ")
    return first.removesuffix(".")


def explain(settings: Settings) -> dict[str, tuple[Any, str]]:
    """Return each key's value and place: a line of the file, a variable, or "default"."""
    values = _flat(settings.model_dump(mode="json", by_alias=True))
    return {key: (value, settings._origins.get(key, "default")) for key, value in values.items()}


def template() -> str:
    """Return a factory.toml with every key, its default and its meaning; all are commented out."""
    lines = ["# Settings of factoryd. Every key is optional. An edit applies within a second.", ""]
    group = ""
    for key, field in KEYS.items():
        table, _, name = key.rpartition(".")
        if table != group:
            lines += ["", f"[{table}]"]
            group = table
        later = " (not available yet)" if key in NOT_YET else ""
        setting = f"# {name} = {_form(field)}"
        lines.append(f"{setting:<28}# {summary(field)}{later}")
    return "\n".join(lines) + "\n"


def _refuse_what_is_not_built(settings: Settings, origins: Mapping[str, str]) -> None:
    values = _flat(settings.model_dump(by_alias=True))
    for key, what in NOT_YET.items():
        if values[key] != KEYS[key].default:
            raise ConfigError(f"{origins[key]}: not yet: {what} ({key}); leave the key out for now")


def _refuse_a_repeated_agent(settings: Settings, origins: Mapping[str, str]) -> None:
    names = [settings.agent, *settings.fallback]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f"{origins['fallback']}: fallback: {name} would stand in for itself; "
                "name each agent once"
            )


def _written(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = bounded.whole(path, bounded.PARSED).decode("utf-8-sig")
        lines = text.replace("\r\n", "\n")
        return lines, tomllib.loads(lines)
    except FileNotFoundError:
        return "", {}
    except TooLarge as error:
        raise ConfigError(f"{path.name} cannot be read: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path.name} cannot be read: {error}; it has to be a text file in UTF-8"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path.name} is not TOML: {error}; the form of a line is: key = value"
        ) from error


def _given(env: Mapping[str, str]) -> dict[str, Any]:
    """Return the values of FACTORY__ variables by table; raise ConfigError for unknown names."""
    mine = {name.upper(): value for name, value in env.items() if name.upper().startswith(PREFIX)}
    names = {variable(key): key for key in KEYS}
    for name in sorted(mine.keys() - names.keys()):
        raise ConfigError(
            f"the environment variable {name} names no setting{did_you_mean(name, names)}"
        )
    source = EnvSettingsSource(Settings, env_prefix=PREFIX, env_nested_delimiter="__")
    source.env_vars = {name.lower(): value for name, value in mine.items()}
    try:
        return source()
    except SettingsError:
        lists = [name for name in sorted(mine) if KEYS[names[name]].default == ()]
        forms = ", ".join(f"{name}='[\"NAME\"]'" for name in lists)
        raise ConfigError(f"a list in the environment has to be written in JSON: {forms}") from None


def variable(key: str) -> str:
    """Return the environment variable that sets the key."""
    return PREFIX + key.upper().replace(".", "__")


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge both by table. `above` wins. If it has a value in place of a table, keep the error."""
    out = dict(below)
    for name, value in above.items():
        table = below.get(name, {})
        if not isinstance(value, dict):
            out[name] = value
        elif isinstance(table, dict):
            out[name] = table | value
    return out


def _flat(nested: Mapping[str, Any]) -> dict[str, Any]:
    out = dict[str, Any]()
    for name, value in nested.items():
        if not isinstance(value, dict):
            out[name] = value
            continue
        for inner, at in value.items():
            out[f"{name}.{inner}"] = at
    return out


def _line(text: str, key: str) -> str:
    """Return the line that sets `key`, or the line of its table; empty if no such line is found."""
    table = ""
    near = ""
    for number, line in enumerate(re.sub("[\"']", "", text).splitlines(), start=1):
        header = re.match(r"\s*\[([^\[\]]+)\]", line)
        if header:
            table = header[1].strip()
            found = table
        else:
            name = line.partition("=")[0].strip()
            found = f"{table}.{name}".removeprefix(".")
        if found == key:
            return f" line {number}"
        if key.startswith(f"{found}."):
            near = f" line {number}"
    return near


def _sentence(key: str, wrong: ErrorDetails) -> str:
    tables = {name.partition(".")[0] for name in KEYS if "." in name}
    if wrong["type"] == "extra_forbidden":
        return f"unknown key {key}{did_you_mean(key, [*KEYS, *sorted(tables)])}"
    if key in tables:
        return f"{key} is a table; the form is: [{key}] on a line of its own, and its keys below"
    table, _, name = key.rpartition(".")
    form = f"{name} = {_form(KEYS[key])}"
    if table:
        form += f" below [{table}]"
    return f"{key}: {_reason(wrong)}; the correct form: {form}  # {summary(KEYS[key])}"


def _reason(wrong: ErrorDetails) -> str:
    if wrong["type"] == "string_pattern_mismatch":
        return "a name was expected, without blanks"
    reason = wrong["msg"].removeprefix("Value error, ")
    return reason.replace("Input should", "it has to").replace("valid tuple", "list")


def _form(field: FieldInfo) -> str:
    """Return an example in TOML's syntax (also valid JSON); without an example, the default."""
    return json.dumps(field.examples[0] if field.examples else field.default)
