"""How things are said on a terminal: colour on a tty only, widths in cells, nothing of an agent's that could steer it.

Invariant: what `clean` returns holds no control character but newline and tab.
"""

import json
import os
import re
import sys
import textwrap
from collections.abc import Sequence
from datetime import datetime
from itertools import accumulate
from unicodedata import combining, east_asian_width

COLUMNS = 80  # one screen
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x9b[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"  # OSC, DCS…: titles, links, clipboard
    r"|\x1b[ -/]*[0-~]"
)
# What is left of them, the marks that turn the reading order round, and the lines' ends that are no newline.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


def clean(text: str) -> str:
    """The text without terminal escapes and control characters; a carriage return ends a line."""
    return _CONTROLS.sub("", _ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n"))


def as_json(value: object) -> str:
    """One line of JSON, readable, in which what could steer a terminal is escaped."""
    return _CONTROLS.sub(
        lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False)
    )


def line(text: str) -> str:
    """The cleaned text on one line."""
    return " ".join(clean(text).split())


def paint(text: str, style: str) -> str:
    """The text in that style; plain where standard output is no terminal, or one that wants no colours."""
    wanted = (
        sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    )
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if text and wanted else text


def width(text: str) -> int:
    """Cells that an uncoloured text takes."""
    return sum(map(_cells, text))


def clip(text: str, room: int) -> str:
    """One line of at most `room` cells."""
    flat = line(text)
    if width(flat) <= room:
        return flat
    kept = (
        char for char, used in zip(flat, accumulate(map(_cells, flat)), strict=True) if used < room
    )
    return "".join(kept).rstrip() + "…"


def wrap(text: str, *, indent: str = "", room: int = COLUMNS) -> list[str]:
    """The words of the text in lines of at most `room` letters; a longer word has a line of its own."""
    return textwrap.wrap(
        line(text),
        room,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def table(rows: Sequence[Sequence[str]], *, indent: str = "  ", most: int = 30) -> list[str]:
    """Rows as lines with aligned columns; the last column gets what room is left, the others at most `most`."""
    heads = [[clip(cell, most) for cell in row[:-1]] for row in rows]
    widths = [max(map(width, column)) for column in zip(*heads, strict=True)]
    room = max(12, COLUMNS - len(indent) - sum(widths) - 2 * len(widths))
    lines = []
    for head, row in zip(heads, rows, strict=True):
        cells = [
            cell + " " * (wide - width(cell) + 2) for cell, wide in zip(head, widths, strict=True)
        ]
        lines.append((indent + "".join(cells) + clip(row[-1], room)).rstrip())
    return lines


def section(title: str, rows: Sequence[Sequence[str]]) -> list[str]:
    """A titled table with an empty line before it; nothing where there are no rows."""
    return ["", paint(title, "bold"), *table(rows, most=24)] if rows else []


def ago(stamp: str | None, now: datetime) -> str:
    """How long since that RFC 3339 time: `40 s`, `12 min`, `3 h`, `2 d`."""
    return lasted(int((now - datetime.fromisoformat(stamp)).total_seconds())) if stamp else ""


def lasted(seconds: float) -> str:
    """A duration in one unit."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return (
        f"{seconds:.1f} s"
        if isinstance(seconds, float) and 0 < seconds < 10
        else f"{max(0, int(seconds))} s"
    )


def moment(stamp: str, now: datetime) -> str:
    """That time on this machine's clock, with the date where it is not today's."""
    at = datetime.fromisoformat(stamp).astimezone()
    return f"{at:%H:%M:%S}" if at.date() == now.astimezone().date() else f"{at:%m-%d %H:%M}"


def _cells(char: str) -> int:
    if combining(char) or char == "\u200d":
        return 0
    return 2 if east_asian_width(char) in "WF" else 1
