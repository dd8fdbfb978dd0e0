"""Remarks of a person to a unit while its agent works, or after it has submitted.

Invariant: factoryd knows by number, never by time, which remarks an agent has read: the attempt
records the newest remark in its prompt (`heard`). No submission is judged while a newer remark
exists.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from factory.repo.workspaces import Snapshot, Workspaces
from factory.store.records import Attempt, Remark
from factory.store.unit import SPENDS, EndReason

NOT_READ = "its agent had not read your last message; it continues with that message"
# Reasons of attempts whose work went to the judge; such an attempt replaces any earlier submission.
_JUDGED = frozenset(
    {
        EndReason.SUBMITTED,
        EndReason.GATE_RED,
        EndReason.NOT_PROVEN,
        EndReason.CONFLICT,
        EndReason.GUARD,
        EndReason.OUT_OF_SCOPE,
    }
)


def newest(remarks: Iterable[Remark]) -> int:
    """Return the number of the newest remark; 0 if there is none."""
    return max((each.seq for each in remarks), default=0)


def unread(remarks: Iterable[Remark], attempt: Attempt) -> list[Remark]:
    """Return the remarks that the prompt of the attempt did not contain."""
    return [each for each in remarks if each.who == "person" and each.seq > attempt.heard]


def put_off(attempts: Sequence[Attempt], *, before: int) -> Attempt | None:
    """Return the attempt whose submission a remark put off, if no later submission replaced it.

    `attempts`: all attempts of one unit, oldest first; attempts from number `before` on are
    ignored.
    """
    for each in reversed(attempts):
        if each.number >= before:
            continue
        if each.reason is EndReason.TOLD:
            return each
        if each.reason in _JUDGED:
            return None
    return None


@dataclass(frozen=True, slots=True)
class PutOff:
    """Work that a remark put off; the next attempt is `idle` if it changed nothing."""

    first: Attempt
    idle: bool

    def end(self, attempt: Attempt) -> Attempt:
        """Return the ended attempt; if it is idle, with the tree of the first attempt."""
        if self.idle:
            return unchanged(attempt, self.first)
        return replace(attempt, summary=attempt.summary or self.first.summary)


async def work_put_off(
    attempts: Sequence[Attempt],
    attempt: Attempt,
    snapshot: Snapshot,
    *,
    workspaces: Workspaces,
    diff: Path,
) -> PutOff | None:
    """Return the work that this attempt continued after a remark put it off; None if there is none.

    `attempts`: all attempts of the unit. If that work conflicts with trunk, this writes `diff`
    again, as at the start of the attempt.
    """
    first = put_off(attempts, before=attempt.number)
    if first is None:
        return None
    return PutOff(first, idle=await _is_unchanged(first, attempt, snapshot, workspaces, diff))


async def _is_unchanged(
    first: Attempt,
    attempt: Attempt,
    snapshot: Snapshot,
    workspaces: Workspaces,
    diff: Path,
) -> bool:
    """Return whether the attempt left exactly the tree that it got from `first`."""
    if snapshot.gone:  # its changes, if any, were lost with the workspace
        return True
    if attempt.resumed:
        return snapshot.tree == first.tree
    carried = await workspaces.carry(first.commit, onto=attempt.base, diff=diff)
    if isinstance(carried, str):
        return snapshot.tree == carried
    # the earlier work conflicted with trunk, so the attempt started from trunk
    return not snapshot.changed


def unchanged(attempt: Attempt, first: Attempt) -> Attempt:
    """Return the end of an attempt that got a remark and changed nothing.

    The work was complete before the remark. So factoryd submits it unchanged, for whatever reason
    the attempt failed. Exception: if the session could not be continued, the agent has not read
    the remark yet.
    """
    assert attempt.reason is not None, "an attempt ends for a reason"
    if attempt.resumed and attempt.reason is EndReason.CRASHED:
        detail = f"its session could not be continued: {attempt.detail}"
        return replace(attempt, reason=EndReason.HANDED_BACK, detail=detail)
    if not SPENDS[attempt.reason]:
        return attempt
    return replace(
        attempt,
        reason=EndReason.SUBMITTED,
        detail=f"it changed nothing: the work of attempt {first.number} is submitted as it was",
        base=first.base,
        tree=first.tree,
        left_out=first.left_out,
        digest=first.digest,
        summary=attempt.summary or first.summary,
        said=attempt.said or first.said,
    )
