"""Infers gates from a makefile."""

import re

from factory.inference.files import Files
from factory.inference.rules import Gate

# in the order in which make looks for them
RULED_BY = {"make": ("GNUmakefile", "makefile", "Makefile")}
_TARGET = re.compile(r"^(check|test)\s*::?(?!=)", re.MULTILINE)


def gates(files: Files) -> list[Gate]:
    """Return a gate for the target `check`. Without that target, return one for `test`."""
    name = files.first(RULED_BY["make"])
    targets = _TARGET.findall(files.text(name))
    if not targets:
        return []
    target = min(targets)
    return [Gate(target, 20, ("make", target), f"{name}, target {target}")]
