"""What a person says to a unit while its agent works, or after it has submitted.

Invariant: remarks that an agent has read are known by number, never by a clock: the attempt records
the newest remark in its prompt (`heard`). No submission is judged while a newer remark exists.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from factory.repo.workspaces import Snapshot, Workspaces
from factory.store.records import Attempt, Remark
from factory.store.unit import SPENDS, EndReason

NOT_READ = "its agent had not read your last message; it continues with that message"
# The ends of attempts whose work went to the judge: such an end replaces any earlier submission.
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
    """Return the number of the newest remark, 0 for none."""
    return max((each.seq for each in remarks), default=0)


def unread(remarks: Iterable[Remark], attempt: Attempt) -> list[Remark]:
    """Return the remarks that the prompt of the attempt did not contain."""
    return [each for each in remarks if each.who == "person" and each.seq > attempt.heard]


def put_off(attempts: Sequence[Attempt], *, before: int) -> Attempt | None:
    """Return the attempt whose submission a remark put off, if no later submission replaced it.

    `attempts`: all of one unit, oldest first; those from number `before` on do not count.
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
        """Return the end of that attempt, with the first one's tree where it is idle."""
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
    """Return the work that a remark had put off and this attempt continued.

    `attempts`: all of the unit. If that work conflicts with trunk, `diff` is written, as when the
    attempt began.
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
    """Whether the attempt left exactly the tree that `first` had handed on."""
    if snapshot.gone:  # its changes, if any, were lost with the workspace
        return True
    if attempt.resumed:
        return snapshot.tree == first.tree
    carried = await workspaces.carry(first.commit, onto=attempt.base, diff=diff)
    if isinstance(carried, str):
        return snapshot.tree == carried
    # it conflicted with the newest trunk, from which the attempt started
    return not snapshot.changed


def unchanged(attempt: Attempt, first: Attempt) -> Attempt:
    """Return the end of an attempt that got a remark and changed nothing.

    The work was done before: however the attempt failed, that work is submitted unchanged. Only a
    session that could not be continued has not read the remark yet.
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
