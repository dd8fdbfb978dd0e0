"""Reads a runtime file.

Invariant: what `parse_runtime` returns can run. For all other files, it raises a ConfigError with
the key and the correct form.
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import chain, product
from pathlib import PurePath
from typing import Any

from factory.agents.runtime import (
    PLACEHOLDERS,
    DoctorRules,
    LimitRules,
    OutputRules,
    Runtime,
    StopRules,
    UsageRules,
    placeholders,
)
from factory.ground.configuration import kept
from factory.ground.errors import ConfigError, did_you_mean
from factory.ground.selectors import Selector, selector
from factory.ground.toml_text import parsed

Reader = Callable[[Any], Any]  # returns the value of a key; raises ValueError with the form

_LONG_NAME = 255  # bytes of the longest file name that Linux allows
_MOST_DOLLARS = 1e6
_VERSION = re.compile(r"(\d+(\.\d+)*)?")


class _WrongKey(ValueError):
    """A wrong key in a table. `said` continues the sentence that begins with the key."""

    def __init__(self, key: str, said: str) -> None:
        super().__init__(key + said)
        self.key = key
        self.said = said


@lru_cache(maxsize=64)  # cached, because the pool calls this pure function on every pass
def parse_runtime(name: str, text: str, *, where: str) -> Runtime:
    """Return the runtime of a file; raise ConfigError with place, key and correct form."""
    try:
        values = {"name": name} | parsed(text)
        for key, read in NOTES.items():
            if key in values:
                _at(key, read, values.pop(key))
        runtime = _runtime(values)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: {error}") from None
    for part in (*runtime.command, runtime.resume):
        for word in placeholders(part):
            if word not in PLACEHOLDERS:
                hint = did_you_mean(word, PLACEHOLDERS)
                raise ConfigError(f"{where}: command: {{{word}}} is not known{hint}")
    return runtime


def _runtime(values: Mapping[str, Any]) -> Runtime:
    if "command" not in values:
        raise _WrongKey("command", ": Field required")
    runtime: Runtime = _table(Runtime, RUNTIME)(values)
    for folder, name in product(map(PurePath, runtime.home), runtime.files):
        if folder.is_relative_to(name) or PurePath(name).is_relative_to(folder):
            raise ValueError(
                f'files: "{name}" would be written into the user\'s own {folder}, '
                "which `home` names"
            )
    if runtime.stdin == "none" and not runtime.names_the_prompt:
        raise ValueError(
            'stdin = "none", and the command names neither {prompt} nor {prompt_file}: '
            "the agent would not get its task. "
            'Write stdin = "prompt", or name one of them in the command.'
        )
    return runtime


# ── readers ──


def _at(key: str, read: Reader, value: Any) -> Any:
    """Read the value; an error names the key."""
    try:
        return read(value)
    except _WrongKey as error:
        raise _WrongKey(f"{key}.{error.key}", error.said) from None
    except ValueError as error:
        raise _WrongKey(key, f": {error}") from None


def _table(kind: type, readers: Mapping[str, Reader]) -> Reader:
    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError("Input should be a table")
        found = {}
        for key, reader in readers.items():
            if key in value:
                found[key] = _at(key, reader, value[key])
        for key in value:
            if key not in readers:
                raise _WrongKey(key, f" is not known{did_you_mean(key, _KEYS)}")
        return kind(**found)

    return read


def _many(read: Reader) -> Reader:
    def read_all(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise ValueError("Input should be a list")
        return tuple(map(read, value))

    return read_all


def _named(read: Reader) -> Reader:
    """Return the reader of a table with names of the file's own."""

    def read_all(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValueError("Input should be a table")
        return {key: _at(key, read, each) for key, each in value.items()}

    return read_all


def _one_of(*words: str) -> Reader:
    *most, last = map(repr, words)

    def read(value: Any) -> str:
        if value not in words:
            raise ValueError(f"Input should be {', '.join(most)} or {last}")
        return str(value)

    return read


def _number(most: float) -> Reader:
    """Return the reader of a number from 0 to `most`."""

    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError("Input should be a valid number")
        if value > most:
            raise ValueError(f"Input should be less than or equal to {most:g}")
        if not value >= 0:
            raise ValueError("Input should be greater than or equal to 0")
        return float(value)

    return read


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("Input should be a valid string")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("Input should be true or false")
    return value


def _words(value: Any) -> tuple[str | tuple[str, ...], ...]:
    """Read a command line: words, and groups of words."""
    words: tuple[str | tuple[str, ...], ...] = _many(_word)(value)
    if not words:
        raise ValueError("Input should be a list of at least one word")
    return words


def _word(value: Any) -> str | tuple[str, ...]:
    if value == []:
        raise ValueError("Input should be a list of at least one word")
    return tuple(map(_text, value)) if isinstance(value, list) else _text(value)


def _selectors(value: Any) -> tuple[Selector, ...]:
    return tuple(map(selector, value if isinstance(value, list) else [value]))


def _pattern(value: Any) -> re.Pattern[str]:
    try:
        return re.compile(_text(value), re.IGNORECASE)
    except (re.error, OverflowError, RecursionError):
        raise ValueError("Input should be a valid regular expression") from None


def _version(value: Any) -> str:
    if not _VERSION.fullmatch(_text(value)):
        raise ValueError('Input should be a version, such as "1.2.3"')
    return str(value)


def _price(value: Any) -> tuple[float, ...]:
    prices: tuple[float, ...] = _many(_number(_MOST_DOLLARS))(value)
    if len(prices) != 2:
        raise ValueError("Input should be a list of two numbers")
    return prices


def _folder(value: Any) -> str:
    said = _text(value)
    if said[:1] == "/" or ".." in said.split("/") or not said.strip("$"):
        raise ValueError(
            f'"{said}" has to be a folder in HOME, such as ".claude", or "$NAME/folder"'
        )
    return said


def _files(value: Any) -> Mapping[str, str]:
    files: Mapping[str, str] = _named(_text)(value)
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


def _kept(value: Any) -> tuple[str, ...]:
    return kept(_many(_text)(value))


# ── the keys of each table ──

_STOP: Mapping[str, Reader] = {
    "signal": _one_of("TERM", "INT", "HUP", "QUIT"),
    "grace_s": _number(60),
}
USAGE: Mapping[str, Reader] = {
    "mode": _one_of("run", "thread", "step"),
    "input": _selectors,
    "output": _selectors,
    "cost": _selectors,
    "price": _named(_price),
}
OUTPUT: Mapping[str, Reader] = {
    "format": _one_of("text", "jsonl"),
    "progress": _selectors,
    "session": _selectors,
    "tool_open": _selectors,
    "tool_close": _selectors,
    "idle_cpu": _number(64),
    "usage": _table(UsageRules, USAGE),
    "step": _selectors,
    "step_text": _many(_pattern),
    "looped": _selectors,
    "result": _selectors,
    "joined": _flag,
    "report": _text,
    "done_text": _many(_pattern),
    "failed": _selectors,
    "done_if": _selectors,
    "error": _selectors,
}
_LIMIT: Mapping[str, Reader] = {
    "patterns": _many(_pattern),
    "reset": _selectors,
    "status": _selectors,
    "login": _many(_pattern),
}
_DOCTOR: Mapping[str, Reader] = {
    "install": _text,
    "version": _many(_text),
    "known_good": _version,
    "login": _text,
    "logged_in": _many(_text),
}
RUNTIME: Mapping[str, Reader] = {
    "name": _text,
    "command": _words,
    "stdin": _one_of("prompt", "none"),
    "resume": _many(_text),
    "env": _many(_text),
    "set": _named(_text),
    "files": _files,
    "home": _many(_folder),
    "keep": _kept,
    "network": _one_of("open", "none"),
    "stop": _table(StopRules, _STOP),
    "output": _table(OutputRules, OUTPUT),
    "limit": _table(LimitRules, _LIMIT),
    "doctor": _table(DoctorRules, _DOCTOR),
}
# Keys that only people use. factoryd checks only their form.
NOTES: Mapping[str, Reader] = {
    "instructions": _text,  # the file with instructions that the program reads by itself
    "exit": _named(_text),  # exit code → its meaning
}
TABLES = (RUNTIME, NOTES, OUTPUT, USAGE, _LIMIT, _STOP, _DOCTOR)
_KEYS = sorted(set(chain.from_iterable(TABLES)) - {"name"})
