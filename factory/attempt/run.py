"""The data of one running attempt, how long it may be silent, and which prompt starts it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import anyio

from factory.agents.output import Seen
from factory.agents.runtime import OWN, Runtime
from factory.child.process import Child
from factory.judging.rulings import Ruling
from factory.people.causes import Ask
from factory.repo.workspaces import Conflict, Workspace
from factory.store.records import Attempt, Hook, Remark
from factory.store.spec import Spec
from factory.store.unit import EndReason, Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One attempt under way: its unit and task, and everything that it needs to run."""

    hook: Hook
    unit: Unit
    attempt: Attempt
    spec: Spec
    ruling: Ruling
    runtime: Runtime
    workspace: Workspace
    run_dir: Path  # prompt, output, outbox and exit file

    @property
    def own(self) -> Path:
        """Return the folder for the reports and histories of the agent's program."""
        return self.run_dir / OWN

    @property
    def outbox(self) -> Path:
        """Return the folder in which the agent leaves messages."""
        return self.run_dir / "outbox"


@dataclass(frozen=True, slots=True)
class NotStarted:
    """The attempt ends before its agent ran."""

    reason: EndReason
    detail: str
    ask: Ask | None = None


# factoryd measures an agent's CPU use so many times in the time that the agent may be silent.
CPU_LOOKS = 4


class Patience:
    """Measures how long an agent has been silent, without an open tool call and without CPU use.

    `idle_cpu`: CPU seconds for each second that an agent uses while it waits.
    """

    def __init__(self, child: Child, *, idle_cpu: float) -> None:
        self._child = child
        self._idle_cpu = idle_cpu
        # Uses the clock of the event loop, because a change of the system clock must neither end a
        # healthy agent nor spare a silent one.
        self._quiet_since = anyio.current_time()
        self._last: datetime | None = None
        self._measured_at = self._quiet_since
        self._cpu: float | None = None  # what the agent had used then; None: not measured yet

    def worn_out(
        self,
        seen: Seen,
        *,
        first_event_s: float,
        silence_s: float,
    ) -> bool:
        """Return whether the agent has been silent for too long.

        Does not look at the tree: a process that changes the tree uses CPU.
        """
        at = anyio.current_time()
        if seen.last != self._last:
            self._last = seen.last
            self._begin(at)
        if seen.tools:
            return False
        if not seen.first:
            return at - self._quiet_since >= first_event_s
        if at - self._measured_at >= silence_s / CPU_LOOKS:
            self._measure(at)
        return at - self._quiet_since >= silence_s

    def _begin(self, at: float) -> None:
        """Begin to wait for output. An agent that prints often is never measured."""
        self._quiet_since = at
        self._measured_at = at
        self._cpu = None

    def _measure(self, at: float) -> None:
        """Begin the silence again if the agent has worked since the last measurement."""
        cpu = self._child.cpu_seconds()
        idle = self._idle_cpu * (at - self._measured_at)
        if self._cpu is not None and cpu - self._cpu > idle:
            self._quiet_since = at
        self._measured_at = at
        self._cpu = cpu


# Reasons of interrupted attempts. If a person requested a prompt for such an attempt, the next
# attempt gets that prompt.
BROKEN_OFF = frozenset(
    {EndReason.HANDED_BACK, EndReason.LOST, EndReason.LIMIT, EndReason.AUTH, EndReason.SETUP_FAILED}
)


def prompt_name(
    run: Run,
    earlier: Attempt | None,
    conflict: Conflict | None,
    wish: str = "",
) -> str:
    """Return the prompt that starts the attempt; `wish`: the prompt that a person requested."""
    if earlier is None:
        return "unit"
    if run.unit.resume and wish != "told":
        return "question"
    if conflict and earlier.reason is EndReason.CONFLICT:
        return "conflict"
    return wish or "retry"


def asked_for(remarks: Sequence[Remark], attempts: Sequence[Attempt]) -> str:
    """Return the prompt that a person requested since the last completed attempt; "" for none.

    `told` means that the attempt had done its work, and that the next one continues with the
    remark. Remarks of the kind
    `tell` request no prompt: each prompt contains them.
    """
    for last in reversed(attempts):
        if last.end and last.reason not in BROKEN_OFF:
            break
    else:
        return ""
    if last.reason is EndReason.TOLD:
        return "told"
    known = {"split", "simplify"}
    if last.reason in (EndReason.SUBMITTED, EndReason.GUARD, EndReason.OUT_OF_SCOPE):
        known.add("review")
    for each in reversed(remarks):
        if each.who == "person" and each.kind != "tell" and each.at >= last.end:
            return each.kind if each.kind in known else ""
    return ""
