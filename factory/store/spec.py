"""The typed record of a task file. factoryd makes it once, when it accepts the file.

Invariant: only prompts and people use a unit's Markdown; all other code uses this record.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """The content of a unit's task file. A missing key has the value None, "" or ()."""

    unit: str
    name: str  # the file's name in the inbox
    source: str  # the intake name: a unique key, so that a file is accepted only once
    title: str
    priority: int = 2
    needs: tuple[str, ...] = ()
    scope: tuple[str, ...] = ()
    accept: tuple[str, ...] = ()
    run: str = ""
    agent: str = ""
    model: str = ""
    attempts: int | None = None
    minutes: float | None = None
    allow: tuple[str, ...] = ()
    review: str = ""
    ignored: tuple[str, ...] = ()  # keys of the front matter that have no effect
    trouble: str = ""  # why this release cannot read the file; then no other field has a meaning
