"""Finds the end of a Markdown file's front matter, and reads as much as possible of faulty ones."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from factory.ground.entry import Entry, NotPlain
from factory.ground.errors import TaskFileError

_OPENING = re.compile(r"(?:[ \t]*\r?\n)*---[ \t]*(?:\r?\n|\Z)")
_CLOSING = re.compile(r"^---[ \t]*\r?(?:\n|\Z)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Loose:
    """A file that may be faulty: its keys, its body, and the error in its front matter.

    `head`: the faulty front matter, if it has an end. `head` is not part of the body.
    """

    keys: Mapping[str, str | list[str]]
    body: str
    trouble: str = ""
    head: str = ""


def loose(text: str) -> Loose:
    """Read a file that may be faulty. Front matter without an end counts as part of the body."""
    from factory.ground.plain_yaml import entries  # here, because PyYAML takes 1 MiB

    try:
        head, body, first = split_front_matter(text)
    except TaskFileError as error:
        return Loose({}, text, error.reason)
    try:
        found = entries(head)
    except NotPlain as error:
        return Loose({}, body, f"line {first + error.line + 1}: {error.reason}", head)
    return Loose({entry.key: _value(entry) for entry in found}, body)


def _value(entry: Entry) -> str | list[str]:
    if entry.is_list:
        return [each.text for each in entry.texts]
    is_plain = entry.texts and entry.texts[0].is_plain
    return entry.texts[0].text if is_plain else ""


def split_front_matter(text: str) -> tuple[str, str, int]:
    """Return the front matter, the body, and the number of lines above the front matter."""
    text = text.removeprefix("\ufeff")
    opening = _OPENING.match(text)
    if not opening:
        return "", text, 0
    first = text.count("\n", 0, opening.end())
    closing = _CLOSING.search(text, opening.end())
    if not closing:
        form = "close it with a line that is only ---"
        raise TaskFileError(
            "front matter is opened by --- and never closed", line=max(first, 1), form=form
        )
    return text[opening.end() : closing.start()], text[closing.end() :], first
