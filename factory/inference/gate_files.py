"""Reads gates from files of the repository: conventions/gates/NN-name.sh and NN-name.toml.

Invariant: if factoryd does not understand a file, it refuses the file and never ignores it.
"""

import re
from dataclasses import replace
from typing import Any

from factory.ground.errors import ConfigError, did_you_mean
from factory.ground.toml_text import parsed
from factory.inference.files import Files, leads_out
from factory.inference.rules import Gate

_NAME = re.compile(r"(\d+)-([\w.-]*\w)\.(sh|toml)")
_IGNORED = (".md", ".txt", ".gitkeep")
_KEYS = ("command", "timeout_s", "flaky_reruns")
_MOST_SECONDS = 604_800  # the longest limit of one gate: a week, as in factory.toml
_MOST_RERUNS = 10
_FORM = (
    'the form is: command = "make test" or ["make", "test"]; '
    "optional: timeout_s = 600, flaky_reruns = 1"
)
_REWRITES = re.compile(r"^[ \t]*#[ \t]*rewrites:[ \t]*(\S.*)$", re.MULTILINE)


def gates(files: Files) -> tuple[Gate, ...]:
    """Return the gates that have a file, in the order in which they run; raise ConfigError."""
    found = []
    for path in files.matching(f"{files.gates}*"):
        if not path.endswith(_IGNORED):
            found.append(_gate(path, files.text(path), files.gates))
    return tuple(sorted(found, key=lambda gate: (gate.group, gate.name)))


def code_of(script: str) -> str:
    """Return the lines of a script, without empty lines and comments."""
    code = []
    for line in script.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            code.append(line)
    return "\n".join(code)


def _gate(path: str, text: str, folder: str) -> Gate:
    named = _NAME.fullmatch(path.removeprefix(folder))
    if not named:
        raise ConfigError(
            f"{path} is not run: the file of a gate is called NN-name.sh or NN-name.toml, "
            f"e.g. {folder}20-test.sh"
        )
    number, word, suffix = named.groups()
    gate = Gate(f"{number}-{word}", int(number), reason=path, rewrites=_rewrites(path, text))
    if suffix == "toml":
        return _of_toml(gate, text)
    if not code_of(text):
        raise ConfigError(
            f"{path} has no command and would pass everything. Write a command, or remove the file."
        )
    return replace(gate, script=text)


def _rewrites(path: str, text: str) -> tuple[str, ...]:
    """Return the globs of the files that a gate may change, from the header of its script."""
    globs = " ".join(_REWRITES.findall(text)).split()
    for glob in globs:
        if leads_out(glob):
            wrong = "names files outside the repository"
        elif not glob.strip("*?./"):
            wrong = "names every file of the repository"
        else:
            continue
        raise ConfigError(
            f"{path}: `# rewrites: {glob}` {wrong}. "
            "Name only the files that this gate has to change, e.g. # rewrites: Cargo.lock"
        )
    return tuple(globs)


def _of_toml(gate: Gate, text: str) -> Gate:
    try:
        table = parsed(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{gate.reason} is not TOML: {error}") from error
    for key in table:
        if key not in _KEYS:
            raise ConfigError(
                f"{gate.reason}: unknown key {key!r}{did_you_mean(key, _KEYS)}; {_FORM}"
            )
    command: Any = table.get("command")
    timeout = table.get("timeout_s", 0.0)
    reruns = table.get("flaky_reruns")
    if isinstance(command, str) and command.strip():
        command = ["sh", "-c", command]
    is_amounts = _is_amount(timeout, _MOST_SECONDS, int, float)
    if reruns is not None:
        is_amounts = is_amounts and _is_amount(reruns, _MOST_RERUNS, int)
    if not is_amounts or not _is_command(command):
        raise ConfigError(f"{gate.reason}: {_FORM}")
    return replace(gate, command=tuple(command), timeout_s=float(timeout), flaky_reruns=reruns)


def _is_command(value: object) -> bool:
    if not isinstance(value, list) or not any(value[:1]):
        return False
    return all(isinstance(part, str) for part in value)


def _is_amount(value: Any, most: int, *kinds: type) -> bool:
    # Not isinstance, because a bool is also an int. The comparison refuses nan.
    return type(value) in kinds and 0 <= value <= most
