"""The states and priorities of a unit. The module is small, because commands need only these."""

from enum import StrEnum


class UnitState(StrEnum):
    """The state of a unit. Each description says who moves the unit to its next state."""

    WAITING = "waiting"
    """Waits for needs, a time or a card. The pool then makes it ready; if submitted, queued."""

    READY = "ready"
    """The scheduler assigns the unit to a free worker's hook."""

    RUNNING = "running"
    """The unit's worker submits it or ends the attempt."""

    QUEUED = "queued"
    """The merge queue judges the unit and lands it or sends it back."""

    HELD = "held"
    """A person's answer moves the unit on. The unit has no worker and no bench."""

    LANDED = "landed"
    """Final: the unit's commit is on trunk."""

    SPLIT = "split"
    """Final: the unit's parts do its work."""

    CANCELLED = "cancelled"
    """Final: nobody works on the unit again."""


PRIORITIES = range(5)  # 0 now … 4 whenever
FINAL = frozenset({UnitState.LANDED, UnitState.SPLIT, UnitState.CANCELLED})
