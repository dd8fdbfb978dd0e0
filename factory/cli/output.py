"""What an agent prints, read as it grows: the last of it first, then what is added.

Invariant: no line is read twice, also across the rotation of output.log to output.1.log.
"""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from factory.cli import say

BEFORE = 100  # lines of what was said earlier
LONGEST = 65536  # bytes of a line that does not end
SHOWN = 2000  # letters of a line that are told


class Output:
    """The output file of one run folder; "" is one that never says anything."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._inode = self._at = 0  # the file that was read, and up to where
        self._rest = b""

    def read(self) -> Iterator[str]:
        """The lines that are new since the last call, readable and harmless."""
        first = not self._inode
        *whole, self._rest = (self._rest + self._fresh()).split(b"\n")
        if len(self._rest) > LONGEST:
            whole, self._rest = [*whole, self._rest], b""
        for text in whole[-BEFORE:] if first else whole:
            yield from readable(text.decode(errors="replace"))

    def _fresh(self) -> bytes:
        fresh = b""
        with suppress(FileNotFoundError), open(f"{self.folder}/output.log", "rb") as file:  # noqa: PTH123
            inode = os.fstat(file.fileno()).st_ino
            if self._inode not in (0, inode):
                fresh, self._at = self._left_in_old(), 0
            file.seek(self._at)
            fresh += file.read()
            self._inode, self._at = inode, file.tell()
        return fresh

    def _left_in_old(self) -> bytes:
        """What was written between the last read and the rotation."""
        with suppress(FileNotFoundError), open(f"{self.folder}/output.1.log", "rb") as file:  # noqa: PTH123
            if os.fstat(file.fileno()).st_ino == self._inode:
                file.seek(self._at)
                return file.read()
        return b""


def readable(text: str) -> Iterator[str]:
    """An agent's line for a person: of a JSON event only what was said or run, of anything else all."""
    try:
        said = list(_said(json.loads(text))) if text.lstrip().startswith("{") else [text]
    except (ValueError, RecursionError):
        said = [say.clip(text, 400)]
    for part in said:
        for line in filter(None, say.clean(part).rstrip().split("\n")):
            yield line if len(line) <= SHOWN else line[:SHOWN] + "…"


def _said(value: Any, name: str = "") -> Iterator[str]:
    match name, value:
        case "text", str():
            yield value
        case "command", str():
            yield f"$ {value}"
        case _, dict():
            for key, item in value.items():
                yield from _said(item, key)
        case _, list():
            for item in value:
                yield from _said(item)
