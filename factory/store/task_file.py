"""Parses a task file: Markdown with optional YAML front matter for the unit (line.md §5).

Invariant: YAML types do not change a value's text: `title: yes` means "yes", and `priority: 010` is
an error and not 8. Each error names the line and the correct form.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from factory.ground.entry import MOST_VALUES, Entry, NotPlain, Text
from factory.ground.errors import TaskFileError, did_you_mean
from factory.ground.front_matter import split_front_matter

MAX_BYTES = 1024 * 1024
# The limit for all files in split/ together. It is low because the line waits for the parser.
PARTS_BYTES = 128 * 1024
MAX_ID = 60
MAX_TITLE = 200

GUARDS = ("edit-gates", "edit-agents")
LATER_GUARDS = ("edit-tests", "delete-files", "new-dependency", "large", "protected")
LATER = {"on": "stacking a unit on another", "until": "loops until a command passes"}

_UNFIT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_FENCED = re.compile(r"^ {0,3}(`{3,}|~{3,}).*?(^ {0,3}\1|\Z)", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(\S.*)$|^[ \t]*(\S.*)\n=+[ \r]*$", re.MULTILINE)
_QUOTE = (
    "put quotes around a value that starts with a sign or holds a colon: "
    """accept: "grep -q 'a: b' notes.txt\""""
)
# A title or a command on one line, without a line below that continues it.
_AS_WRITTEN = re.compile(
    r"^(title|run):[ \t]+(\S[^\r\n\x85\u2028\u2029]*)(?=\r?$)(?!(?:[ \t]*\r?\n)+[ \t]+\S)",
    re.MULTILINE,
)
# Text that is YAML in such a line.
_YAML = re.compile(
    r"""(?: "(?:[^"\\]|\\.)*(?:"|$)     # in quotes; a line below may close them
          | '(?:[^']|'')*(?:'|$)
          | [\[{](?:[^\]}]*|.*[\]}])$   # a list
          | [|>][-+0-9]*                # a block begins
          | ~ | null | Null | NULL
          | (?=\#)
        )
        [ \t]*(?:(?:(?<=[ \t])|^)\#(?:[ \t].*)?)?  # a comment""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFile:
    """The content of a task file. A missing key has the value None, "" or ()."""

    title: str
    body: str  # the Markdown, unchanged
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
    ignored: tuple[str, ...] = ()  # keys without a value
    # the line of each key, for later error messages
    lines: Mapping[str, int] = field(default_factory=dict)


def decode(raw: bytes) -> str:
    """Return the text of a file; raise TaskFileError if it is not UTF-8 or has more than 1 MiB."""
    if len(raw) > MAX_BYTES:
        raise TaskFileError(
            f"larger than {MAX_BYTES // 1024} KiB", form="put large material into the repository"
        )
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        reason = f"byte 0x{raw[error.start]:02x} is not UTF-8"
        raise _not_text(raw, error.start, reason) from error
    nul = raw.find(b"\0")
    if nul >= 0:
        raise _not_text(raw, nul, "a NUL byte: not a text file")
    return text


def _not_text(raw: bytes, place: int, reason: str) -> TaskFileError:
    line = raw.count(b"\n", 0, place) + 1
    return TaskFileError(reason, line=line, form="Markdown, saved as UTF-8")


def parse(text: str, name: str, *, most: int = MOST_VALUES) -> TaskFile:
    """Parse the text of a task file; raise TaskFileError with the line and the correct form.

    `most`: how many values its front matter may have.
    """
    head, body, first = split_front_matter(text)
    written = _values(head, first, most)
    values = {value.key: READERS[value.key](value) for value in written if not value.left_out}
    if not body.strip() and not values.keys() & {"title", "run"}:
        raise TaskFileError(
            "has no task", line=first + 1, form="write the task below the front matter"
        )
    for value in written:
        if "run" in values and value.key in ("agent", "model") and not value.left_out:
            raise value.wrong("`run` is a task without an agent; keep one of the two")
    values.setdefault("title", _heading(body) or name.removesuffix(".md"))
    ignored = tuple(value.key for value in written if value.left_out)
    lines = {value.key: value.line for value in written}
    return TaskFile(body=body, ignored=ignored, lines=lines, **values)


def slug(name: str) -> str:
    """Return a name as an id: at most 60 characters of `[a-z0-9-]`; "" if it has no such letter."""
    stem = re.sub(r"\.md$", "", name, flags=re.IGNORECASE).casefold()
    plain = ""
    for sign in unicodedata.normalize("NFKD", stem):
        if not unicodedata.combining(sign):
            plain += sign
    words = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    return words[:MAX_ID].strip("-")


def ids(name: str, title: str = "") -> Iterator[str]:
    """Yield the ids to try for a file: the slug of its name or else of its title, then numbers.

    Without any Latin letter in both, the ids are `unit-0001`, `unit-0002` and so on.
    """
    base = slug(name) or slug(title)
    if base:
        yield base
        for number in count(2):
            yield numbered(base, number)
    for number in count(1):
        yield f"unit-{number:04}"


def free_id(name: str, is_taken: Callable[[str], bool], *, title: str = "") -> str:
    """Return the first free id that can be made from a file's name and title."""
    for each in ids(name, title):
        if not is_taken(each):
            return each
    raise AssertionError("there is always another number")


def numbered(base: str, number: int) -> str:
    """Return `base` with a number, such as `base-2`; shorten `base` to keep to 60 characters."""
    end = f"-{number}"
    return base[: MAX_ID - len(end)].rstrip("-") + end


@dataclass(frozen=True, slots=True)
class _Value:
    """One key with its value as the file writes it."""

    key: str
    entry: Entry
    line: int

    @property
    def left_out(self) -> bool:
        return not self.entry.is_list and self.entry.texts[0].is_null

    @property
    def is_quoted(self) -> bool:
        return self.entry.texts[0].is_quoted

    def wrong(self, reason: str) -> TaskFileError:
        return TaskFileError(f"{self.key}: {reason}", line=self.line, form=FORMS[self.key])

    def texts(self) -> tuple[str, ...]:
        return tuple(self._checked(each) for each in self.entry.texts)

    def text(self) -> str:
        if self.entry.is_list:
            raise self._no_text()
        return self._checked(self.entry.texts[0])

    def _checked(self, written: Text) -> str:
        if not written.is_plain:
            raise self._no_text()
        text = written.text.strip()
        if not text or _UNFIT.search(text):
            raise self.wrong("holds a control character" if text else "empty")
        return text

    def _no_text(self) -> TaskFileError:
        return self.wrong("text was expected; a value that holds a colon needs quotes")


def _like(pattern: str, wanted: str, kind: Callable[[str], Any] = str) -> Callable[[_Value], Any]:
    def read(value: _Value) -> Any:
        text = value.text()
        if (kind is not str and value.is_quoted) or not re.fullmatch(pattern, text):
            # a number in quotes is a text and not a number
            raise value.wrong(f"{text!r} is not {wanted}")
        return kind(text)

    return read


def _each(pattern: str, wanted: str) -> Callable[[_Value], tuple[str, ...]]:
    def read(value: _Value) -> tuple[str, ...]:
        for text in value.texts():
            if not re.fullmatch(pattern, text):
                meant = f"; did you mean {slug(text)}?" if slug(text) else ""
                raise value.wrong(f"{text!r} is not {wanted.format(meant)}")
        return tuple(dict.fromkeys(value.texts()))

    return read


def _allow(value: _Value) -> tuple[str, ...]:
    for word in value.texts():
        if word in LATER_GUARDS:
            raise value.wrong(f"not yet: there is no guard {word!r} to lift; leave it out")
        if word not in GUARDS:
            raise value.wrong(
                f"no guard is called {word!r}{did_you_mean(word, (*GUARDS, *LATER_GUARDS))}"
            )
    return value.texts()


_TITLE = _like(
    rf"[^\n\u2028\u2029]{{1,{MAX_TITLE}}}", f"one line of at most {MAX_TITLE} characters"
)
_NEEDS = _each(rf"[a-z0-9-]{{1,{MAX_ID}}}", "the id of a unit{}")
_SCOPE = _each(r"(?![~!])(?!(.*/)?\.\.(/|$))[^\\]+", "a glob of paths inside the repository")
_AGENT = _like(
    r"(?!run$)[A-Za-z0-9][^\s/]*", "a name of an agent; to run a command, write run: 'the command'"
)
_MINUTES = _like(r"(?![0.]+$)[0-9]{1,5}(\.[0-9]{1,9})?", "a number of minutes, more than 0", float)

# For each key: the function that reads it, and its correct form.
KEYS: Mapping[str, tuple[Callable[[_Value], Any], str]] = {
    "title": (_TITLE, 'title: "Fix: the login"'),
    "priority": (
        _like("[0-4]", "a whole number from 0 to 4", int),
        "priority: 2  # 0 now … 4 whenever",
    ),
    "needs": (_NEEDS, "needs: [add-users, fix-login]  # ids of units"),
    "scope": (_SCOPE, 'scope: ["src/**", "docs/*.md"]  # globs, relative to the repository'),
    "accept": (_Value.texts, "accept: ['pytest -q tests/test_login.py']  # shell commands"),
    "run": (_Value.text, "run: 'ruff format .'  # a shell command"),
    "agent": (_AGENT, "agent: claude  # a file in conventions/runtimes"),
    "model": (_like(r"[A-Za-z0-9]\S*", "a name"), "model: name-of-the-model"),
    "attempts": (_like("[1-9][0-9]?", "a whole number from 1 to 99", int), "attempts: 3  # 1 … 99"),
    "minutes": (_MINUTES, "minutes: 45  # per attempt; fractions are fine"),
    "allow": (
        _allow,
        "allow: [edit-gates, edit-agents]  # change what judges, what runs on your machine",
    ),
    "review": (_like("required|auto", "required or auto"), "review: required  # or auto"),
}
READERS = {key: reader for key, (reader, _) in KEYS.items()}
FORMS = {key: form for key, (_, form) in KEYS.items()}


def _values(head: str, first: int, most: int) -> list[_Value]:
    found: dict[str, _Value] = {}
    for entry in _entries(head, first, most):
        line = first + entry.line + 1
        key = entry.key
        if key in LATER:
            raise TaskFileError(
                f"not yet: {LATER[key]} (`{key}`)", line=line, form=f"leave {key} out"
            )
        if key not in READERS:
            reason = f"unknown key {key!r}{did_you_mean(key, READERS)}"
            raise TaskFileError(reason, line=line, form="one of " + ", ".join(READERS))
        if key in found:
            raise TaskFileError(
                f"{key} is given twice, first on line {found[key].line}", line=line, form=FORMS[key]
            )
        found[key] = _Value(key, entry, line)
    return list(found.values())


def _entries(head: str, first: int, most: int) -> tuple[Entry, ...]:
    from factory.ground.plain_yaml import MOST_BYTES, entries  # here: PyYAML takes 1 MiB

    try:
        if len(head) <= MOST_BYTES:  # `entries` refuses more
            head = _AS_WRITTEN.sub(_quoted, head)
        return entries(head, most=most)
    except NotPlain as error:
        raise TaskFileError(
            error.reason, line=first + error.line + 1, form=error.form or _QUOTE
        ) from None


def _quoted(found: re.Match[str]) -> str:
    """Return the line with quotes around its text, unless the text is YAML."""
    key, text = found[1], found[2].rstrip()
    if _YAML.fullmatch(text):
        return found[0]
    doubled = text.replace("'", "''")
    return f"{key}: '{doubled}'"


def _heading(body: str) -> str:
    """Return the first heading outside of code blocks, as one line without control characters."""
    found = _HEADING.search(_FENCED.sub("", body))
    return _one_line(re.sub(r"(^|\s)#+\s*$", "", found[1] or found[2])) if found else ""


def _one_line(text: str) -> str:
    return " ".join(_UNFIT.sub(" ", text).split())[:MAX_TITLE]
