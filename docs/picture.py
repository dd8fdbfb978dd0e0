"""Draws docs/status.svg: what `factory status` prints in the middle of the demo.

The words come from a real run, on a terminal of its own. `make picture` runs it; tests/test_demo.py fails when the
demo prints other words than the picture shows.
"""

import os
import pty
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import escape

PICTURE = Path(__file__).with_name("status.svg")
COMMAND = "$ factory status"
AFTER = "Card E1 is"  # the demo goes on with this sentence
NOTES = "! "  # the foot of the screen: it differs from machine to machine

COLUMNS, WIDE, HIGH, MARGIN = 80, 8.45, 19, 20
STYLES = {"1": "bold", "2": "dim", "31": "red", "32": "green", "33": "yellow", "36": "cyan"}
ESCAPE = re.compile(r"\x1b\[(\d*)m")
HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">
<title>factory status: one question for you, two agents at work, five tasks landed</title>
<style>
text {{ font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #e6edf3 }}
.bold {{ font-weight: bold }} .dim {{ fill: #9198a1 }} .red {{ fill: #ff7b72 }}
.green {{ fill: #56d364 }} .yellow {{ fill: #e3b341 }} .cyan {{ fill: #56d4dd }}
</style>
<rect width="100%" height="100%" rx="8" fill="#0d1117"/>
"""


def screen(output: str) -> list[str]:
    """Return the lines of the first status in the demo's output, without its foot."""
    _, _, below = output.replace("\r\n", "\n").partition(COMMAND)
    shown, _, _ = below.partition(AFTER)
    lines = [COMMAND, *shown.split("\n")[1:]]
    plain = [ESCAPE.sub("", line) for line in lines]
    end = next((at for at, line in enumerate(plain) if line.startswith(NOTES)), len(lines))
    while end and not plain[end - 1].strip():
        end -= 1
    return lines[:end]


def words(svg: str) -> list[str]:
    """Return the lines that a picture shows."""
    texts = ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(text.itertext()) for text in texts]


def normal(lines: Sequence[str]) -> list[str]:
    """Return the lines without what differs from run to run: hashes, times, worker numbers, columns, order."""
    alike = list[str]()
    for line in lines:
        text = re.sub(r"\b[0-9a-f]{10}\b", "HASH", line)
        text = re.sub(r"\b\d+ (s|min)\b", "TIME", text)
        text = re.sub(r"^  w\d ", "  WORKER ", text)
        alike.append(" ".join(text.split()))
    return sorted(filter(None, alike))


def draw(lines: Sequence[str]) -> str:
    """Return the picture of a screen whose lines may hold colours."""
    width = round(COLUMNS * WIDE) + 2 * MARGIN
    height = len(lines) * HIGH + 2 * MARGIN
    rows = [HEAD.format(width=width, height=height)]
    for at, line in enumerate(lines, 1):
        text = "".join(_spans(line))
        if text:
            y = MARGIN + at * HIGH - 5
            rows.append(f'<text x="{MARGIN}" y="{y}" xml:space="preserve">{text}</text>\n')
    return "".join([*rows, "</svg>\n"])


def _spans(line: str) -> Iterator[str]:
    style = ""
    for at, part in enumerate(ESCAPE.split(line)):
        if at % 2:
            style = STYLES.get(part, "")
        elif part and style:
            yield f'<tspan class="{style}">{escape(part)}</tspan>'
        elif part:
            yield escape(part)


def run_the_demo() -> str:
    """Return what the demo prints on a terminal."""
    parts = list[bytes]()

    def read(terminal: int) -> bytes:
        parts.append(os.read(terminal, 65536))
        return parts[-1]

    os.environ["TERM"] = "xterm"
    os.environ.pop("NO_COLOR", None)
    code = os.waitstatus_to_exitcode(
        pty.spawn([str(Path(sys.executable).with_name("factoryd")), "demo"], read)
    )
    if code:
        sys.exit(f"The demo failed (exit code {code}); {PICTURE.name} stays as it is.")
    return b"".join(parts).decode()


if __name__ == "__main__":
    PICTURE.write_text(draw(screen(run_the_demo())), encoding="utf-8")
    print(f"{PICTURE} is drawn: {PICTURE.stat().st_size} bytes")
