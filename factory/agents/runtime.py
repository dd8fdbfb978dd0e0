"""A runtime: how to run an agent's command, and how to read its output; runtime_file.py reads it.

Invariant: this code has no special case for any agent; all differences are in the runtime files.
"""

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import filter as fnmatch_filter
from pathlib import Path

from factory.ground.errors import ConfigError
from factory.ground.places import home
from factory.ground.selectors import Selector

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
_WORDS = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRules:
    """The first step to stop the agent. The last step always sends SIGKILL to all its processes."""

    signal: str = "TERM"  # or INT, HUP, QUIT
    grace_s: float = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRules:
    """Where the output reports tokens and cost. The values of several selectors are added up."""

    # What each number means: a total of the run, a total of the whole session, or one part of a
    # sum.
    mode: str = "run"  # or thread, step
    input: tuple[Selector, ...] = ()
    output: tuple[Selector, ...] = ()
    cost: tuple[Selector, ...] = ()
    # Model → the dollars for a million input tokens and for a million output tokens.
    price: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputRules:
    """How to read the output. If a selector finds several values, the last one counts."""

    format: str = "text"  # or jsonl
    progress: tuple[Selector, ...] = ()  # events that show activity; empty: all events
    session: tuple[Selector, ...] = ()
    tool_open: tuple[Selector, ...] = ()  # the id of a tool call
    tool_close: tuple[Selector, ...] = ()
    # CPU cores that the agent uses while it waits
    idle_cpu: float = 0.1
    usage: UsageRules = UsageRules()
    # an action, without numbers that grow; if a few actions repeat, the agent is in a loop
    step: tuple[Selector, ...] = ()
    step_text: tuple[re.Pattern[str], ...] = ()  # the same as `step`, for plain text
    looped: tuple[Selector, ...] = ()  # events in which the agent reports that it was in a loop
    result: tuple[Selector, ...] = ()
    # the result consists of all pieces of text after the last tool call, joined
    joined: bool = False
    # name of a JSON file that the agent writes into its run dir at its end; it is one more event
    report: str = ""
    # This pattern must match the end of the agent's plain text. Without a match, the run failed,
    # and the text may say why.
    done_text: tuple[re.Pattern[str], ...] = ()
    failed: tuple[Selector, ...] = ()  # shows a failure: a true value, or an event that exists
    done_if: tuple[
        Selector, ...
    ] = ()  # shows the final message; without such a message, the run was cut off
    error: tuple[Selector, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitRules:
    """How the agent reports a usage limit, an overloaded server or a missing login."""

    # Patterns for the agent's error text. A group `reset` is an epoch, a number of seconds from
    # now, or a clock time in UTC.
    patterns: tuple[re.Pattern[str], ...] = ()
    reset: tuple[Selector, ...] = ()  # the epoch at which the limit ends
    # an HTTP status: 429 and 5xx mean a limit, 401 and 403 mean a missing login
    status: tuple[Selector, ...] = ()
    login: tuple[re.Pattern[str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorRules:
    """What `factory doctor --agent` checks, and its advice for a person."""

    install: str = ""  # the command line that installs the program
    version: tuple[str, ...] = ("--version",)
    # The newest version that factoryd was tested with.
    known_good: str = ""
    login: str = ""  # how a person logs in
    # Signs of a login: names of files in HOME (with a slash) or of variables (`*` allowed).
    logged_in: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """The content of one runtime file."""

    name: str
    command: tuple[str | tuple[str, ...], ...]  # not empty
    # None: the prompt, unless the command line contains it
    stdin: str | None = None  # "prompt" or "none"
    resume: tuple[str, ...] = ()  # empty: sessions of this agent cannot be continued
    env: tuple[str, ...] = ()  # names of the variables that the agent gets; `*` is allowed
    set: Mapping[str, str] = field(default_factory=dict)
    # Files that factoryd writes into the agent's own HOME.
    files: Mapping[str, str] = field(default_factory=dict)
    # Folders with the agent's login, in the user's HOME or in the folder that the variable `$NAME`
    # names.
    home: tuple[str, ...] = ()
    # Globs of files in the agent's own HOME that factoryd keeps after the unit's end.
    keep: tuple[str, ...] = ()
    network: str = "open"  # or none
    stop: StopRules = StopRules()
    output: OutputRules = OutputRules()
    limit: LimitRules = LimitRules()
    doctor: DoctorRules = DoctorRules()

    @property
    def reads_stdin(self) -> bool:
        """Whether the agent reads the prompt from its standard input."""
        return self.stdin == "prompt" or (self.stdin is None and not self.names_the_prompt)

    @property
    def names_the_prompt(self) -> bool:
        """Whether every command line has the prompt or its file, even without optional groups."""
        return any(map(_is_told_by, self.command))

    @property
    def program(self) -> str:
        """The program that must be installed."""
        return _group(self.command[0])[0]


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
    named = set(placeholders(part))
    stays = isinstance(part, str) or named <= _NEVER_EMPTY
    return stays and not named.isdisjoint(_THE_PROMPT)


def placeholders(part: str | tuple[str, ...]) -> list[str]:
    """Return the placeholders in a word or in a group of words."""
    return _WORDS.findall(" ".join(_group(part)))


def _group(part: str | tuple[str, ...]) -> tuple[str, ...]:
    return (part,) if isinstance(part, str) else part


def _filled(part: str | tuple[str, ...], values: Mapping[str, str]) -> list[str]:
    is_group = not isinstance(part, str)
    if is_group and not all(map(values.get, placeholders(part))):
        return []
    return [_WORDS.sub(lambda found: values.get(found[1], ""), word) for word in _group(part)]
