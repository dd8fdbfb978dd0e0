"""Infers a gate from a Makefile, a justfile or a Taskfile."""

import re

from factory.inference.files import Files
from factory.inference.rules import TESTS, Gate

# in the order in which each program looks for its file
RULED_BY = {
    "make": ("GNUmakefile", "makefile", "Makefile"),
    "just": ("justfile", ".justfile", "Justfile"),
    "task": ("Taskfile.yml", "taskfile.yml", "Taskfile.yaml", "taskfile.yaml"),
}
_TARGETS = ("ci", "check", "test", "tests")  # the first one that exists is the gate
_DECLARED = {
    "make": r"^({})\s*::?(?!=)",
    "just": r"^@?({})\b[^:=\n]*:(?!=)",
    "task": r"^  ({}):",
}


def gates(files: Files) -> list[Gate]:
    """Return a gate for the target that judges: `ci`, `check` or `test`."""
    for program, names in RULED_BY.items():
        name = files.first(names)
        pattern = _DECLARED[program].format("|".join(_TARGETS))
        targets = re.findall(pattern, files.text(name), re.MULTILINE) if name else []
        for target in _TARGETS:
            if target in targets:
                return [Gate(target, TESTS, (program, target), f"{name}, target {target}")]
    return []
