"""Finds the files that an editable installation put into a venv, except links to the tree.

Invariant: no code of the candidate runs, and each file is read up to a bound.
"""

import csv
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from factory.judging.texts import text_of
from factory.judging.venvs import own_folders

_LOADER = re.compile(r"editable|\.pth$", re.IGNORECASE)  # matches files that only lead to the tree
_COMMAND = re.compile(r"(?m)^[ \t]*([\w.-]+)[ \t]*=")


def built_into(venv: Path) -> list[str]:
    """Return the files that editable installations built or copied from the tree, by their RECORDs.

    The result leaves out metadata, modules that only lead to the tree, and commands that only call
    a function.
    """
    found: list[str] = []
    for folder in own_folders(venv):
        for info in sorted(folder.glob("*.dist-info")):
            if is_editable(info):
                found += _built(info)
    return found


def is_editable(info: Path) -> bool:
    """Whether the metadata belongs to an editable package."""
    with suppress(ValueError, TypeError, KeyError, RecursionError):
        told = json.loads(text_of(info / "direct_url.json"))
        return bool(told["dir_info"]["editable"])
    return False


def _built(info: Path) -> Iterator[str]:
    entries = text_of(info / "entry_points.txt")
    commands = {found[1] for found in _COMMAND.finditer(entries)}
    record = text_of(info / "RECORD")
    with suppress(csv.Error):
        for row in csv.reader(record.splitlines()):
            if row and _is_built(row[0], info.name, commands):
                yield row[0]


def _is_built(path: str, info: str, commands: set[str]) -> bool:
    first, _, rest = path.partition("/")
    if first == "..":
        name = path.rpartition("/")[2]
        return name.removesuffix(".exe") not in commands
    if first in (info, "__pycache__"):
        return False
    return bool(rest) or not _LOADER.search(first)
