"""Lists units of all states, newest first, in the words of `factory status`.

Invariant: the number of listed units is bounded, because a line may have a hundred thousand units.
"""

from argparse import Namespace
from collections.abc import Iterator, Sequence
from datetime import datetime

from factory.cli import place, say
from factory.ground.errors import UsageError, did_you_mean
from factory.store import list_rows, unit_views, views
from factory.store.states import UnitState

MOST = 50  # most units without -n


def list(args: Namespace) -> int:
    """Lists units, newest first."""
    state = _state(args.state)
    most = MOST if args.newest is None else args.newest
    with place.store(place.root()) as con:
        seen = unit_views.listing(con, views.now_text(), state=state, most=most)
        inbox = views.inbox(con)
    if args.json:
        print(say.as_json(seen))
        return 0
    if not seen.units and not seen.more:
        print(f"no unit is {state}" if state else f"no units yet: drop a task file into {inbox}/")
    for text in _lines(seen, state):
        print(text)
    return 0


def _state(text: str | None) -> str:
    """Return the state that a person typed, or ""; raise UsageError for an unknown state."""
    if text is None:
        return ""
    if text.lower() in UnitState:
        return text.lower()
    known = [str(state) for state in UnitState]
    raise UsageError(
        f"there is no state {text!r}{did_you_mean(text, known)}\n  the states: {', '.join(known)}"
    )


def _lines(seen: list_rows.Listing, state: str) -> Iterator[str]:
    now = datetime.fromisoformat(seen.at)
    cells = [_cells(unit, now) for unit in seen.units]
    if cells:
        yield from say.table(cells, indent="", most=40)
    if seen.more:
        of_state = f" --state {state}" if state else ""
        every = len(seen.units) + seen.more
        yield f"… and {seen.more} more (factory list{of_state} -n {every})"


def _cells(unit: list_rows.ListedUnit, now: datetime) -> Sequence[str]:
    return unit.id, f"{unit.state} {say.ago(unit.since, now)}", _about(unit)


def _about(unit: list_rows.ListedUnit) -> str:
    """Return why the unit does not move; if it moves or has landed, its title."""
    if unit.state == UnitState.LANDED:
        if not unit.on_trunk:
            return f"not on trunk any more; again: factory retry {unit.id}"
        return f"{unit.commit[:10]} {unit.title}"
    if unit.state == UnitState.RUNNING:
        return unit.title
    return unit.why or unit.title
