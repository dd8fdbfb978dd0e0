"""A task file: Markdown whose optional YAML front matter says how the unit is to be done (line.md §5).

Invariant: a value is taken as it is written (`title: yes` is "yes", `priority: 010` is refused, not 8); whatever is
refused is refused with its line and the correct form.
"""

import difflib
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import frontmatter
import yaml
from frontmatter.default_handlers import YAMLHandler

from factory.errors import TaskFileError

MAX_BYTES = 1024 * 1024
MAX_FRONT_MATTER = 64 * 1024
MAX_ID = 60
MAX_TITLE = 200

FORMS: Mapping[str, str] = {
    "title": 'title: "Fix: the login"',
    "priority": "priority: 2  # 0 now … 4 whenever",
    "needs": "needs: [add-users, fix-login]  # ids of units",
    "scope": 'scope: ["src/**", "docs/*.md"]  # globs, relative to the repository',
    "accept": "accept: ['pytest -q tests/test_login.py']  # shell commands",
    "run": "run: 'ruff format .'  # a shell command",
    "agent": "agent: claude  # a file in conventions/runtimes",
    "model": "model: name-of-the-model",
    "attempts": "attempts: 3  # 1 … 99",
    "minutes": "minutes: 45  # per attempt; fractions are fine",
    "allow": "allow: [edit-tests]  # edit-tests, delete-files, new-dependency, edit-gates, protected",
    "review": "review: required  # or auto",
}
GUARDS = frozenset({"edit-tests", "delete-files", "new-dependency", "edit-gates", "protected"})
LATER = {"on": "stacking a unit on another", "until": "loops until a command passes"}

_UNFIT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_OPENING = re.compile(r"(?:[ \t]*\r?\n)*---[ \t]*(?:\r?\n|\Z)")
_CLOSING = re.compile(r"^---[ \t]*\r?(?:\n|\Z)", re.MULTILINE)
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r" {0,3}#{1,6}[ \t]+(.*?)[ \t]*#*[ \t]*")
_QUOTE = 'put quotes around a value that starts with a sign or holds a colon: title: "Fix: the login"'


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFile:
    """What a task file asks for; None, "" and () stand for keys left out."""

    title: str
    body: str  # verbatim
    priority: int = 2
    needs: tuple[str, ...] = ()
    scope: tuple[str, ...] = ()
    accept: tuple[str, ...] = ()
    run: str = ""
    agent: str = ""
    model: str = ""
    attempts: int | None = None
    minutes: float | None = None
    allow: tuple[str, ...] = ()
    review: str = ""
    lines: Mapping[str, int] = field(default_factory=dict)  # where each key stands, for later complaints


def decode(raw: bytes) -> str:
    """The text of a dropped file; raise TaskFileError for anything but UTF-8 text of at most 1 MiB."""
    if len(raw) > MAX_BYTES:
        raise TaskFileError(f"larger than {MAX_BYTES // 1024} KiB", form="put large material into the repository")
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise TaskFileError("UTF-16, not UTF-8", line=1, form="save the file as UTF-8")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise TaskFileError(f"byte 0x{raw[error.start]:02x} is not UTF-8", line=line, form="save as UTF-8") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise TaskFileError("a NUL byte: not a text file", line=line, form="Markdown, UTF-8")
    return text


def parse(text: str, name: str) -> TaskFile:
    """Read the task file that was dropped as `name`; raise TaskFileError with the line and the correct form."""
    head, body, first = _split(text)
    values = {}
    lines = {}
    for value in _values(head, first):
        lines[value.key] = value.line
        if not value.left_out:
            values[value.key] = READERS[value.key](value)
    if not body.strip() and not values.keys() & {"title", "run"}:
        raise TaskFileError("says nothing to do", line=first + 1, form="write the task below the front matter")
    values.setdefault("title", _heading(body) or name.removesuffix(".md"))
    return TaskFile(body=body, lines=lines, **values)


def loose(text: str) -> tuple[dict[str, object], str]:
    """Front matter and body of a file that need not be right: where the one cannot be read, all is body."""
    if not text.lstrip("\ufeff \t\r\n").startswith("---"):
        return {}, text
    try:
        return frontmatter.parse(text.removeprefix("\ufeff"), handler=_Yaml())
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        return {}, text


def slug(name: str) -> str:
    """The unit id that a file name gives: `[a-z0-9-]`, at most 60, never empty."""
    stem = re.sub(r"\.md$", "", name, flags=re.IGNORECASE).casefold()
    plain = "".join(sign for sign in unicodedata.normalize("NFKD", stem) if not unicodedata.combining(sign))
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:MAX_ID].strip("-") or "unit"


def numbered(base: str, number: int) -> str:
    """The id to try after `base` is taken: `base-2`, still at most 60."""
    end = f"-{number}"
    return base[: MAX_ID - len(end)].rstrip("-") + end


def did_you_mean(word: str, known: list[str]) -> str:
    """The end of a complaint about an unknown word: empty where nothing is near."""
    near = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


class _Yaml(YAMLHandler):
    """YAML read in Python: frontmatter's own choice, the loader in C, overflows its stack where nesting is deep.

    Every scalar is text as it is written: an option `yes` is not True.
    """

    def load(self, fm: str, **kwargs: object) -> Any:
        return yaml.load(fm, Loader=yaml.BaseLoader)


@dataclass(frozen=True, slots=True)
class _Value:
    """One key with what was written behind it."""

    key: str
    node: yaml.Node
    line: int

    @property
    def left_out(self) -> bool:
        return self.node.tag.endswith(":null")

    def wrong(self, reason: str) -> TaskFileError:
        return TaskFileError(f"{self.key}: {reason}", line=self.line, form=FORMS[self.key])

    def text(self) -> str:
        return self._scalar(self.node)

    def texts(self) -> tuple[str, ...]:
        nodes = self.node.value if isinstance(self.node, yaml.SequenceNode) else [self.node]
        return tuple(self._scalar(node) for node in nodes)

    def number(self, pattern: str, wanted: str) -> str:
        text = self.text()
        if getattr(self.node, "style", None) or not re.fullmatch(pattern, text):
            raise self.wrong(f"{text!r} is not {wanted}")
        return text

    def _scalar(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise self.wrong("text was expected; a value that holds a colon needs quotes")
        if not node.tag.startswith("tag:yaml.org,2002:"):
            raise self.wrong(f"{node.tag} is read as a YAML tag; put quotes around the value")
        text = str(node.value).strip()
        if not text:
            raise self.wrong("empty")
        if _UNFIT.search(text):
            raise self.wrong("holds a control character")
        return text


def _title(value: _Value) -> str:
    text = value.text()
    if len(text.splitlines()) > 1 or len(text) > MAX_TITLE:
        raise value.wrong(f"one line of at most {MAX_TITLE} characters was expected")
    return text


def _needs(value: _Value) -> tuple[str, ...]:
    for need in value.texts():
        if not re.fullmatch(rf"[a-z0-9-]{{1,{MAX_ID}}}", need):
            raise value.wrong(f"{need!r} is not the id of a unit; did you mean {slug(need)}?")
    return tuple(dict.fromkeys(value.texts()))


def _scope(value: _Value) -> tuple[str, ...]:
    globs = tuple(glob.removeprefix("./") for glob in value.texts())
    for glob in globs:
        if not glob or glob[0] in "~!" or "\\" in glob or ".." in glob.split("/"):
            raise value.wrong(f"{glob!r} does not name paths inside the repository")
    return globs


def _one_word(value: _Value) -> str:
    text = value.text()
    if not re.fullmatch(r"[A-Za-z0-9][^\s\x00-\x20]*", text) or (value.key == "agent" and "/" in text):
        raise value.wrong(f"{text!r} is not a name")
    if value.key == "agent" and text == "run":
        raise value.wrong("'run' is not an agent; to run a command, write run: 'the command'")
    return text


def _allow(value: _Value) -> tuple[str, ...]:
    for word in value.texts():
        if word not in GUARDS:
            raise value.wrong(f"no guard is called {word!r}{did_you_mean(word, sorted(GUARDS))}")
    return value.texts()


def _review(value: _Value) -> str:
    text = value.text()
    if text not in ("required", "auto"):
        raise value.wrong(f"{text!r} is neither required nor auto")
    return text


def _minutes(value: _Value) -> float:
    minutes = float(value.number(r"[0-9]{1,5}(\.[0-9]{1,9})?", "a number of minutes"))
    if not minutes:
        raise value.wrong("more than 0 was expected")
    return minutes


READERS: Mapping[str, Callable[[_Value], Any]] = {
    "title": _title,
    "priority": lambda value: int(value.number("[0-4]", "a whole number from 0 to 4")),
    "needs": _needs,
    "scope": _scope,
    "accept": _Value.texts,
    "run": _Value.text,
    "agent": _one_word,
    "model": _one_word,
    "attempts": lambda value: int(value.number("[1-9][0-9]?", "a whole number from 1 to 99")),
    "minutes": _minutes,
    "allow": _allow,
    "review": _review,
}


def _split(text: str) -> tuple[str, str, int]:
    """Front matter, body, and how many lines stand above the front matter."""
    text = text.removeprefix("\ufeff")
    opening = _OPENING.match(text)
    if not opening:
        return "", text, 0
    first = text.count("\n", 0, opening.end())
    closing = _CLOSING.search(text, opening.end())
    if not closing:
        form = "close it with a line that is only ---"
        raise TaskFileError("front matter is opened by --- and never closed", line=max(first, 1), form=form)
    head = text[opening.end() : closing.start()]
    if len(head) > MAX_FRONT_MATTER:
        raise TaskFileError("front matter is larger than 64 KiB", line=first, form="the task belongs below it")
    return head, text[closing.end() :], first


def _values(head: str, first: int) -> list[_Value]:
    root = _compose(head, first)
    if root is None:
        return []
    if not isinstance(root, yaml.MappingNode):
        raise TaskFileError("front matter is not made of `key: value` lines", line=first + 1, form=FORMS["priority"])
    found: dict[str, _Value] = {}
    for key_node, node in root.value:
        line = first + key_node.start_mark.line + 1
        key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "a key that is not text"
        _check_key(key, line, found)
        found[key] = _Value(key, node, line)
    return list(found.values())


def _check_key(key: str, line: int, found: Mapping[str, _Value]) -> None:
    if key in LATER:
        raise TaskFileError(f"not yet: {LATER[key]} (`{key}`)", line=line, form=f"leave {key} out")
    if key not in READERS:
        reason = f"unknown key {key!r}{did_you_mean(key, list(READERS))}"
        raise TaskFileError(reason, line=line, form="one of " + ", ".join(READERS))
    if key in found:
        raise TaskFileError(f"{key} is given twice, first on line {found[key].line}", line=line, form=FORMS[key])


def _compose(head: str, first: int) -> yaml.Node | None:
    try:
        node: yaml.Node | None = yaml.compose(head, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = first + (mark.line if mark else 0) + 1
        problem = error.problem or "not YAML"
        form = "indent with spaces, not with tabs" if r"\t" in problem else _QUOTE
        raise TaskFileError(f"front matter cannot be read: {problem}", line=line, form=form) from None
    except yaml.reader.ReaderError as error:
        line = first + head.count("\n", 0, int(error.position)) + 1
        raise TaskFileError("a control character", line=line, form="remove it") from None
    except (RecursionError, ValueError):
        raise TaskFileError("front matter cannot be read", line=first + 1, form=FORMS["priority"]) from None
    return node


def _heading(body: str) -> str:
    """The first heading of the Markdown outside of code blocks, as one clean line."""
    fence = before = ""
    for line in body.splitlines():
        mark = _FENCE.match(line)
        heading = _HEADING.fullmatch(line)
        if fence:
            fence = "" if mark and mark[1].startswith(fence) else fence
        elif mark:
            fence = mark[1]
        elif heading and heading[1]:
            return _one_line(heading[1])
        elif before and re.fullmatch("=+ *", line):
            return _one_line(before)
        before = line.strip()
    return ""


def _one_line(text: str) -> str:
    return " ".join(_UNFIT.sub(" ", text).split())[:MAX_TITLE]
