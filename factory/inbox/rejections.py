"""The notes beside rejected task files: why factoryd did not accept a file.

Invariant: a note is for people, who may change or delete it, so factoryd reads it only to show it.
"""

import os
from pathlib import Path

from factory.ground import bounded
from factory.ground.errors import TaskFileError

NOTE = ".error.txt"  # the end of a note's name, after the name of its file
_READ = 4096  # most bytes of a note that are read
_REASON = 500  # most letters of a reason
_FORM = "\ncorrect form: "


def note(name: str, why: str, error: TaskFileError, *, inbox: str) -> str:
    """Return the text of the note about a file of that name."""
    return (
        f"factoryd did not accept {name}, and moved it to {inbox}/rejected/.\n\n{why}"
        f"{_FORM}{error.form or 'see the README'}\n\n"
        f"Correct it and move it back into {inbox}/.\n"
    )


def rejected(folder: Path) -> list[str]:
    """Return the names of the files in the folder that have a note."""
    found = []
    for path in folder.glob(f"*{NOTE}"):
        file = path.with_name(path.name.removesuffix(NOTE))
        if os.path.lexists(file):
            found.append(file.name)
    return sorted(found)


def reason(folder: Path, name: str) -> str:
    """Return why the file was not accepted, in one line; if its note has none, where to look."""
    path = folder / f"{name}{NOTE}"
    try:
        text = bounded.head(path, _READ).decode(errors="replace")
    except OSError:
        text = ""
    _, _, below = text.partition("\n\n")
    why = " ".join(below.partition(_FORM)[0].split())
    return why[:_REASON] or f"{path.name} says why"
