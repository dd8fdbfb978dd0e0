"""Ends an attempt that left too much: a card asks a person, and factoryd keeps all files.

What must not live here: the limits (repo/measure.py).
"""

from factory.ground.bounded import shown
from factory.people import cards as words
from factory.people.causes import Ask
from factory.repo.workspaces import Snapshot, Workspace
from factory.store.unit import SPENDS, EndReason, Unit


def ruled(
    reason: EndReason,
    snapshot: Snapshot,
    unit: Unit,
    workspace: Workspace,
) -> tuple[EndReason, Ask | None]:
    """Return why the attempt ended, and the card about what its snapshot lacks.

    An end that says nothing about the work (cancelled, lost, handed back, asked) keeps its reason;
    the next attempt learns what was missing.
    """
    too_big = snapshot.too_big
    submits = reason is EndReason.SUBMITTED
    if too_big is None or not (submits or SPENDS[reason]):
        return reason, None
    told = []
    for path, size in too_big.paths:
        told.append(f"{path}: {shown(size)}" if size else path)
    ask = words.too_big(
        unit,
        too_big.sentence,
        told,
        where=str(workspace.tree),
        submitted=submits and snapshot.changed,
    )
    return EndReason.GUARD, ask
