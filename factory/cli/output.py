"""What an agent prints, read as it grows and told to a person: the last of it first, then what is added."""

import json
from collections.abc import Iterator
from typing import Any

from factory.cli import say
from factory.tail import Tail

BEFORE = 100  # lines of what was said earlier
SHOWN = 2000  # letters of a line that are told


class Output(Tail):
    """The output file of one run folder; "" is one that never says anything."""

    def read(self) -> Iterator[str]:
        """The lines that are new since the last call, readable and harmless."""
        earlier = 0 if self._inode else -BEFORE
        for text in self.lines()[earlier:]:
            yield from readable(text.decode(errors="replace"))


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
