"""The rows that `factory list` and `factory why` print.

Invariant: `make schemas` generates docs/json/ from these classes, as from those in rows.py.
"""

from __future__ import annotations

from factory.store.rows import OpenUnit, Row

TYPE_CHECKING = False  # importing typing would cost more time than a query
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from factory.store.rows import Time
    from factory.store.states import UnitState
    from factory.store.unit_rows import Entry


class ListedUnit(OpenUnit):
    """A short description of a unit in any state."""

    accepted: Time
    """When the unit's task file was dropped."""

    landed: Time | None
    """When the unit landed."""

    commit: str
    """The unit's commit on trunk; empty until the unit has landed."""

    on_trunk: bool
    """Whether the unit's commit is on trunk now."""


class Listing(Row):
    """What `factory list --json` prints."""

    schema: Literal[1]
    """The version of this format."""

    at: Time
    """The time of this list."""

    units: Sequence[ListedUnit]
    """The units, newest first."""

    more: int
    """The number of older units that are not in this list. Unit: units."""


class Need(Row):
    """A unit that another unit needs, or a part of a unit that was split."""

    unit: str
    """The unit's id, as the task names it."""

    state: UnitState | None
    """The unit's state; null if there is no such unit."""

    why: str
    """Why the unit is in this state, in one sentence."""


class Accept(Row):
    """An accept command of a unit's task."""

    command: str
    """The command."""

    limit_s: float
    """How long it may take where it runs next: on trunk, or on the change. Unit: seconds."""


class Why(Row):
    """What `factory why --json` prints."""

    schema: Literal[1]
    """The version of this format."""

    unit: str
    """The unit's id."""

    state: UnitState
    """The unit's state."""

    since: Time
    """When the unit entered this state."""

    why: str
    """Why the unit is in this state, in one sentence."""

    on_trunk: bool
    """Whether the unit's commit is on trunk now."""

    accept: Sequence[Accept]
    """The accept commands of an open unit that must still run."""

    needs: Sequence[Need]
    """The units that must land first and have not landed. For a unit that was split: its parts."""

    cards: Sequence[str]
    """The ids of the open cards that concern the unit. They wait for your answer."""

    events: Sequence[Entry]
    """What happened to the unit, oldest first."""
