"""A runtime: the file that says how an agent's command is run, and how its output is read.

Invariant: nothing here knows an agent by name; what differs between two of them is said in their files.
"""

import json
import os
import re
import shutil
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from factory.errors import ConfigError, NotYet

PLACEHOLDERS = ("prompt", "prompt_file", "workspace", "session", "model", "outbox", "run_dir", "resume")
ALWAYS = (
    "PATH",
    "HOME",
    "LANG",
    "LC_*",
    "SHELL",
    "USER",
    "LOGNAME",
)  # what every agent gets of the daemon's environment
LONG_PROMPT = 100 << 10  # bytes; one argument may have 128 KiB on Linux
_LONG_LINE = 8 << 20
_TAIL = 4000  # characters kept of plain text
_WORDS = re.compile(r"\{([a-z_]+)\}")
_TYPE = re.compile(r"(\*|[\w./-]+)((?:\[[^\]=]+=[^\]]*\])*)$")
_STEP = re.compile(r"(\w[\w-]*)((?:\[[^\]=]+=[^\]]*\])*)(?:\.(?=\w)|$)")
_CONDITION = re.compile(r"\[([^\]=]+)=([^\]]*)\]")
_CLOCKS = ("%I:%M%p", "%I%p", "%H:%M", "%b %d %Y %I:%M%p", "%b %d %Y %I%p", "%b %d %I:%M%p", "%b %d %I%p")

Conditions = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Selector:
    """Takes from events: `TYPE` or `TYPE:path.to.it`; `*` is any type, `[key=value]` picks in both parts."""

    type: str
    conditions: Conditions
    steps: tuple[tuple[str, Conditions], ...]

    def find(self, event: Mapping[str, Any]) -> list[Any]:
        """Every value that it selects, lists taken apart."""
        if self.type not in ("*", event.get("type")):
            return []
        found: list[Any] = [event] if _hold(event, self.conditions) else []
        for name, conditions in self.steps:
            below = (part for value in found for part in _spread(_dig(value, name)))
            found = [part for part in below if _hold(part, conditions)]
        return found


def selector(text: str) -> Selector:
    """The selector that the text says; raises ValueError with the correct form."""
    head, _, path = text.partition(":")
    kind, steps = _TYPE.match(head), list(_STEP.finditer(path))
    if not kind or "".join(step[0] for step in steps) != path:
        raise ValueError(f'"{text}" is not of the form "TYPE[key=value]:path.to[key=value].it"')
    conditions = [tuple(_CONDITION.findall(part)) for part in (kind[2], *(step[2] for step in steps))]
    return Selector(kind[1], conditions[0], tuple(zip((step[1] for step in steps), conditions[1:], strict=True)))


def _selectors(value: object) -> tuple[Selector, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError('a selector such as "result:usage.input_tokens", or a list of them')
    return tuple(map(selector, texts))


def _patterns(value: object) -> tuple[re.Pattern[str], ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError("a list of regular expressions")
    try:
        return tuple(re.compile(text, re.IGNORECASE) for text in value)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None


Selectors = Annotated[tuple[Selector, ...], BeforeValidator(_selectors)]
Patterns = Annotated[tuple[re.Pattern[str], ...], BeforeValidator(_patterns)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)


class StopRules(_Table):
    """How the stop ladder begins; it always ends in SIGKILL of all that was started."""

    signal: Literal["TERM", "INT", "HUP", "QUIT"] = "TERM"
    grace_s: float = Field(default=5, ge=0, le=60)


class UsageRules(_Table):
    """Where tokens and cost are told; the values of several selectors are added."""

    mode: Literal["run", "thread", "step"] = "run"  # totals of the run, totals of the whole session, or to be summed
    input: Selectors = ()
    output: Selectors = ()
    cost: Selectors = ()


class OutputRules(_Table):
    """How the output is read; of what is told several times, the last counts."""

    format: Literal["text", "jsonl"] = "text"
    progress: Selectors = ()  # events that show life; none named: all
    session: Selectors = ()
    tool_open: Selectors = ()  # a tool call's id
    tool_close: Selectors = ()
    usage: UsageRules = UsageRules()
    result: Selectors = ()
    failed: Selectors = ()  # a true value, or an event that is there
    done_if: Selectors = ()  # the final word: without it the run was cut off
    error: Selectors = ()


class LimitRules(_Table):
    """How it says that it must not go on for now (a usage limit, an overloaded server), or not without a login."""

    patterns: Patterns = ()  # in its error text; a group `reset` is an epoch, seconds from now or a clock time in UTC
    reset: Selectors = ()  # an epoch
    status: Selectors = ()  # an HTTP status: 429 and 5xx are limits, 401 and 403 the login
    login: Patterns = ()


class Runtime(_Table):
    """One runtime file."""

    name: str
    command: tuple[str | tuple[str, ...], ...] = Field(min_length=1)
    stdin: Literal["prompt", "none"] = "none"
    resume: tuple[str, ...] = ()  # none: its sessions cannot be continued
    env: tuple[str, ...] = ()  # names let through, `*` allowed
    set: Mapping[str, str] = Field(default_factory=dict)
    home: tuple[str, ...] = ()  # folders of the user's HOME that hold its login
    stop: StopRules = StopRules()
    instructions: str = ""  # the file it reads by itself
    output: OutputRules = OutputRules()
    limit: LimitRules = LimitRules()
    exit: Mapping[str, str] = Field(default_factory=dict)  # code → what it means, for people


_KEYS = sorted(key for table in _Table.__subclasses__() for key in table.model_fields)


def parse_runtime(name: str, text: str, *, where: str) -> Runtime:
    """The runtime that the file says; raises ConfigError that names the place, the key and the correct form."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where}: {error}") from None
    if "files" in values:
        raise NotYet(f"{where}: files, for a runtime has no HOME of its own yet")
    try:
        runtime = Runtime.model_validate_json(json.dumps({"name": name} | values))
    except (ValidationError, TypeError) as error:
        raise ConfigError(f"{where}: {_sentence(error)}") from None
    for word in _words(runtime):
        if word not in PLACEHOLDERS:
            raise ConfigError(f"{where}: command: {{{word}}} is not known{_meant(word, PLACEHOLDERS)}")
    return runtime


def find(command: str, *, path: str, root: Path) -> Path | None:
    """The program: on `path`, absolute, or relative to `root`; None where there is none that can be run."""
    if "/" in command:
        found = root / command
        return found if found.is_file() and os.access(found, os.X_OK) else None
    named = shutil.which(command, path=path)
    return Path(named).absolute() if named else None


def environment(runtime: Runtime, source: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """An agent's environment: what of `source` is let through, what the file sets, and `own`; the last wins."""
    through = (*ALWAYS, *runtime.env)
    passed = {name: value for name, value in source.items() if any(fnmatchcase(name, known) for known in through)}
    # In UTC, because reset times are told as a clock time without a zone.
    return {**passed, "TZ": "UTC", **runtime.set, **own}


def invocation(
    runtime: Runtime,
    *,
    prompt_file: Path,
    workspace: Path,
    outbox: Path,
    run_dir: Path,
    model: str = "",
    session: str = "",
) -> tuple[tuple[str, ...], Path | None]:
    """The command line and its stdin; with `session`, the command that continues it.

    A group in the command goes when one of its placeholders is empty. A prompt that is too long for an argument
    becomes the request to read its file.
    """
    values = {
        "prompt": _argument(prompt_file),
        "prompt_file": str(prompt_file),
        "workspace": str(workspace),
        "session": session,
        "model": model,
        "outbox": str(outbox),
        "run_dir": str(run_dir),
    }
    command = runtime.command if "{resume}" in runtime.command else (*runtime.command, "{resume}")
    at = command.index("{resume}")
    parts = (*command[:at], *(runtime.resume if session else ()), *command[at + 1 :])
    argv = tuple(word for part in parts for word in _filled(part, values))
    return argv, prompt_file if runtime.stdin == "prompt" else None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, and dollars where they are told."""

    input: int = 0
    output: int = 0
    cost: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the output has told so far."""

    first: datetime | None = None  # sign of life
    last: datetime | None = None
    session: str = ""
    tools: frozenset[str] = frozenset()  # calls that are open
    usage: Usage = Usage()
    result: str = ""  # its last words
    tail: str = ""  # the end of what it printed besides events: all of it for text, else its stderr
    done: bool = False  # the final word was seen
    failed: bool = False
    error: str = ""
    limited: bool = False
    reset: datetime | None = None  # when the limit ends, where it says so
    unauthorized: bool = False

    @property
    def good(self) -> bool:
        """Whether the output's own final word is that all went well."""
        return self.done and not self.failed


class OutputReader:
    """Reads the output of one run as it grows, across the rotation of its file and from its start after an adoption.

    `earlier`: what the same session had used before this run (for runtimes that tell totals of the session).
    """

    def __init__(self, runtime: Runtime, run_dir: Path, *, earlier: Usage | None = None) -> None:
        self._rules, self._limit = runtime.output, runtime.limit
        self._newest, self._older = run_dir / "output.log", run_dir / "output.1.log"
        self._at = (0, 0)  # inode and offset of what was read
        self._rest = b""
        self._earlier = earlier or Usage()
        self.seen = Seen(done=not self._rules.done_if)

    def read(self, now: datetime, *, ended: bool = False) -> Seen:
        """What is known now. With `ended`, a last line without its end counts, and what is plain text is judged too:

        while it runs, a line on stderr about a limit may well be followed by a retry that works.
        """
        *lines, self._rest = (self._rest + self._fresh()).split(b"\n")
        if ended or len(self._rest) > _LONG_LINE:
            lines, self._rest = [*lines, self._rest], b""
        plain = [line for line in lines if not self._event(line, now)]
        if text := b"\n".join(plain)[-4 * _TAIL :].decode(errors="replace").strip():
            self.seen = replace(self.seen, tail=f"{self.seen.tail}\n{text}"[-_TAIL:].strip())
            if self._rules.format == "text":
                self._alive(now)
        if ended:
            self._trouble(self.seen.tail, now)
        return self.seen

    def _fresh(self) -> bytes:
        if (inode := _inode(self._newest)) == self._at[0]:
            return self._from(self._newest, self._at[1])
        # Rotated since, or never read: what is left of the older file comes first.
        older = self._from(self._older, self._at[1] if _inode(self._older) == self._at[0] else 0)
        return older + (self._from(self._newest, 0) if inode else b"")

    def _from(self, path: Path, offset: int) -> bytes:
        with suppress(FileNotFoundError), path.open("rb") as file:
            file.seek(offset)
            fresh = file.read()
            self._at = (os.fstat(file.fileno()).st_ino, file.tell())
            return fresh
        return b""

    def _event(self, line: bytes, now: datetime) -> bool:
        """Read a line as an event; false where it is none."""
        if self._rules.format == "text" or not line.startswith(b"{"):
            return False
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            return False
        self._read_event(event, now)
        return True

    def _read_event(self, event: Mapping[str, Any], now: datetime) -> None:
        rules = self._rules
        if not rules.progress or _all(rules.progress, event):
            self._alive(now)
        opened, closed = ({str(call) for call in _all(part, event)} for part in (rules.tool_open, rules.tool_close))
        changed: dict[str, Any] = {
            "session": _last(rules.session, event, self.seen.session),
            "tools": (self.seen.tools | opened) - closed,
            "result": _last(rules.result, event, self.seen.result),
            "failed": bool(_last(rules.failed, event, self.seen.failed)),
            "done": bool(_last(rules.done_if, event, self.seen.done)),
        }
        self.seen = replace(self.seen, usage=self._usage(event), **changed)
        for text in _all(rules.error, event):
            self.seen = replace(self.seen, error=str(text)[:_TAIL])
            self._trouble(str(text), now)
        statuses = [status for status in _all(self._limit.status, event) if isinstance(status, int)]
        if any(status in (401, 403) for status in statuses):
            self.seen = replace(self.seen, unauthorized=True)
        if any(status == 429 or status >= 500 for status in statuses):
            self.seen = replace(self.seen, limited=True)
        for epoch in _all(self._limit.reset, event):
            self.seen = replace(self.seen, limited=True, reset=reset_time(str(epoch), now) or self.seen.reset)

    def _alive(self, now: datetime) -> None:
        self.seen = replace(self.seen, first=self.seen.first or now, last=now)

    def _trouble(self, text: str, now: datetime) -> None:
        if any(pattern.search(text) for pattern in self._limit.login):
            self.seen = replace(self.seen, unauthorized=True)
        for match in filter(None, (pattern.search(text) for pattern in self._limit.patterns)):
            reset = reset_time(match.groupdict().get("reset") or "", now)
            self.seen = replace(self.seen, limited=True, reset=self.seen.reset or reset)

    def _usage(self, event: Mapping[str, Any]) -> Usage:
        rules, known, past = self._rules.usage, self.seen.usage, self._earlier
        found = [_all(part, event) for part in (rules.input, rules.output, rules.cost)]
        if not any(found):
            return known
        tokens_in, tokens_out, cost = (sum(v for v in values if isinstance(v, int | float)) for values in found)
        if rules.mode == "step":
            return Usage(known.input + int(tokens_in), known.output + int(tokens_out), known.cost + cost)
        if rules.mode == "thread":
            return Usage(
                max(0, int(tokens_in) - past.input), max(0, int(tokens_out) - past.output), max(0.0, cost - past.cost)
            )
        return Usage(int(tokens_in), int(tokens_out), float(cost))


def reset_time(text: str, now: datetime) -> datetime | None:
    """The moment that `text` tells: an epoch, seconds from now, or a clock time (UTC, the next); None for others."""
    text = text.strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        seconds = float(text)
        with suppress(OverflowError, ValueError, OSError):
            return datetime.fromtimestamp(seconds, UTC) if seconds > 1e9 else now + timedelta(seconds=seconds)
        return None
    plain = re.sub(r"\(.*?\)|,|\bat\b|(?<=\d)(st|nd|rd|th)\b|\.$", " ", text)
    plain = re.sub(r"\s*(?=[ap]m\b)", "", " ".join(plain.split()), flags=re.IGNORECASE)
    for form in _CLOCKS:
        with suppress(ValueError):
            year = "" if "%Y" in form else f"{now.year} "
            told = datetime.strptime(year + plain, form if "%Y" in form else f"%Y {form}").replace(tzinfo=UTC)
            return told if "%b" in form else _next(told, now)
    return None


def _next(clock: datetime, now: datetime) -> datetime:
    today = clock.replace(year=now.year, month=now.month, day=now.day)
    return today if today > now else today + timedelta(days=1)


def _all(selectors: Iterable[Selector], event: Mapping[str, Any]) -> list[Any]:
    return [value for each in selectors for value in each.find(event)]


def _last(selectors: Iterable[Selector], event: Mapping[str, Any], known: Any) -> Any:
    found = _all(selectors, event)
    return found[-1] if found else known


def _dig(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _spread(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    return [] if value is None else [value]


def _hold(value: Any, conditions: Conditions) -> bool:
    return all(_word(_dig(value, key)) == wanted for key, wanted in conditions)


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def _argument(prompt_file: Path) -> str:
    prompt = prompt_file.read_text()
    return prompt if len(prompt.encode()) <= LONG_PROMPT else f"Read {prompt_file} and do what it says."


def _filled(part: str | tuple[str, ...], values: Mapping[str, str]) -> list[str]:
    group = (part,) if isinstance(part, str) else part
    used = {name for word in group for name in _WORDS.findall(word)}
    if not isinstance(part, str) and not all(values.get(name) for name in used):
        return []
    return [_WORDS.sub(lambda found: values.get(found[1], ""), word) for word in group]


def _words(runtime: Runtime) -> list[str]:
    parts = [word for part in runtime.command for word in ((part,) if isinstance(part, str) else part)]
    return [name for word in (*parts, *runtime.resume) for name in _WORDS.findall(word)]


def _sentence(error: ValidationError | TypeError) -> str:
    if isinstance(error, TypeError):
        return "dates are not used here"
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"] if isinstance(part, str) and "[" not in part and part != "str")
    if first["type"] == "extra_forbidden":
        return f"{key} is not known{_meant(str(first['loc'][-1]), _KEYS)}"
    return f"{key}: {first['msg'].removeprefix('Value error, ')}"


def _meant(word: str, known: Iterable[str]) -> str:
    close = get_close_matches(word, list(known), n=1)
    return f": did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"
