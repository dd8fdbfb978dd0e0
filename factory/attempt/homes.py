"""Which files a worker's folders carry from unit to unit: only those that `keep` names.

Invariant: only data is kept: regular files that nothing runs and no tool reads as configuration.
The runtime file sets `keep`.
"""

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from factory.ground import bounded, disk, faults
from factory.ground.configuration import is_configuration
from factory.ground.scope import within
from factory.store.unit import Unit

_PROGRAM = (b"#!", b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"MZ")
_RUNS = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH | stat.S_ISUID | stat.S_ISGID


# ── the owner of a folder ──


def place(work: Path, worker: str, runtime: str) -> Path:
    """Return the HOME of one worker and runtime, below the work folder."""
    return work / "homes" / f"{worker}-{runtime}"


def owner(unit: Unit) -> str:
    """Return a text that differs from that of a unit with the same name in an earlier store."""
    return f"{unit.id} {unit.accepted.isoformat()}"


def belongs_to(folder: Path, name: str) -> bool:
    """Return whether that owner was the last to work in the folder."""
    with suppress(OSError):
        return bounded.head(_mark(folder), 4096) == name.encode()
    return False


@faults.during("home.claim")
def claim(folder: Path, name: str) -> None:
    """Record the owner that works in the folder from now on; "" means nobody."""
    mark = _mark(folder)
    disk.remove(mark)  # an agent may have replaced the mark, even by a link
    if name:
        mark.write_text(name, encoding="utf-8")


def _mark(folder: Path) -> Path:
    """Return the file with the owner; it is beside the folder, so the processes do not see it."""
    return folder.with_name(f"{folder.name}.unit")


# ── emptying ──


@faults.during("attempt.files")
def empty(home: Path, keep: Sequence[str]) -> None:
    """Delete everything in a HOME except the data that `keep` names."""
    disk.reopen(home)
    kept = set[str]()
    above = {"."}
    for file in disk.below(home, opened=True):
        path = os.path.relpath(file, home)
        if within(path, keep) and _is_data(home, path):
            kept.add(path)
            above.update(map(str, Path(path).parents))
    for folder in sorted(above):
        for name in os.listdir(home / folder):  # noqa: PTH208
            path = os.path.normpath(f"{folder}/{name}")
            if path not in above and path not in kept:
                disk.remove(home / path)


def _is_data(home: Path, path: str) -> bool:
    """Return whether the path is a file that nothing runs and no tool reads as configuration."""
    if is_configuration(path):
        return False
    with suppress(OSError):  # a path that is too long cannot exist
        about = (home / path).lstat()
        if stat.S_ISREG(about.st_mode) and about.st_nlink == 1 and not about.st_mode & _RUNS:
            return not _first_bytes(home / path).startswith(_PROGRAM)
    return False


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)
