"""What each unit in the merge queue waits for, as `factory status` shows it.

Invariant: a unit is shown as judged only while it has a bench.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from factory.dispatch.contested import Behind
from factory.queue.candidate import Candidate
from factory.queue.chain import Standing
from factory.store.journal import Event
from factory.store.ports import Store
from factory.store.records import Fact
from factory.store.waits import Place

Shown = Sequence[tuple[Candidate, Place]]


def places(
    linked: Sequence[Candidate],
    apart: Sequence[Candidate],
    *,
    window: int,
    on_bench: Collection[str],
    landing: Collection[str],
    later: Collection[str],
) -> Shown:
    """Return the candidates in the order of landing, each with what it waits for.

    `window`: how many prefixes may be judged at once; `on_bench`: the commits that have a bench;
    `landing`: the units that land now; `later`: the units whose next try is not due yet.
    """
    found = []
    for depth, each in enumerate(linked):
        found.append((each, _place(each, depth, window, on_bench, landing)))
    for each in apart:
        place = _place(each, 0, window, on_bench, landing)
        # If the next try comes later, or the landing of a green unit is blocked, the unit's own
        # sentence says so.
        has_own = place is Place.LANDS or each.unit.id in later
        found.append((each, Place.OWN if has_own else place))
    return found


def show(store: Store, shown: Shown, behind: Mapping[str, Behind], at: datetime) -> None:
    """Write the fact about the queue if it has changed.

    `behind`: the units that are in no chain, because another unit is ahead in the same file.
    """
    entries = list[dict[str, object]]()
    for position, (each, place) in enumerate(shown, 1):
        state = _state(each, place)
        entry = {"unit": each.unit.id, "position": position, "state": state, "place": place}
        entries.append(entry)
    for position, (unit, wait) in enumerate(behind.items(), 1 + len(shown)):
        entry = {"unit": unit, "position": position, "state": "waiting", "place": Place.TURN}
        entries.append(entry | {"ahead": wait.ahead, "path": wait.path})
    value = json.dumps(entries)
    known = store.get(Fact, "queue")
    if value != (known.value if known else "[]"):
        store.write(Event.FACT_CHANGED, Fact(name="queue", value=value), now=at)


def _place(
    candidate: Candidate,
    depth: int,
    window: int,
    on_bench: Collection[str],
    landing: Collection[str],
) -> Place:
    if candidate.unit.id in landing:
        return Place.LANDING
    if candidate.commit in on_bench:
        return Place.GATES
    match candidate.standing:
        case Standing.GREEN:
            return Place.LANDS
        case Standing.RED:
            return Place.ALONE if depth else Place.TRUNK
        case _:
            return Place.BENCH if depth < window else Place.AHEAD


def _state(candidate: Candidate, place: Place) -> str:
    if place is Place.LANDING:
        return "landing"
    if place is Place.GATES:
        return "judging"
    return "green" if candidate.standing is Standing.GREEN else "waiting"
