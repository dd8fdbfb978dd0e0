"""A runtime: a file that says how to run an agent's command, and how to read its output.

Invariant: this code has no special case for any agent; all differences are in the runtime files.
"""

import os
import re
import shutil
import tomllib
from collections.abc import Mapping
from fnmatch import filter as fnmatch_filter
from functools import lru_cache
from itertools import chain, product
from pathlib import Path, PurePath
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from factory.ground.configuration import kept
from factory.ground.errors import ConfigError, did_you_mean
from factory.ground.places import home
from factory.ground.selectors import Selector, selector

PLACEHOLDERS = (
    "prompt",
    "prompt_file",
    "workspace",
    "session",
    "model",
    "outbox",
    "run_dir",
    "resume",
    "budget",
)
_THE_PROMPT = frozenset({"prompt", "prompt_file"})
_NEVER_EMPTY = _THE_PROMPT | {"workspace", "outbox", "run_dir"}
# Every agent gets these environment variables of the daemon.
ALWAYS = ("PATH", "HOME", "LANG", "LC_*", "SHELL", "USER", "LOGNAME")
LONG_PROMPT = 100 << 10  # bytes; Linux allows 128 KiB for one argument
OWN = "own"  # {run_dir}: a folder in the run dir where the agent may write, for example its report
_LONG_NAME = 255  # bytes of the longest file name that Linux allows
_WORDS = re.compile(r"\{([a-z_]+)\}")


Selectors = Annotated[
    tuple[Annotated[Selector, BeforeValidator(selector)], ...],
    BeforeValidator(lambda value: value if isinstance(value, list) else [value]),
]
Price = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
AnyCase = AfterValidator(lambda pattern: re.compile(pattern.pattern, re.IGNORECASE))
Patterns = tuple[Annotated[re.Pattern[str], AnyCase], ...]


def _below(said: str) -> str:
    if said[:1] == "/" or ".." in said.split("/") or not said.strip("$"):
        raise ValueError(
            f'"{said}" has to be a folder in HOME, such as ".claude", or "$NAME/folder"'
        )
    return said


def _in_home(files: Mapping[str, str]) -> Mapping[str, str]:
    for said in files:
        parts = said.split("/")
        odd = said[:1] in ("", "/", "~", "$") or "\0" in said or {"", ".", ".."} & set(parts)
        if odd or max(map(len, map(str.encode, parts))) > _LONG_NAME:
            raise ValueError(
                f'"{said}" has to be a file in HOME, such as ".config/tool/settings.json"'
            )
        for other in files:
            if said.startswith(f"{other}/"):
                raise ValueError(f'"{other}" cannot be a file and the folder of "{said}"')
    return files


Folder = Annotated[str, AfterValidator(_below)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StopRules(_Table):
    """The first step to stop the agent. The last step always sends SIGKILL to all its processes."""

    signal: Literal["TERM", "INT", "HUP", "QUIT"] = "TERM"
    grace_s: float = Field(default=5, ge=0, le=60)


class UsageRules(_Table):
    """Where the output reports tokens and cost. The values of several selectors are added up."""

    # What each number means: a total of the run, a total of the whole session, or one part of a
    # sum.
    mode: Literal["run", "thread", "step"] = "run"
    input: Selectors = ()
    output: Selectors = ()
    cost: Selectors = ()
    # Model → the dollars for a million input tokens and for a million output tokens.
    price: Mapping[str, tuple[Price, Price]] = Field(default_factory=dict)


class OutputRules(_Table):
    """How to read the output. If a selector finds several values, the last one counts."""

    format: Literal["text", "jsonl"] = "text"
    progress: Selectors = ()  # events that show activity; empty: all events
    session: Selectors = ()
    tool_open: Selectors = ()  # the id of a tool call
    tool_close: Selectors = ()
    # CPU cores that the agent uses while it waits
    idle_cpu: float = Field(default=0.1, ge=0, le=64)
    usage: UsageRules = UsageRules()
    # an action, without numbers that grow; if a few actions repeat, the agent is in a loop
    step: Selectors = ()
    step_text: Patterns = ()  # the same as `step`, for plain text
    looped: Selectors = ()  # events in which the agent reports that it was in a loop
    result: Selectors = ()
    # the result consists of all pieces of text after the last tool call, joined
    joined: bool = False
    # name of a JSON file that the agent writes into its run dir at its end; it is one more event
    report: str = ""
    # This pattern must match the end of the agent's plain text. Without a match, the run failed,
    # and the text may say why.
    done_text: Patterns = ()
    failed: Selectors = ()  # shows a failure: a true value, or an event that exists
    done_if: Selectors = ()  # shows the final message; without such a message, the run was cut off
    error: Selectors = ()


class LimitRules(_Table):
    """How the agent reports a usage limit, an overloaded server or a missing login."""

    # Patterns for the agent's error text. A group `reset` is an epoch, a number of seconds from
    # now, or a clock time in UTC.
    patterns: Patterns = ()
    reset: Selectors = ()  # the epoch at which the limit ends
    # an HTTP status: 429 and 5xx mean a limit, 401 and 403 mean a missing login
    status: Selectors = ()
    login: Patterns = ()


class DoctorRules(_Table):
    """What `factory doctor --agent` checks, and its advice for a person."""

    install: str = ""  # the command line that installs the program
    version: tuple[str, ...] = ("--version",)
    # The newest version that factoryd was tested with.
    known_good: Annotated[str, Field(pattern=r"^(\d+(\.\d+)*)?$")] = ""
    login: str = ""  # how a person logs in
    # Signs of a login: names of files in HOME (with a slash) or of variables (`*` allowed).
    logged_in: tuple[str, ...] = ()


class Notes(_Table):
    """Keys of a runtime file that only people use. factoryd checks only their form."""

    instructions: str = ""  # the file with instructions that the program reads by itself
    exit: Mapping[str, str] = Field(default_factory=dict)  # exit code → its meaning


class Runtime(_Table):
    """The content of one runtime file."""

    name: str
    command: tuple[str | tuple[str, ...], ...] = Field(min_length=1)
    # None: the prompt, unless the command line contains it
    stdin: Literal["prompt", "none"] | None = None
    resume: tuple[str, ...] = ()  # empty: sessions of this agent cannot be continued
    env: tuple[str, ...] = ()  # names of the variables that the agent gets; `*` is allowed
    set: Mapping[str, str] = Field(default_factory=dict)
    # Files that factoryd writes into the agent's own HOME.
    files: Annotated[Mapping[str, str], AfterValidator(_in_home)] = Field(default_factory=dict)
    # Folders with the agent's login, in the user's HOME or in the folder that the variable `$NAME`
    # names.
    home: tuple[Folder, ...] = ()
    # Globs of files in the agent's own HOME that factoryd keeps after the unit's end.
    keep: Annotated[tuple[str, ...], AfterValidator(kept)] = ()
    network: Literal["open", "none"] = "open"
    stop: StopRules = StopRules()
    output: OutputRules = OutputRules()
    limit: LimitRules = LimitRules()
    doctor: DoctorRules = DoctorRules()

    @model_validator(mode="after")
    def _own_files_only(self) -> Self:
        for folder, name in product(map(PurePath, self.home), self.files):
            if folder.is_relative_to(name) or PurePath(name).is_relative_to(folder):
                raise ValueError(
                    f'files: "{name}" would be written into the user\'s own {folder}, '
                    "which `home` names"
                )
        return self

    @model_validator(mode="after")
    def _is_told(self) -> Self:
        if self.stdin == "none" and not self._names_the_prompt:
            raise ValueError(
                'stdin = "none", and the command names neither {prompt} nor {prompt_file}: '
                "the agent would not get its task. "
                'Write stdin = "prompt", or name one of them in the command.'
            )
        return self

    @property
    def reads_stdin(self) -> bool:
        """Whether the agent reads the prompt from its standard input."""
        return self.stdin == "prompt" or (self.stdin is None and not self._names_the_prompt)

    @property
    def _names_the_prompt(self) -> bool:
        """Whether every command line has the prompt or its file, even without optional groups."""
        return any(map(_is_told_by, self.command))

    @property
    def program(self) -> str:
        """The program that must be installed."""
        return _group(self.command[0])[0]


_NOTES = Notes.model_fields.keys()
_KEYS = sorted(chain.from_iterable(table.model_fields for table in _Table.__subclasses__()))


@lru_cache(maxsize=64)  # cached, because the pool calls this pure function on every pass
def parse_runtime(name: str, text: str, *, where: str) -> Runtime:
    """Return the runtime of a file; raise ConfigError with place, key and correct form."""
    try:
        values = {"name": name} | tomllib.loads(text)
        Notes.model_validate({key: values.pop(key) for key in _NOTES & values.keys()})
        runtime = Runtime.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_sentence(error)}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: {error}") from None
    for part in (*runtime.command, runtime.resume):
        for word in _placeholders(part):
            if word not in PLACEHOLDERS:
                hint = did_you_mean(word, PLACEHOLDERS)
                raise ConfigError(f"{where}: command: {{{word}}} is not known{hint}")
    return runtime


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    told = first["msg"].removeprefix("Value error, ")
    loc = first["loc"]
    if not loc:  # the error concerns several keys
        return told
    names = [part for part in loc if isinstance(part, str) and "[" not in part and part != "str"]
    key = ".".join(names)
    if first["type"] == "extra_forbidden":
        return f"{key} is not known{did_you_mean(str(loc[-1]), _KEYS)}"
    return f"{key}: {told.replace('valid tuple', 'list')}"


def find(command: str, *, path: str, root: Path) -> Path | None:
    """Return the program's path, or None. `command`: a name on `path`, or a path below `root`."""
    # Relative folders in `path` do not count, because the daemon and a workspace would find
    # different folders.
    fixed = os.pathsep.join(folder for folder in path.split(os.pathsep) if folder[:1] == "/")
    found = shutil.which(root / command if "/" in command else command, path=fixed)
    return Path(found).absolute() if found else None


def environment(
    runtime: Runtime, source: Mapping[str, str], own: Mapping[str, str]
) -> dict[str, str]:
    """Return an agent's variables: from `source`, the file and `own`. A later one overrides."""
    passed = dict[str, str]()
    for pattern in (*ALWAYS, *runtime.env):
        for name in fnmatch_filter(source.keys(), pattern):
            passed[name] = source[name]
    # In UTC, because agents print reset times as clock times without a zone.
    return {**passed, "TZ": "UTC", **runtime.set, **own}


def logins(runtime: Runtime, environ: Mapping[str, str], own: Path) -> dict[Path, Path]:
    """Return a map from the user's login folders to their places in the agent's HOME `own`."""
    found = dict[Path, Path]()
    for said in runtime.home:
        name, _, rest = said.removeprefix("$").partition("/")
        if said[:1] != "$":
            source, seen = home(environ) / said, own / said
        elif environ.get(name, "")[:1] == "/":
            source = seen = Path(environ[name], rest)
        else:
            continue
        if source.is_dir():
            found[source] = seen
    return found


def check_home(runtime: Runtime, environ: Mapping[str, str]) -> None:
    """Raise ConfigError if the first login folder is read-only, because it also holds sessions."""
    folder = next(iter(logins(runtime, environ, Path("/"))), None)
    if folder and not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(
            f"{runtime.name} has to write to {folder}, but has no permission: "
            "make yourself the owner of that folder, and make it writable."
        )


def invocation(
    runtime: Runtime,
    *,
    run_dir: Path,
    workspace: Path,
    model: str = "",
    session: str = "",
    budget: str = "",
) -> tuple[tuple[str, ...], Path | None]:
    """Return the command line and the stdin file; the prompt is prompt.md in `run_dir`.

    `session`: the session to continue. If one of the placeholders in a group of words is empty, the
    group is left out. If a prompt is too long for an argument, the argument instead asks the agent
    to read the prompt's file.
    """
    prompt_file = run_dir / "prompt.md"
    prompt = prompt_file.read_text(encoding="utf-8")
    if len(prompt.encode()) > LONG_PROMPT:
        prompt = f"Read {prompt_file} and do what it says."
    values = {
        "prompt": prompt,
        "prompt_file": str(prompt_file),
        "workspace": str(workspace),
        "outbox": str(run_dir / "outbox"),
        "run_dir": str(run_dir / OWN),
        "session": session,
        "model": model,
        "budget": budget,
    }
    command = runtime.command
    if "{resume}" not in command:
        command = (*command, "{resume}")
    argv = list[str]()
    for part in command:
        if part != "{resume}":
            argv += _filled(part, values)
        elif session:
            argv += _filled(runtime.resume, values)
    return tuple(argv), prompt_file if runtime.reads_stdin else None


def _is_told_by(part: str | tuple[str, ...]) -> bool:
    named = set(_placeholders(part))
    stays = isinstance(part, str) or named <= _NEVER_EMPTY
    return stays and not named.isdisjoint(_THE_PROMPT)


def _placeholders(part: str | tuple[str, ...]) -> list[str]:
    """Return the placeholders in a word or in a group of words."""
    return _WORDS.findall(" ".join(_group(part)))


def _group(part: str | tuple[str, ...]) -> tuple[str, ...]:
    return (part,) if isinstance(part, str) else part


def _filled(part: str | tuple[str, ...], values: Mapping[str, str]) -> list[str]:
    is_group = not isinstance(part, str)
    if is_group and not all(map(values.get, _placeholders(part))):
        return []
    return [_WORDS.sub(lambda found: values.get(found[1], ""), word) for word in _group(part)]
