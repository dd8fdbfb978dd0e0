"""What the journal tells about a unit, a card or a verdict, and what old entries keep for that.

Invariant: readers of the log take from an entry's rows only what this module names, so old entries
can lose the rest. What must not live here: an import that `factory status` does not need.
"""

TYPE_CHECKING = False  # importing typing would cost `factory status` more time than the query
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

SHORT = 1024  # characters that are kept of a long text of a finished unit
# A table, the events with its rows (or how their names begin), and the column that the log shows.
_SHOWN = (
    ("card", "card.", "question"),
    ("unit", "unit.", "why"),
    ("attempt", "attempt.started", "agent"),
)
_KEYS = ("id", "unit", "number", "key")
# Nobody needs these events of a unit once the unit has ended.
_PASSING = frozenset({"hook.filled", "attempt.noted"})
_OF_THE_LINE = ("card.", "task.", "unit.")


def shown(event: str, table: str) -> tuple[str, ...]:
    """Return the columns of a changed row that the log shows for such an event."""
    columns = []
    for known, begin, column in _SHOWN:
        if table == known and event.startswith(begin):
            columns.append(column)
    return tuple(columns)


def is_told(event: str, unit: str) -> bool:
    """Return whether an old entry belongs to the story of a unit or a card."""
    if unit:
        return event not in _PASSING
    return event.startswith(_OF_THE_LINE)


def shortened(event: str, table: str, row: "Mapping[str, Any]") -> "dict[str, Any] | None":
    """Return what an old entry keeps of a row that a later entry replaces; None for nothing."""
    if (event, table) == ("verdict.given", "verdict"):
        return {**row, "tail": ""}
    columns = shown(event, table)
    if not columns:
        return None
    kept = {}
    for name in (*_KEYS, *columns):
        if name in row:
            kept[name] = row[name]
    return kept
