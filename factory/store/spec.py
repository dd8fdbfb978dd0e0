"""What a task file asks for: the typed record that acceptance makes of it, once.

Invariant: only the prompt and people read a unit's Markdown again; all else reads this record.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What a unit's task file asks for; None, "" and () stand for keys left out."""

    unit: str
    name: str  # the file's name when it was dropped
    source: str  # the intake name: the key that makes accepting exactly-once
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
    ignored: tuple[str, ...] = ()  # keys of its front matter that are not in force
    trouble: str = ""  # why the file cannot be read any more; all that it asks for is unknown then
