"""Why each open unit does not move at this moment, from its row and the facts of the daemon.

Invariant: pure, and it imports little, because every `factory status` needs it.
"""

from factory.ground.times import from_stamp
from factory.store import rows, waits
from factory.store.states import UnitState

TYPE_CHECKING = False  # importing typing would cost more time than the query
if TYPE_CHECKING:
    from typing import Any

    Json = dict[str, Any]


def why(unit: "Json", known: dict[str, UnitState], told: dict[str, str], now: str) -> str:
    """Return what the unit waits for now, or else why it is in its state.

    `known`: the states of what it needs. `told`: the sentences of ready and queued units, by id.
    """
    if unit["id"] in told:
        return told[unit["id"]]
    waits_by_itself = unit["state"] == UnitState.WAITING and unit["needs"] and not unit["cause"]
    if not waits_by_itself:
        return str(unit["why"])
    until = unit["not_before"]
    not_before = from_stamp(until) if until else None
    sentence = waits.missing(unit["needs"], not_before, known, now=from_stamp(now), own=unit["id"])
    return sentence or str(unit["why"])


def ready(
    some: "list[Json]", later: dict[str, str], *, paused: bool, stopped: bool
) -> dict[str, str]:
    """Return what each ready unit waits for, by its id; `later`: the result of `starts.reasons`."""
    told = {}
    for unit in some:
        if unit["state"] == UnitState.READY:
            stored = later.get(unit["id"]) or unit["why"]
            told[unit["id"]] = waits.ready(stored, paused=paused, stopped=stopped)
    return told


def queue(
    some: "list[Json]", said: "list[Json]", *, branch: str, stopped: bool
) -> list[rows.Queued]:
    """Return the queued units in the merge queue's order; units that are new to it are last.

    `said`: what the merge queue did last with each unit. If the daemon is stopped, nothing is
    judged and nothing lands.
    """
    unspoken: Json = {"position": len(some) + 1, "state": "waiting", "place": ""}
    entries = {entry["unit"]: entry for entry in said}

    def place(unit: "Json") -> "tuple[int, str]":
        return entries.get(unit["id"], unspoken)["position"], unit["since"]

    found: list[rows.Queued] = []
    waiting = [unit for unit in some if unit["state"] == UnitState.QUEUED]
    for position, unit in enumerate(sorted(waiting, key=place), start=1):
        entry = unspoken if stopped else entries.get(unit["id"], unspoken)
        sentence = waits.queued(
            entry.get("place", ""),
            unit["why"],
            ahead=entry.get("ahead") or (found[-1].unit if found else ""),
            trunk=branch,
            path=entry.get("path", ""),
        )
        found.append(
            rows.Queued(unit=unit["id"], position=position, state=entry["state"], why=sentence)
        )
    return found
