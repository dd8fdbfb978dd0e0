"""The states of a unit, apart from its record: commands need no more than them."""

from enum import StrEnum


class UnitState(StrEnum):
    """Where a unit is; each line says who moves it out."""

    WAITING = "waiting"
    """For needs, a time or a shared cause. The pool moves it to ready, or queued if submitted."""

    READY = "ready"
    """The scheduler hangs it on a free worker's hook."""

    RUNNING = "running"
    """Its worker submits it or ends the attempt."""

    QUEUED = "queued"
    """The merge queue judges and lands it, or sends it back."""

    HELD = "held"
    """A person's answer moves it on. It keeps no worker and no bench."""

    LANDED = "landed"
    """Final: trunk holds its commit."""

    SPLIT = "split"
    """Final: its children carry on."""

    CANCELLED = "cancelled"
    """Final: nobody works on it again."""


FINAL = frozenset({UnitState.LANDED, UnitState.SPLIT, UnitState.CANCELLED})
