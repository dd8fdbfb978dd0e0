"""What an agent prints, read as it grows: the last of it first, then what is added.

Invariant: no line is read twice, also across the rotation of output.log to output.1.log.
"""

import json
import os
from codecs import getincrementaldecoder
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, BinaryIO

from factory.cli import say

BEFORE = 8192  # bytes of what was said earlier
LONGEST = 65536  # characters of a line that does not end


class Output:
    """The output file of one run folder; "" is one that never says anything."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._inode = self._at = 0  # the file that was read, and up to where
        self._rest = ""
        self._decode = getincrementaldecoder("utf-8")(errors="replace")

    def read(self) -> Iterator[str]:
        """The lines that are new since the last call, readable and harmless."""
        with suppress(FileNotFoundError), open(f"{self.folder}/output.log", "rb") as file:  # noqa: PTH123
            found = os.fstat(file.fileno())
            if not self._inode and found.st_size > BEFORE:
                file.seek(found.st_size - BEFORE)
                file.readline()
                self._at = file.tell()
            if self._inode not in (0, found.st_ino):
                yield from self._rest_of_old()
                self._at = 0
            self._inode = found.st_ino
            yield from self._lines(file)

    def _rest_of_old(self) -> Iterator[str]:
        """What was written between the last read and the rotation."""
        with suppress(FileNotFoundError), open(f"{self.folder}/output.1.log", "rb") as file:  # noqa: PTH123
            if os.fstat(file.fileno()).st_ino == self._inode:
                yield from self._lines(file)

    def _lines(self, file: BinaryIO) -> Iterator[str]:
        file.seek(self._at)
        *whole, self._rest = (self._rest + self._decode.decode(file.read())).split("\n")
        self._at = file.tell()
        if len(self._rest) > LONGEST:
            whole, self._rest = [*whole, self._rest], ""
        for text in whole:
            yield from readable(text)


def readable(text: str) -> Iterator[str]:
    """An agent's line for a person: of a JSON event only what was said or run, of anything else all."""
    if not text.lstrip().startswith("{"):
        cleaned = say.clean(text).rstrip()
        yield from cleaned.split("\n") if cleaned else ()
        return
    try:
        event = json.loads(text)
    except ValueError:
        yield say.clip(text, 400)
        return
    for said in _said(event):
        yield from (part for part in say.clean(said).rstrip().split("\n") if part)


def _said(value: Any) -> Iterator[str]:
    match value:
        case list():
            for item in value:
                yield from _said(item)
        case dict():
            for name, item in value.items():
                if isinstance(item, str) and name == "text":
                    yield item
                elif isinstance(item, str) and name == "command":
                    yield f"$ {item}"
                elif not isinstance(item, str):
                    yield from _said(item)
