"""How text is shown on a terminal: colours, widths in cells, and no control sequences.

Invariant: the result of `clean` contains no control character except newline and tab.
"""

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import repeat

COLUMNS = 80  # of a terminal that does not tell its width
_ENDLESS = 1_000_000  # without a terminal, nothing is cut
_LEAST = 20  # a last cell with less room than this goes below its row
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x9b[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    # OSC, DCS…: titles, links, clipboard
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]"
)
# The rest of such sequences, marks that reverse the reading order, and line ends other than
# newline.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
# Letters that certainly take one cell each. wcwidth measures all others; its import takes 40 ms.
_NARROW = re.compile(r"[ -~\u00a0-\u02ff\u2010-\u2027\u2190-\u2193\u2500-\u257f]*")
_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


def clean(text: str) -> str:
    """Return the text without terminal escapes and control characters.

    A carriage return ends a line.
    """
    return _CONTROLS.sub("", _ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n"))


def as_json(value: object) -> str:
    """Return one line of JSON, rows included, with all terminal control characters escaped."""
    text = json.dumps(value, ensure_ascii=False, default=vars)
    return _CONTROLS.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def line(text: str) -> str:
    """Return the cleaned text on one line."""
    return " ".join(clean(text).split())


def paint(text: str, style: str) -> str:
    """Return the text in that style; unchanged if standard output shows no colours."""
    if not text or not _shows_colours():
        return text
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"


def _shows_colours() -> bool:
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return sys.stdout.isatty()


def width(text: str) -> int:
    """Return how many cells a text without colours takes."""
    return sum(cells for _, cells in _letters(text))


def clip(text: str, room: int) -> str:
    """Return one line of at most `room` cells."""
    flat = line(text)
    if width(flat) <= room:
        return flat
    used = 0
    begin = ""
    for letter, cells in _letters(flat):
        used += cells
        if used >= room:
            break
        begin += letter
    return begin.rstrip() + "…"


def _letters(text: str) -> Iterable[tuple[str, int]]:
    """Yield each letter that a person sees (one or more code points), with its number of cells."""
    if _NARROW.fullmatch(text):
        return zip(text, repeat(1), strict=False)
    import wcwidth

    return [(letter, wcwidth.width(letter)) for letter in wcwidth.iter_graphemes(text)]


def columns() -> int | None:
    """Return how many cells a line of the terminal has; None if the output goes elsewhere."""
    if not sys.stdout.isatty():
        return None
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or COLUMNS
    except OSError:
        return COLUMNS


def wrap(text: str, *, indent: str = "", room: int | None = None) -> list[str]:
    """Return the words in lines of at most `room` cells; a longer word has its own line.

    Without `room`, the lines are as wide as the terminal, or 80 cells without a terminal.
    """
    room = room or columns() or COLUMNS
    lines = list[str]()
    row = indent
    for word in _words(line(text), room - len(indent)):
        if row == indent:
            row += word
        elif width(row) + 1 + width(word) <= room:
            row += f" {word}"
        else:
            lines.append(row)
            row = indent + word
    return [*lines, row] if row != indent else lines


def _words(text: str, room: int) -> Iterator[str]:
    """Yield the words; one with wide letters, which needs no space to end a line, in parts."""
    for word in text.split():
        if width(word) <= max(room, len(word)):
            yield word
            continue
        part, used = "", 0
        for letter, cells in _letters(word):
            if part and used + cells > room:
                yield part
                part, used = "", 0
            part += letter
            used += cells
        yield part


def joined(parts: Iterable[str], *, indent: str = "", room: int | None = None) -> list[str]:
    """Return the parts with dots between them; one that does not fit begins the next line.

    A part may have colours.
    """
    room = room or columns() or _ENDLESS
    lines = list[str]()
    for part in parts:
        longer = f"{lines[-1]} · {part}" if lines else indent + part
        if not lines or width(clean(longer)) <= room:
            lines[-1:] = [longer]
        else:
            lines.append(f"{indent}  {part}")
    return lines


def table(
    rows: Sequence[Sequence[str]], *, indent: str = "  ", most: int = 30, room: int | None = None
) -> list[str]:
    """Return rows with columns of at most `most` cells; the last column gets the remaining room.

    On a terminal, longer text is cut, except a single word or a path before the last column,
    because a person may have to copy it. A cell that has no room in its row goes below it.
    """
    limit = room or columns() or _ENDLESS
    heads = [_heads(row[:-1], most if limit < _ENDLESS else _ENDLESS) for row in rows]
    widths = [_widest(column, most) for column in zip(*heads, strict=True)]
    lines = list[str]()
    for head, row in zip(heads, rows, strict=True):
        lines += _row(zip(head, widths, strict=True), line(row[-1]), indent, limit)
    return lines


def _row(heads: Iterable[tuple[str, int]], last: str, indent: str, limit: int) -> list[str]:
    """Return a row of cells with their widths; of several lines if it does not fit on one."""
    lines = list[str]()
    text = indent
    for cell, wide in heads:
        if text != indent and width(text) + width(cell) > limit:
            lines.append(text.rstrip())
            text = f"{indent}    "
        text += cell + " " * (max(wide - width(cell), 0) + 2)
    if last and width(text) + min(width(last), _LEAST) > limit:
        lines.append(text.rstrip())
        text = f"{indent}    "
    if last:
        text += clip(last, limit - width(text))
    return [*lines, text.rstrip()]


def _widest(column: Iterable[str], most: int) -> int:
    """Return the cells of the widest text in a column, without texts that are too wide for it."""
    return max((each for each in map(width, column) if each <= most), default=0)


def _heads(cells: Sequence[str], most: int) -> list[str]:
    shown = []
    for cell in map(line, cells):
        is_text = " " in cell and not cell.startswith("/")
        shown.append(clip(cell, most) if is_text else cell)
    return shown


def section(title: str, rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a titled table after an empty line; nothing if there are no rows."""
    return ["", paint(title, "bold"), *table(rows, most=24)] if rows else []


def ago(stamp: str | None, now: datetime) -> str:
    """Return the time since that RFC 3339 time: `40 s`, `12 min`, `3 h`, `2 d`."""
    if stamp is None:
        return ""
    passed = now - datetime.fromisoformat(stamp)
    return lasted(int(passed.total_seconds()))


def lasted(seconds: float) -> str:
    """Return a duration in one unit."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    if isinstance(seconds, float) and 0 < seconds < 10:
        return f"{seconds:.1f} s"
    return f"{max(0, int(seconds))} s"


def moment(stamp: str, now: datetime) -> str:
    """Return that time on this machine's clock, with the date if it is not today."""
    at = datetime.fromisoformat(stamp).astimezone()
    return f"{at:%H:%M:%S}" if at.date() == now.astimezone().date() else f"{at:%m-%d %H:%M}"
