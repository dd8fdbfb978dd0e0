"""What two units that do not fit together are for, as the next attempt reads it.

Invariant: at most NAMED units, each with a bounded part of its task.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress

from factory.people.clashes import NAMED, named_one
from factory.store.accepted import NoMarkdown, body_of
from factory.store.ports import Store
from factory.store.records import Clash
from factory.store.unit import Unit

TASK_BYTES = 800  # bytes of each task in a digest
CONFLICT_BYTES = 4096  # bytes of each task in the prompt after a conflict


def intents(
    store: Store, unit: Unit, clashes: Sequence[Clash], *, most: int = TASK_BYTES
) -> list[str]:
    """Return lines about the tasks of the clashing units and of this unit; none without a clash.

    `most`: how many bytes of each task.
    """
    if not clashes:
        return []
    lines = ["", "What landed meanwhile:"]
    for clash in clashes[:NAMED]:
        lines.append(f"- {named_one(clash)}: {clash.title}")
        lines += _task(store, clash, most)
    lines += ["", f"What this unit ({unit.id}) is for: {unit.title}"]
    lines.append("The result must do both. Do not undo what landed.")
    return lines


def _task(store: Store, clash: Clash, most: int) -> Iterator[str]:
    """Yield the first lines of a unit's task, indented."""
    body = ""
    with suppress(NoMarkdown):
        body = body_of(store, clash.unit) if clash.unit else ""
    whole = body.strip()
    start = whole.encode()[:most].decode(errors="ignore")
    if start != whole:
        start += "…"
    for line in start.splitlines():
        if line.strip() and line.lstrip("# ").strip() != clash.title:
            yield f"    {line}"
