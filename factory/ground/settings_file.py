"""Reads factory.toml and the FACTORY__ variables, and describes every setting.

Invariant: `load` returns only valid settings. For invalid settings, it raises a ConfigError with
the place and the correct form. Only this module imports pydantic.
"""

import json
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
    ValidationError,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, SettingsError

from factory.ground import bounded, settings
from factory.ground.bounded import TooLarge
from factory.ground.errors import ConfigError, did_you_mean
from factory.ground.reserved import NO_AGENT, PERSON
from factory.ground.settings import Settings, flat, nested
from factory.ground.toml_lines import line_of

PREFIX = "FACTORY__"


def _number(value: object) -> object:
    if isinstance(value, bool):  # pydantic would read true and false as 0 and 1
        raise ValueError("true and false are not numbers")
    return value


def _agent(name: str) -> str:
    if name == NO_AGENT:
        raise ValueError("run is not an agent: it stands for units that run a command")
    if name == PERSON:
        raise ValueError("person is not an agent: it stands for work that a person submitted")
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


class _Table(BaseModel):
    """A table of the file. Its errors never show a value, because a value could be a secret."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


# The commented factory.toml and the errors show only the first sentence of a description.


class _Limits(_Table):
    """Limits of an attempt."""

    attempts: Whole = Field(
        default=settings.Limits.attempts,
        ge=1,
        le=100,
        description="How many attempts a unit has before a card asks you. "
        "Interrupted attempts, usage limits and questions do not count.",
    )
    minutes: Minutes = Field(
        default=settings.Limits.minutes,
        gt=0,
        description="How long one attempt may take. Fractions are allowed.",
    )
    first_event_s: Seconds = Field(
        default=settings.Limits.first_event_s,
        gt=0,
        description="How long an agent may take until its first output. "
        "factoryd ends an agent that takes longer.",
    )
    silence_s: Seconds = Field(
        default=settings.Limits.silence_s,
        gt=0,
        description="How long an agent may print nothing. factoryd then ends it. Time does not "
        "count while a tool call is open or one of its processes uses CPU.",
    )
    memory_gb: Gigabytes = Field(
        default=settings.Limits.memory_gb,
        description="Memory for one attempt, gate or setup, all processes together. "
        "factoryd measures every two seconds and ends a command that uses more. "
        "0: three quarters of the machine's memory.",
    )
    processes: Whole = Field(
        default=settings.Limits.processes,
        ge=1,
        description="How many processes one attempt, gate or setup may have at a time.",
    )
    cpu_minutes: Minutes = Field(
        default=settings.Limits.cpu_minutes,
        description="CPU time for one attempt, gate or setup, all processes together. "
        "0: no limit on CPU time. `limits.minutes` and the gate's timeout still apply.",
    )
    disk_gb: Gigabytes = Field(
        default=settings.Limits.disk_gb,
        gt=0,
        description="Disk space for the folders of one attempt, gate or setup. The environment "
        "counts. No single file may be larger than this.",
    )


class _Gates(_Table):
    """Settings for running gates."""

    benches: Whole = Field(
        default=settings.GateLimits.benches,
        ge=1,
        le=64,
        description="How many benches (clean trees for gates) work at the same time.",
    )
    flaky_reruns: Whole = Field(
        default=settings.GateLimits.flaky_reruns,
        ge=0,
        le=10,
        description="How often a red gate runs again on the same tree. "
        "A gate that is red first and then green is *flaky* and counts as green.",
    )
    timeout_s: Seconds = Field(
        default=settings.GateLimits.timeout_s,
        description="How long a gate may take. 0: three times the 95th percentile of its earlier "
        "runs, at least 60 seconds. Without earlier runs: 1800 seconds, for a proof on trunk 600.",
    )


class _Merge(_Table):
    judge: Literal["tip", "each"] = Field(
        default=settings.Merge.judge,
        description="Which commits of a landing the gates judge. "
        "Today they judge each landed commit on its own tree.",
    )
    batch: Whole = Field(
        default=settings.Merge.batch,
        ge=1,
        le=1000,
        description="How many units may land together.",
    )
    push: Annotated[str, Value("name", "the name of a remote")] = Field(
        default=settings.Merge.push,
        examples=["origin"],
        description="The remote that landings are pushed to.",
    )


class _Review(_Table):
    wip: Whole = Field(
        default=settings.Review.wip,
        ge=1,
        le=1000,
        description="How many reviews may wait before factoryd starts fewer units.",
    )


class _Budget(_Table):
    """Limits on spending; a missing key means no limit."""

    attempt_usd: Dollars = Field(
        default=settings.Budget.attempt_usd,
        examples=[1.0],
        description="What one attempt may cost.",
    )
    unit_usd: Dollars = Field(
        default=settings.Budget.unit_usd,
        examples=[2.0],
        description="What all attempts of one unit may cost together.",
    )
    day_usd: Dollars = Field(
        default=settings.Budget.day_usd,
        examples=[50.0],
        description="What all attempts that end on one day (UTC) may cost together.",
    )
    attempt_tokens: Tokens = Field(
        default=settings.Budget.attempt_tokens,
        examples=[2_000_000],
        description="Tokens for one attempt, input and output together.",
    )
    unit_tokens: Tokens = Field(
        default=settings.Budget.unit_tokens,
        examples=[5_000_000],
        description="Tokens for all attempts of one unit.",
    )
    day_tokens: Tokens = Field(
        default=settings.Budget.day_tokens,
        examples=[100_000_000],
        description="Tokens for all attempts that end on one day (UTC).",
    )
    unit_minutes: MinutesCap = Field(
        default=settings.Budget.unit_minutes,
        examples=[120],
        description="Working time of agents on one unit, all attempts together.",
    )
    day_minutes: MinutesCap = Field(
        default=settings.Budget.day_minutes,
        examples=[600],
        description="Working time of all agents in attempts that end on one day (UTC).",
    )


class _Sandbox(_Table):
    mode: Literal["auto", "required", "off"] = Field(
        default=settings.Confinement.mode,
        description="Whether agents, setup and gates run in a sandbox. "
        '`"auto"`: use bubblewrap (on a Mac: sandbox-exec) if a trial at start shows that it '
        'works; `status` warns if it does not. `"required"`: refuse to start without a sandbox. '
        '`"off"`: never use one.',
    )


class _Env(_Table):
    passed: Names = Field(
        default=settings.Env.passed,
        alias="pass",
        examples=[["NAME"]],
        description="More environment variables for setup, gates and `run` commands.",
    )


class _Keep(_Table):
    days: Days = Field(
        default=settings.Keep.days,
        ge=0,
        le=36_500,
        description="How long to keep files of finished units: run folders, logs of gates, and "
        "workspaces that were put aside. Older journal entries are compacted, and older evidence "
        "shortened. 0: for ever. The commits of attempts always stay in the factory repository.",
    )


class _Notify(_Table):
    urls: Names = Field(
        default=settings.Notify.urls,
        examples=[["NAME"]],
        description="Environment variables that hold the addresses for notifications.",
    )


class _Settings(BaseSettings):
    """All settings, with a default for each missing key."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
    workers: Whole = Field(
        default=Settings.workers, ge=1, le=64, description="How many units run at the same time."
    )
    agent: Agent = Field(
        default=Settings.agent,
        examples=["claude"],
        description="The agent for units that name none. Empty: the first installed one. Your "
        "repository's own come before the shipped ones. Shipped ones that cannot continue a "
        "session come last.",
    )
    fallback: Agents = Field(
        default=Settings.fallback,
        examples=[["codex"]],
        description="Agents that take over, in this order, while `agent` cannot work. It cannot "
        "work while it is paused (usage limit, trouble at the provider), not logged in or not "
        "installed. They take units that name neither agent nor model. When `agent` works again, "
        "it gets these units back.",
    )
    trunk: Name = Field(
        default=Settings.trunk,
        examples=["main"],
        description="The branch that units land on. Empty: the branch that is checked out at the "
        "first start. A change applies after `factoryd restart`.",
    )
    limits: _Limits = _Limits()
    gates: _Gates = _Gates()
    merge: _Merge = _Merge()
    review: _Review = _Review()
    budget: _Budget = _Budget()
    sandbox: _Sandbox = _Sandbox()
    env: _Env = _Env()
    notify: _Notify = _Notify()
    keep: _Keep = _Keep()

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


KEYS: Mapping[str, FieldInfo] = dict(_fields(_Settings))  # every setting by its dotted key
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
    origins = {key: path.name + line_of(text, key) for key in _flat(written)}
    origins |= {key: variable(key) for key in _flat(given)}
    try:
        read = _Settings(**_over(written, given))
    except ValidationError as error:
        lines = []
        for wrong in error.errors():
            key = ".".join(part for part in wrong["loc"] if isinstance(part, str))
            place = origins.get(key) or path.name + line_of(text, key)
            lines.append(f"{place}: {_sentence(key, wrong)}")
        raise ConfigError("\n".join(lines)) from None
    chosen = nested(_flat(read.model_dump(by_alias=True)), origins)
    _refuse_what_is_not_built(chosen, origins)
    _refuse_a_repeated_agent(chosen, origins)
    return chosen


def summary(field: FieldInfo) -> str:
    """Return the first sentence of a setting's description."""
    first, _, _ = (field.description or "").partition(". ")
    return first.removesuffix(".")


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


def _refuse_what_is_not_built(chosen: Settings, origins: Mapping[str, str]) -> None:
    values = flat(chosen)
    for key, what in NOT_YET.items():
        if values[key] != KEYS[key].default:
            raise ConfigError(f"{origins[key]}: not yet: {what} ({key}); leave the key out for now")


def _refuse_a_repeated_agent(chosen: Settings, origins: Mapping[str, str]) -> None:
    names = [chosen.agent, *chosen.fallback]
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
    source = EnvSettingsSource(_Settings, env_prefix=PREFIX, env_nested_delimiter="__")
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
