"""The message of a commit that lands a unit: the agent's text, then the factory's trailers.

Invariant: the trailers are the last paragraph, and nothing that an agent wrote is ever read as a
trailer. This module reads the trailers itself, because git's own reader stops at a scissors line.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

SUBJECT_MOST = 100  # most characters of a commit's first line
MOST_LOOKED_UP = 100  # at most so many lines and links of a text are compared with the task
UNIT, ATTEMPT, AGENT, RUN = "Factory-Unit", "Factory-Attempt", "Factory-Agent", "Factory-Run"

_TRAILER = re.compile(r"([A-Za-z][A-Za-z0-9-]*): (.*)")
_OURS = re.compile(r"\s*factory-[a-z-]+\s*:", re.IGNORECASE)
_SCISSORS = re.compile(r"[\s#;*-]*(>8|8<|>%|%<)[\s#;*-]*")
_AUTOSQUASH = re.compile(r"((fixup|squash|amend)! )+")
_SIGNATURE = re.compile(
    r"\s*(signed-off|co-authored|acked|reviewed|tested|reported|suggested|helped|approved)-by\s*:.*",
    re.IGNORECASE,
)
# Text that makes a host do something: skip CI (GitHub, GitLab, Azure, AppVeyor) or close issues.
_SKIPS = re.compile(
    r"\[(skip ci|ci skip|no ci|skip actions|actions skip|skip azp|azp skip"
    r"|skip netlify|skip vercel)\]"
    r"|\*\*\*NO_CI\*\*\*"
    # Not \s, because it would scan all empty lines again from each empty line.
    r"|^[ \t]*skip-checks[ \t]*:[ \t]*true[ \t]*$",
    re.IGNORECASE | re.MULTILINE,
)
_CLOSES = re.compile(
    r"\b(close[sd]?|fix(?:e[sd])?|resolve[sd]?|implement(?:s|ed)?)\b(\s*:)?\s+"
    r"((?:[\w.-]+/[\w.-]+)?#\d+|gh-\d+|https?://\S+/(?:issues|pull|merge_requests|work_items)/\d+\S*)",
    re.IGNORECASE,
)


class Found(NamedTuple):
    """A commit that landed a unit, according to its trailers."""

    unit: str
    attempt: int
    run: str  # the attempt's nonce; "" in commits of older releases


@dataclass(frozen=True, slots=True, kw_only=True)
class Landing:
    """A commit on trunk that landed a unit."""

    commit: str
    at: float  # seconds since the epoch
    subject: str
    unit: str
    attempt: int
    run: str = ""


def compose(said: str, *, title: str, trailers: Mapping[str, str], task: str = "") -> str:
    """Return the message: the agent's text (without a first line, `title`) and the trailers.

    `task`: the text of the task file. Text that makes a host do something stays only if the task
    contains the same text.
    """
    cleaned = clean(said, task=task)
    subject, _, body = cleaned.strip().partition("\n")
    subject = _AUTOSQUASH.sub("", subject.lstrip("# "))
    line = " ".join((subject or printable(title)).split())
    if len(line) > SUBJECT_MOST:
        body = f"{line}\n\n{body}"
        line = f"{line[: SUBJECT_MOST - 1]}…"
    line = line or "Change"
    marks = []
    for name, value in trailers.items():
        if value:
            marks.append(f"{name}: {' '.join(value.split())}")
    parts = (line, body.strip(), "\n".join(marks))
    return "\n\n".join(filter(None, parts)) + "\n"


def clean(said: str, *, task: str = "") -> str:
    """Return an agent's text without anything that makes git, a host or the factory act."""
    asked = _Asked(task)
    kept = [line for line in printable(said).splitlines() if _may_stay(line, asked)]
    text = _SKIPS.sub(lambda found: asked.if_said(found[0]), "\n".join(kept))
    return _CLOSES.sub(lambda found: asked.if_said(found[0]) or _unlinked(found), text)


def read(message: str) -> Found | None:
    """Return what a message's trailers say about a landing; None without our trailers."""
    values = dict(_trailers(message))
    number = values.get(ATTEMPT, "")
    if not values.get(UNIT) or not number.isdigit():
        return None
    return Found(values[UNIT], int(number), values.get(RUN, ""))


def printable(text: str) -> str:
    """Return the text without terminal control characters.

    An agent wrote the text, and people read the text in their git log.
    """
    return "".join(sign for sign in text if sign.isprintable() or sign in "\n\t")


def _trailers(message: str) -> Iterator[tuple[str, str]]:
    last = message.rstrip().rpartition("\n\n")[2]
    for line in last.splitlines():
        found = _TRAILER.fullmatch(line.rstrip())
        if found:
            yield found[1], found[2].strip()


class _Asked:
    """The words that the task contains.

    It limits the number of look-ups, because an agent may write thousands of lines.
    """

    def __init__(self, task: str) -> None:
        self._task = task.casefold()
        self._left = MOST_LOOKED_UP

    def if_said(self, words: str) -> str:
        """Return the words if the task contains them too; otherwise, a form without effect."""
        self._left -= 1
        return words if self._left >= 0 and words.casefold() in self._task else ""


def _may_stay(line: str, asked: _Asked) -> bool:
    if _OURS.match(line) or (_SCISSORS.fullmatch(line) and "-" in line):
        return False
    if _SIGNATURE.fullmatch(line):
        return bool(asked.if_said(line.strip()))
    return not _is_only_closing(line) or bool(asked.if_said(line.strip()))


def _is_only_closing(line: str) -> bool:
    return bool(_CLOSES.fullmatch(line.strip().rstrip(".")))


def _unlinked(found: re.Match[str]) -> str:
    """Return the same words in a form that people can read, but that has no effect on hosts."""
    verb, colon, target = found.groups()
    return f"{verb}{colon or ''} no. {re.split(r'[#/-]', target.rstrip('/'))[-1]}"
