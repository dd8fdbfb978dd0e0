"""Splits the shell code of a CI step into commands.

Invariant: each command keeps its text. Code that is more than a list of simple commands stays in
one piece, because only a shell understands it.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

_CONTROL = re.compile(r"^\s*((if|for|while|until|case|select|function|\{|\w+\s*\(\))(\s|$)|\()|<<")
_SEPARATOR = re.compile(r"\s*(?:&&|;)\s*")
_PARTS = re.compile(r"&&|\|\||[;|&()]|\b(?:then|do|else|elif|if|while)\b|!\s")
_NAME = re.compile(r"[A-Za-z_]\w*")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
# Commands that only prepare a shell or print: they install nothing and judge nothing.
_SILENT = frozenset(
    "echo printf set true pwd ls cat date env which source . git sleep ulimit".split()
)
_WRITES_FILE = re.compile(r">>?\s*[\"']?[\w./-]+[\"']?$")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
# A value that stays the same text in a shell, with and without quotes.
_SAFE = re.compile(r"[\w./:@%+=,-]*")
_DELETED = re.compile(
    r"\$\(echo [\"']?([\w.-]+)[\"']? \| tr -d [\"']?\\?([.-])[\"']?( \| cut [^|)]*)?\)"
)
_SUBSTITUTED = re.compile(r"\$\([^()]*\)")
# Files in which CI collects what a person reads.
_SUMMARY = re.compile(r"\s*(>>?|\|\s*tee(\s+-a)?)\s*[\"']?\$\{?GITHUB_STEP_SUMMARY\}?[\"']?")
_QUOTED_PLACE = re.compile(r"'([^'\n]*\$(?:GITHUB_WORKSPACE|RUNNER_TEMP)\b[^'\n]*)'")
_VENV = re.compile(r"(?<![\w/.])(?:\./)?\.?venv/bin/(?!activate)")
WORKSPACE, TEMPORARY = "$GITHUB_WORKSPACE", "$RUNNER_TEMP"


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a step; `words` is empty if only a shell can run the code."""

    code: str
    words: tuple[str, ...]
    line: int  # counted from 0 within the step
    folder: str = ""  # the folder that an earlier `cd` entered
    env: tuple[tuple[str, str], ...] = ()

    @property
    def parts(self) -> Iterator[tuple[str, ...]]:
        """Yield the words of each simple command in the code."""
        if self.words:
            yield self.words
        else:
            yield from parts_of(self.code)


def commands(block: str) -> Iterator[Command]:
    """Yield the commands of a step in their order."""
    if _is_program(block):
        yield Command(block.strip(), (), 0)
        return
    folder = ""
    env: tuple[tuple[str, str], ...] = ()
    for number, line in _logical_lines(block):
        for code in _pieces(line):
            command = Command(code, _simple(code), number, folder, env)
            match command.words:
                case ("cd", target):
                    folder = joined(folder, target)
                case ("export", *pairs):
                    env = (*env, *_pairs(pairs))
                case _ if code.split()[0] in _SILENT and not _WRITES_FILE.search(code):
                    pass
                case words:
                    if words and all(map(_ASSIGNMENT.match, words)):  # only sets variables
                        env = (*env, *_pairs(words))
                    else:
                        yield _without_assignments(command)


def expanded(code: str, env: Mapping[str, str]) -> str:
    """Return the code with the values of variables that CI sets, if they are plain words.

    The environments of CI are not those of this machine: `.venv/bin/pytest` becomes `pytest`.
    """

    def value(found: re.Match[str]) -> str:
        known = env.get(found[1] or found[2])
        return found[0] if known is None or not _SAFE.fullmatch(known) else known

    known = _VARIABLE.sub(value, _QUOTED_PLACE.sub(r'"\1"', code))
    known = _SUMMARY.sub("", known)
    without = _DELETED.sub(lambda found: found[1].replace(found[2], ""), known)
    return _VENV.sub("", without)


def evaluated(block: str) -> str:
    """Return the code with the values of the variables that it sets itself to plain words."""
    known = dict[str, str]()
    lines = []
    for line in block.splitlines():
        line = expanded(line, known)
        name, sign, value = line.strip().partition("=")
        if sign and _NAME.fullmatch(name):
            known.pop(name, None)
            if _SAFE.fullmatch(value):
                known[name] = value
        lines.append(line)
    return "\n".join(lines)


def parts_of(code: str) -> Iterator[tuple[str, ...]]:
    """Yield the words of each simple command in a shell's code."""
    plain = _SUBSTITUTED.sub("it", code.replace("\\\n", " "))
    for part in _PARTS.split(plain.replace("\n", ";")):
        words = words_of(part)
        if words:
            yield words


def words_of(code: str) -> tuple[str, ...]:
    """Return the words of a simple command without its assignments; () if it is not one."""
    try:
        words = shlex.split(code, comments=True)
    except ValueError:
        return ()
    while words and _ASSIGNMENT.match(words[0]):
        words.pop(0)
    return tuple(words)


def joined(folder: str, target: str) -> str:
    """Return the folder that `cd target` enters from `folder`, relative to the root."""
    if target.startswith(WORKSPACE):
        folder, target = "", target.removeprefix(WORKSPACE)
    elif target.startswith(TEMPORARY):
        return target
    parts = folder.split("/") if folder else []
    for part in target.split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part == "..":  # outside the tree
            parts.append(part)
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _is_program(block: str) -> bool:
    """Whether the code is more than a list of commands."""
    lines = block.splitlines()
    if any(map(_CONTROL.search, lines)):
        return True
    try:
        for _, line in _logical_lines(block):
            shlex.split(line, comments=True)
    except ValueError:  # a quoted text of several lines
        return True
    return False


def _logical_lines(block: str) -> Iterator[tuple[int, str]]:
    """Yield each line with its number; a backslash at its end joins the next line."""
    open_line = ""
    start = 0
    for number, line in enumerate(block.splitlines()):
        if not open_line:
            start = number
        stripped = line.strip()
        if stripped.endswith("\\"):
            open_line += stripped[:-1]
            continue
        whole = (open_line + stripped).strip()
        open_line = ""
        if whole and not whole.startswith("#"):
            yield start, whole
    if open_line.strip():
        yield start, open_line.strip()


def _pieces(line: str) -> list[str]:
    """Return the commands of a line that `&&` or `;` joins, unless it has quotes or a pipe."""
    if re.search(r"['\"`|&;]", _SEPARATOR.sub(" ", line)):
        return [line]
    return [piece for piece in _SEPARATOR.split(line) if piece]


def _simple(code: str) -> tuple[str, ...]:
    """Return the words of a command, with its assignments; () if it needs a shell."""
    try:
        tokens = list(shlex.shlex(code, posix=True, punctuation_chars=";&|()<>"))
    except ValueError:
        return ()
    if "`" in code or "$(" in code or any(token[:1] in ";&|()<>" for token in tokens):
        return ()
    return tuple(shlex.split(code, comments=True))


def _pairs(words: list[str] | tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    found = []
    for word in words:
        name, sign, value = word.partition("=")
        if sign:
            found.append((name, value))
    return tuple(found)


def _without_assignments(command: Command) -> Command:
    """Return the command with the variables that it sets in `env` instead of in its text."""
    set_here = []
    for word in command.words:
        if not _ASSIGNMENT.match(word):
            break
        set_here.append(word)
    if not set_here:
        return command
    words = command.words[len(set_here) :]
    rest = command.code
    for _ in set_here:
        rest = re.sub(r"^\s*\w+=('[^']*'|\"[^\"]*\"|\S*)\s+", "", rest)
    return replace(command, code=rest, words=words, env=(*command.env, *_pairs(set_here)))
