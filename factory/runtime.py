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
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from functools import lru_cache
from itertools import product
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from factory.errors import ConfigError, did_you_mean
from factory.ground.configuration import kept
from factory.outbox import regular
from factory.places import home
from factory.tail import Tail

PLACEHOLDERS = ("prompt", "prompt_file", "workspace", "session", "model", "outbox", "run_dir", "resume", "budget")
_THE_PROMPT = frozenset({"prompt", "prompt_file"})
_NEVER_EMPTY = _THE_PROMPT | {"workspace", "outbox", "run_dir"}
ALWAYS = ("PATH", "HOME", "LANG", "LC_*", "SHELL", "USER", "LOGNAME")  # of the daemon's environment, to every agent
REPORT_BYTES = 256 << 20  # a report may hold the whole session
LONG_PROMPT = 100 << 10  # bytes; one argument may have 128 KiB on Linux
# A loop: so many steps in a row, no more than so many of them different. A model that goes round makes 8 to 20 steps a
# second and costs money with each; of who tests and edits in turn every edit is another, and who waits sleeps longer.
LOOP_STEPS, LOOP_KINDS = 40, 3
OWN = "own"  # the folder of the run dir that the agent's program may write to: {run_dir}, where its report is read
_LONG_NAME = 255  # bytes that Linux lets a file's name have
_MOST = 1e12  # tokens or dollars: what says more, or less than nothing, tells nothing
_TAIL = 4000  # characters kept of plain text
_WORDS = re.compile(r"\{([a-z_]+)\}")
_IF = r"((?:\[[^\]=]+=[^\]]*\])*)"
_STEP = re.compile(rf"(\w[\w-]*){_IF}(?:\.(?=\w)|$)")
_SELECTOR = re.compile(rf"(\*|[\w./-]+){_IF}(?::((?:{_STEP.pattern})+))?")
_CLOCKS = ("%b %d %Y %I:%M%p", "%b %d %Y %I%p", "%b %d %Y %H:%M")

Conditions = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Selector:
    """Takes from events: `TYPE` or `TYPE:path.to.it`; `*` is any type, `[key=value]` picks in both parts.

    `*` in such a value is anything.
    """

    type: str
    conditions: Conditions
    steps: tuple[tuple[str, Conditions], ...]

    def find(self, event: Mapping[str, Any]) -> list[Any]:
        """Every value that it selects, lists taken apart."""
        if self.type not in ("*", event.get("type")):
            return []
        found: list[Any] = [event] if _hold(event, self.conditions) else []
        for name, conditions in self.steps:
            below = (_dig(value, name) for value in found)
            parts = [part for each in below for part in (each if isinstance(each, list) else [each])]
            found = [part for part in parts if part is not None and _hold(part, conditions)]
        return found


def selector(text: object) -> Selector:
    """The selector that the text says; raises ValueError with the correct form."""
    form = isinstance(text, str) and _SELECTOR.fullmatch(text)
    if not form:
        raise ValueError(f'"{text}" is not of the form "TYPE[key=value]:path.to[key=value].it"')
    return Selector(form[1], _conditions(form[2]), tuple((n, _conditions(c)) for n, c in _STEP.findall(form[3] or "")))


def _conditions(text: str) -> Conditions:
    return tuple(re.findall(r"\[([^\]=]+)=([^\]]*)\]", text))


Selectors = Annotated[
    tuple[Annotated[Selector, BeforeValidator(selector)], ...],
    BeforeValidator(lambda value: value if isinstance(value, list) else [value]),
]
AnyCase = AfterValidator(lambda pattern: re.compile(pattern.pattern, re.IGNORECASE))
Patterns = tuple[Annotated[re.Pattern[str], AnyCase], ...]


def _below(said: str) -> str:
    if said[:1] == "/" or ".." in said.split("/") or not said.strip("$"):
        raise ValueError(f'"{said}" has to be a folder in HOME, such as ".claude", or "$NAME/folder"')
    return said


def _in_home(files: Mapping[str, str]) -> Mapping[str, str]:
    for said in files:
        parts = said.split("/")
        odd = said[:1] in ("", "/", "~", "$") or "\0" in said or {"", ".", ".."} & set(parts)
        if odd or max(len(part.encode()) for part in parts) > _LONG_NAME:
            raise ValueError(f'"{said}" has to be a file in HOME, such as ".config/tool/settings.json"')
        if above := next((other for other in files if said.startswith(f"{other}/")), ""):
            raise ValueError(f'"{above}" cannot be a file and the folder of "{said}"')
    return files


Folder = Annotated[str, AfterValidator(_below)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


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
    price: Mapping[str, tuple[float, float]] = Field(default_factory=dict)  # of a million tokens in and out, by model


class OutputRules(_Table):
    """How the output is read; of what is told several times, the last counts."""

    format: Literal["text", "jsonl"] = "text"
    progress: Selectors = ()  # events that show life; none named: all
    session: Selectors = ()
    tool_open: Selectors = ()  # a tool call's id
    tool_close: Selectors = ()
    idle_cpu: float = Field(default=0.1, ge=0, le=64)  # of a core, while it waits: what uses more is at work
    usage: UsageRules = UsageRules()
    step: Selectors = ()  # what it does, without numbers that grow: the same again and again is a loop
    step_text: Patterns = ()  # the same in plain text
    looped: Selectors = ()  # it says so itself
    result: Selectors = ()
    joined: bool = False  # the result comes in pieces: those after the last tool call, put together
    report: str = ""  # a JSON file in its run dir that it writes at the end: read as one more event
    done_text: Patterns = ()  # in the end of its plain text: without it, it failed, and only then is trouble looked for
    failed: Selectors = ()  # a true value, or an event that is there
    done_if: Selectors = ()  # the final word: without it the run was cut off
    error: Selectors = ()


class LimitRules(_Table):
    """How it says that it must not go on for now (a usage limit, an overloaded server), or not without a login."""

    patterns: Patterns = ()  # in its error text; a group `reset` is an epoch, seconds from now or a clock time in UTC
    reset: Selectors = ()  # an epoch
    status: Selectors = ()  # an HTTP status: 429 and 5xx are limits, 401 and 403 the login
    login: Patterns = ()


class DoctorRules(_Table):
    """What `factory doctor --agent` looks at, and what it tells a person to do."""

    install: str = ""  # a command line
    version: tuple[str, ...] = ("--version",)
    known_good: Annotated[str, Field(pattern=r"^(\d+(\.\d+)*)?$")] = ""  # the newest version that was tried
    login: str = ""  # how a person logs in
    logged_in: tuple[str, ...] = ()  # signs of a login: files in HOME (with a slash), variables (`*` allowed)


class Runtime(_Table):
    """One runtime file."""

    name: str
    command: tuple[str | tuple[str, ...], ...] = Field(min_length=1)
    stdin: Literal["prompt", "none"] | None = None  # None: the prompt, unless the command names it
    resume: tuple[str, ...] = ()  # none: its sessions cannot be continued
    env: tuple[str, ...] = ()  # names let through, `*` allowed
    set: Mapping[str, str] = Field(default_factory=dict)
    files: Annotated[Mapping[str, str], AfterValidator(_in_home)] = Field(default_factory=dict)  # in a HOME of its own
    home: tuple[Folder, ...] = ()  # that hold its login: in the user's HOME, or below one that a `$NAME` tells
    keep: Annotated[tuple[str, ...], AfterValidator(kept)] = ()  # globs in its own HOME: what outlives a unit
    network: Literal["open", "none"] = "open"
    stop: StopRules = StopRules()
    instructions: str = ""  # the file it reads by itself
    output: OutputRules = OutputRules()
    limit: LimitRules = LimitRules()
    exit: Mapping[str, str] = Field(default_factory=dict)  # code → what it means, for people
    doctor: DoctorRules = DoctorRules()

    @model_validator(mode="after")
    def _own_files_only(self) -> Self:
        for folder, name in product(map(PurePath, self.home), self.files):
            if folder.is_relative_to(name) or PurePath(name).is_relative_to(folder):
                raise ValueError(f'files: "{name}" would be written into the user\'s own {folder}, which home names')
        return self

    @model_validator(mode="after")
    def _is_told(self) -> Self:
        if self.stdin == "none" and not self._names_the_prompt:
            raise ValueError(
                'stdin = "none", and the command names neither {prompt} nor {prompt_file}: the agent would not get '
                'its task. Write stdin = "prompt", or name one of them in the command.'
            )
        return self

    @property
    def reads_stdin(self) -> bool:
        """Whether the prompt is its standard input."""
        return self.stdin == "prompt" or (self.stdin is None and not self._names_the_prompt)

    @property
    def _names_the_prompt(self) -> bool:
        """Whether each command line has the prompt, or its file: a group may be left out."""
        return any(_is_told_by(part) for part in self.command)

    @property
    def program(self) -> str:
        """What has to be there."""
        return _group(self.command[0])[0]


_KEYS = sorted(key for table in _Table.__subclasses__() for key in table.model_fields)


@lru_cache(maxsize=64)  # pure, and asked for on every pass of the pool
def parse_runtime(name: str, text: str, *, where: str) -> Runtime:
    """The runtime that the file says; raises ConfigError that names the place, the key and the correct form."""
    try:
        values = tomllib.loads(text)
        runtime = Runtime.model_validate({"name": name} | values)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where}: {error}") from None
    except ValidationError as error:
        raise ConfigError(f"{where}: {_sentence(error)}") from None
    words = [word for part in (*runtime.command, runtime.resume) for word in _group(part)]
    for known in (known for word in words for known in _WORDS.findall(word) if known not in PLACEHOLDERS):
        raise ConfigError(f"{where}: command: {{{known}}} is not known{did_you_mean(known, PLACEHOLDERS)}")
    return runtime


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    told = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:  # of more than one key
        return told
    key = ".".join(part for part in first["loc"] if isinstance(part, str) and "[" not in part and part != "str")
    if first["type"] == "extra_forbidden":
        return f"{key} is not known{did_you_mean(str(first['loc'][-1]), _KEYS)}"
    return f"{key}: {told.replace('valid tuple', 'list')}"


def find(command: str, *, path: str, root: Path) -> Path | None:
    """The program: on `path`, absolute, or relative to `root`; None where there is none that can be run."""
    # A relative folder is another one for who starts the daemon, for the daemon, and in a workspace.
    fixed = os.pathsep.join(folder for folder in path.split(os.pathsep) if folder[:1] == "/")
    found = shutil.which(root / command if "/" in command else command, path=fixed)
    return Path(found).absolute() if found else None


def environment(runtime: Runtime, source: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """An agent's environment: what of `source` is let through, what the file sets, and `own`; the last wins."""
    through = (*ALWAYS, *runtime.env)
    passed = {name: value for name, value in source.items() if any(fnmatchcase(name, known) for known in through)}
    # In UTC, because reset times are told as a clock time without a zone.
    return {**passed, "TZ": "UTC", **runtime.set, **own}


def logins(runtime: Runtime, environ: Mapping[str, str], own: Path) -> dict[Path, Path]:
    """The user's folders that hold its login and are there, and where it finds them when its HOME is `own`."""
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
    """Raise ConfigError where the first of its login folders, which holds its sessions too, cannot be written."""
    folder = next(iter(logins(runtime, environ, Path("/"))), None)
    if folder and not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"{runtime.name} has to write to {folder}, and may not: make that folder yours and writable.")


def invocation(
    runtime: Runtime, *, run_dir: Path, workspace: Path, model: str = "", session: str = "", budget: str = ""
) -> tuple[tuple[str, ...], Path | None]:
    """The command line and its stdin, for the prompt.md in `run_dir`; with `session`, the command that continues it.

    A group in the command goes when one of its placeholders is empty. A prompt that is too long for an argument
    becomes the request to read its file.
    """
    prompt_file = run_dir / "prompt.md"
    prompt = prompt_file.read_text(encoding="utf-8")
    if len(prompt.encode()) > LONG_PROMPT:
        prompt = f"Read {prompt_file} and do what it says."
    paths = {"prompt_file": prompt_file, "workspace": workspace, "outbox": run_dir / "outbox", "run_dir": run_dir / OWN}
    values = {"prompt": prompt, "session": session, "model": model, "budget": budget}
    values |= {name: str(at) for name, at in paths.items()}
    command = runtime.command if "{resume}" in runtime.command else (*runtime.command, "{resume}")
    resume = runtime.resume if session else ()
    argv = tuple(word for part in command for word in _filled(resume if part == "{resume}" else part, values))
    return argv, prompt_file if runtime.reads_stdin else None


def _is_told_by(part: str | tuple[str, ...]) -> bool:
    named = {name for word in _group(part) for name in _WORDS.findall(word)}
    stays = isinstance(part, str) or named <= _NEVER_EMPTY
    return stays and not named.isdisjoint(_THE_PROMPT)


def _group(part: str | tuple[str, ...]) -> tuple[str, ...]:
    return (part,) if isinstance(part, str) else part


def _filled(part: str | tuple[str, ...], values: Mapping[str, str]) -> list[str]:
    words = _group(part)
    if not isinstance(part, str) and not all(values.get(name) for word in words for name in _WORDS.findall(word)):
        return []
    return [_WORDS.sub(lambda found: values.get(found[1], ""), word) for word in words]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, and dollars where they are told."""

    input: int = 0
    output: int = 0
    cost: float = 0.0
    estimated: bool = False  # the cost is reckoned from tokens
    priced: bool = field(default=False, compare=False)  # the cost is known, even if it is nothing


@dataclass(slots=True, kw_only=True)
class Seen:
    """What the output has told so far."""

    first: datetime | None = None  # sign of life
    last: datetime | None = None
    session: str = ""
    tools: frozenset[str] = frozenset()  # calls that are open
    steps: tuple[int, ...] = field(default=(), compare=False)  # the newest, each as a number for what it did
    looped: bool = False  # it said that it stopped because it went round
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
        return self.done and not self.failed and not self.looped

    @property
    def looping(self) -> bool:
        """Whether it does the same again and again."""
        return self.looped or (len(self.steps) == LOOP_STEPS and len(set(self.steps)) <= LOOP_KINDS)


class OutputReader:
    """Reads the output of one run as it grows, across the rotation of its file and from its start after an adoption.

    `earlier`: what the same session had used before this run (for runtimes that tell totals of the session).
    `model`: the one that its task names, for its price.
    """

    def __init__(self, runtime: Runtime, run_dir: Path, *, earlier: Usage | None = None, model: str = "") -> None:
        self._rules, self._limit, self._tail = runtime.output, runtime.limit, Tail(str(run_dir))
        self._earlier, self._own = earlier or Usage(), run_dir / OWN
        self._seen = Seen(done=not self._rules.done_if)
        prices = runtime.output.usage.price.items()
        self._price = next((price for pattern, price in prices if fnmatchcase(model, pattern)), None)

    def read(self, now: datetime, *, ended: bool = False) -> Seen:
        """What is known now. With `ended`, a last line without its end counts, and what is plain text is judged too:

        while it runs, a line on stderr about a limit may well be followed by a retry that works.
        """
        plain = [line for line in self._tail.lines(ended=ended) if not self._event(line, now)]
        if text := b"\n".join(plain)[-4 * _TAIL :].decode(errors="replace").strip():
            self._seen.tail = f"{self._seen.tail}\n{text}"[-_TAIL:].strip()
            self._step(*(found for each in self._rules.step_text for found in each.findall(text)))
            if self._rules.format == "text":
                self._alive(now)
        if ended:
            self._end(now)
        return replace(self._seen)

    def _end(self, now: datetime) -> None:
        """What only the end of the run tells: its report, and how its plain text ends."""
        with suppress(ValueError, RecursionError):
            report = self._rules.report and regular(self._own, self._rules.report, REPORT_BYTES)
            if report and isinstance(event := json.loads(report), dict):
                self._take(event, now)
        if self._rules.done_text:
            self._seen.done = any(pattern.search(self._seen.tail) for pattern in self._rules.done_text)
        if not (self._rules.done_text and self._seen.done):
            self._trouble(self._seen.tail, now)

    def _event(self, line: bytes, now: datetime) -> bool:
        """Read a line as an event; false where it is none."""
        if self._rules.format == "text" or not line.startswith(b"{"):
            return False
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            return False
        self._take(event, now)
        return True

    def _take(self, event: Mapping[str, Any], now: datetime) -> None:
        rules, limit, seen = self._rules, self._limit, self._seen
        if not rules.progress or _all(rules.progress, event):
            self._alive(now)
        named = (each for each in _all(rules.session, event) if isinstance(each, str))
        seen.session = [seen.session, *(each for each in named if each.isprintable() and each[:1] != "-")][-1]
        opened, closed = (frozenset(map(str, _all(part, event))) for part in (rules.tool_open, rules.tool_close))
        seen.tools = (seen.tools | opened) - closed
        if did := _all(rules.step, event):
            self._step(json.dumps(did, sort_keys=True))
        seen.looped |= bool(_all(rules.looped, event))
        seen.usage = self._usage(event)
        if rules.joined:
            said = "" if opened or closed else seen.result
            seen.result = said + "".join(map(str, _all(rules.result, event)))
        else:
            seen.result = _last(rules.result, event, seen.result)
        seen.failed = bool(_last(rules.failed, event, seen.failed))
        seen.done = bool(_last(rules.done_if, event, seen.done))
        for text in map(str, _all(rules.error, event)):
            seen.error = text[:_TAIL]
            self._trouble(text, now)
        for status in _all(limit.status, event):
            seen.unauthorized |= status in (401, 403)
            seen.limited |= isinstance(status, int) and (status == 429 or status >= 500)
        for epoch in _all(limit.reset, event):
            seen.limited, seen.reset = True, reset_time(str(epoch), now) or seen.reset

    def _step(self, *did: str) -> None:
        self._seen.steps = (*self._seen.steps, *map(hash, did))[-LOOP_STEPS:]

    def _alive(self, now: datetime) -> None:
        self._seen.first, self._seen.last = self._seen.first or now, now

    def _trouble(self, text: str, now: datetime) -> None:
        seen = self._seen
        seen.unauthorized |= any(pattern.search(text) for pattern in self._limit.login)
        for match in filter(None, (pattern.search(text) for pattern in self._limit.patterns)):
            seen.limited = True
            seen.error = seen.error or text[match.start() :].partition("\n")[0]
            seen.reset = seen.reset or reset_time(match.groupdict().get("reset") or "", now)

    def _usage(self, event: Mapping[str, Any]) -> Usage:
        rules, known = self._rules.usage, self._seen.usage
        found = [_numbers(part, event) for part in (rules.input, rules.output, rules.cost)]
        if not any(found):
            return known
        told = list(map(sum, found))
        sign, other = {"run": (0, known), "step": (1, known), "thread": (-1, self._earlier)}[rules.mode]
        tokens_in, tokens_out = int(told[0]) + sign * other.input, int(told[1]) + sign * other.output
        tokens_in, tokens_out = max(0, tokens_in), max(0, tokens_out)
        if not rules.cost and self._price:
            reckoned = (tokens_in * self._price[0] + tokens_out * self._price[1]) / 1e6
            return Usage(tokens_in, tokens_out, reckoned, estimated=True, priced=True)
        cost = max(0.0, told[2] + sign * other.cost)
        return Usage(tokens_in, tokens_out, cost, priced=bool(found[2]) or known.priced)


def reset_time(text: str, now: datetime) -> datetime | None:
    """The moment that `text` tells: an epoch, seconds from now, or a clock time (UTC, the next); None for others."""
    with suppress(OverflowError, ValueError, OSError):
        seconds = float(text)
        return datetime.fromtimestamp(seconds, UTC) if seconds > 1e9 else now + timedelta(seconds=seconds)
    plain = " ".join(re.sub(r"\(.*?\)|,|\bat\b|(?<=\d)(st|nd|rd|th)\b|\.$", " ", text.strip()).split())
    plain = re.sub(r"\s*(?=[ap]m\b)", "", plain, flags=re.IGNORECASE)
    dated = re.sub(r"^(\w+ \d+) (?!\d{4}\b)", rf"\g<1> {now.year} ", plain)
    if only_clock := plain[:1].isdigit():
        dated = f"{now:%b %d %Y} {plain}"
    for form in _CLOCKS:
        with suppress(ValueError):
            told = datetime.strptime(dated, form).replace(tzinfo=UTC)
            return told + timedelta(days=1) if only_clock and told <= now else told
    return None


def _all(selectors: Iterable[Selector], event: Mapping[str, Any]) -> list[Any]:
    return [value for each in selectors for value in each.find(event)]


def _numbers(selectors: Iterable[Selector], event: Mapping[str, Any]) -> list[float]:
    return [each for each in _all(selectors, event) if isinstance(each, int | float) and 0 <= each <= _MOST]


def _last(selectors: Iterable[Selector], event: Mapping[str, Any], known: Any) -> Any:
    return [known, *_all(selectors, event)][-1]


def _dig(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _hold(value: Any, conditions: Conditions) -> bool:
    found = [(_dig(value, key), wanted) for key, wanted in conditions]
    return all(fnmatchcase(each if isinstance(each, str) else json.dumps(each), wanted) for each, wanted in found)
