"""What one attempt carries along, how long it may be silent, and what is said about its end."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import anyio

from factory.agents.output import Seen
from factory.agents.runtime import OWN, Runtime
from factory.attempt import triage
from factory.attempt.outbox import Outbox
from factory.child.process import Child, Exit
from factory.ground.sentences import shown
from factory.judging.rulings import Ruling
from factory.people.cards import Ask
from factory.repo.workspaces import Conflict, Snapshot, Workspace
from factory.store.records import Attempt, Hook, Remark
from factory.store.spec import Spec
from factory.store.unit import EndReason, Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One attempt under way: what it is about, and what it runs with."""

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
        """Where the agent's program may write for itself: reports, histories."""
        return self.run_dir / OWN

    @property
    def outbox(self) -> Path:
        """Where the agent leaves messages."""
        return self.run_dir / "outbox"


@dataclass(frozen=True, slots=True)
class NotStarted:
    """The attempt ends before its agent ran."""

    reason: EndReason
    detail: str
    ask: Ask | None = None


class Patience:
    """How long an agent may say nothing: not counted while a tool is open or anything of it uses CPU.

    `idle_cpu`: seconds of CPU that it uses in a second while it waits.
    """

    def __init__(self, child: Child, *, idle_cpu: float) -> None:
        self._child, self._idle_cpu = child, idle_cpu
        # By the loop's clock: one that somebody sets must not end a healthy agent, nor let a silent one go on.
        self._quiet_since = anyio.current_time()
        self._last: datetime | None = None
        self._cpu = 0.0

    def worn_out(self, seen: Seen, *, first_event_s: float, silence_s: float) -> bool:
        """Whether it has been silent for too long. A tree that changes is changed by something that uses CPU."""
        at = anyio.current_time()
        if seen.last != self._last:
            self._last, self._quiet_since = seen.last, at
        allowed = silence_s if seen.first else first_event_s
        if seen.tools or at - self._quiet_since < allowed:
            return False
        cpu = self._child.cpu_seconds()
        worked, self._cpu = cpu - self._cpu, cpu
        if worked > self._idle_cpu * allowed and seen.first:
            self._quiet_since = at
            return False
        return True


def ending(
    run: Run,
    ended: Exit,
    seen: Seen,
    box: Outbox,
    stopped: EndReason | None,
    *,
    changed: bool,
    split: bool,
) -> triage.Ending:
    """The facts by which an end is classified; `stopped`: why the worker itself ended it.

    `split`: what it wrote in place of a change is taken. Where it is refused, the tree is no submission for that.
    """
    reported = bool(box.done.strip())
    return triage.Ending(
        stopped=stopped,
        lost=ended.cause == "lost",
        clean=ended.cause == "exited" and ended.code == 0 and seen.good,
        handed_back=ended.cause == "stopped",
        timed_out=ended.cause == "timeout",
        overran=ended.cause == "overran",
        command_missing=ended.cause == "unstartable",
        unconfined=ended.cause == "unconfined",
        limited=seen.limited,
        unauthorized=seen.unauthorized,
        overspent=0 < run.attempt.reserved_usd <= seen.usage.cost,
        looping=seen.looping,
        asked=box.question is not None,
        split=split,
        reported=reported,
        changed=changed and (reported or split or not box.split),
        proof=bool(run.spec.accept),
        scripted=bool(run.spec.run),
    )


# Attempts that were broken off: what was asked of one is asked of the next.
BROKEN_OFF = frozenset(
    {EndReason.HANDED_BACK, EndReason.LOST, EndReason.LIMIT, EndReason.AUTH, EndReason.SETUP_FAILED}
)


def prompt_name(
    run: Run, earlier: Attempt | None, conflict: Conflict | None, wish: str = ""
) -> str:
    """Which prompt starts it; `wish`: the one that a person asked for."""
    if earlier is None:
        return "unit"
    if run.unit.resume and wish != "told":
        return "question"
    return "conflict" if conflict and earlier.reason is EndReason.CONFLICT else wish or "retry"


def asked_for(remarks: Sequence[Remark], attempts: Sequence[Attempt]) -> str:
    """The prompt that a person asked for since the last attempt that was seen through; "" for none.

    `told`: that attempt had done its work, and goes on with what was said.

    What they `tell` besides is told besides.
    """
    last = next(
        (each for each in reversed(attempts) if each.end and each.reason not in BROKEN_OFF), None
    )
    if last is None or last.end is None:
        return ""
    if last.reason is EndReason.TOLD:
        return "told"
    kinds = [
        each.kind
        for each in remarks
        if each.who == "person" and each.kind != "tell" and each.at >= last.end
    ]
    good = last.reason in (EndReason.SUBMITTED, EndReason.GUARD, EndReason.OUT_OF_SCOPE)
    known = ("split", "simplify", "review") if good else ("split", "simplify")
    return kinds[-1] if kinds and kinds[-1] in known else ""


def last_words(seen: Seen) -> str:
    """What the agent said last."""
    return seen.result or seen.tail or seen.error


def odd_about(snapshot: Snapshot, box: Outbox, seen: Seen, *, no_split: str) -> list[str]:
    """Sentences about what the attempt left that cannot be taken as it is; `no_split`: why it was not split."""
    notes = [
        f"{path} was a repository of its own; its files were added plainly"
        for path in snapshot.nested
    ]
    notes += [f"{name}/ in the outbox: not yet, it was not acted on" for name in box.not_yet]
    if no_split:
        notes.append(f"It was not split. {no_split}")
    if snapshot.missed:
        notes.append(f"Left out of what was submitted: {shown(snapshot.missed)}")
    if snapshot.too_big:
        notes.append(f"Not all of it could be kept: {snapshot.too_big.sentence}")
    if snapshot.left_out:
        notes.append(f"git could not take everything: {snapshot.left_out}")
    if snapshot.gone:
        notes.append("The workspace itself was gone at the end")
    if seen.unread:
        sums = ", so its tokens and its cost are more than is shown" if seen.too_little else ""
        notes.append(
            f"It printed too much: at least {seen.unread / 1e6:.1f} MB of its output were not read{sums}"
        )
    return notes


def how_it_ended(
    reason: EndReason, ended: Exit, seen: Seen, *, gone: bool = False, parts: str = ""
) -> str:
    """One sentence for a person about how the attempt ended; `gone`: without its workspace.

    `parts`: what it wrote in place of a change, or why that is not taken.
    """
    how = f"signal {ended.signal}" if ended.signal else f"exit {ended.code}"
    said = "".join(
        f": {line[:200]}" for line in (seen.error or last_words(seen)).strip().splitlines()[-1:]
    )
    nothing = f"it was not split: {parts}" if parts else "it changed nothing"
    words_ = {
        EndReason.EMPTY: "its workspace was gone at the end, and what it did with it"
        if gone
        else nothing,
        EndReason.CRASHED: f"it used too much and was ended ({ended.detail})"
        if ended.cause == "overran"
        else f"it ended with {how}{said}",
        EndReason.SILENT: "it said nothing for too long and was stopped",
        EndReason.NO_PROGRESS: "it did the same again and again, and was stopped",
        EndReason.TIMED_OUT: "it ran out of time and was stopped",
        EndReason.LIMIT: f"its usage limit is reached, or its provider is overloaded or out of reach{said}",
        EndReason.OVER_BUDGET: "it had used up what it may spend ([budget] in factory.toml) and was stopped",
        EndReason.LOST: f"it was lost: {ended.detail}",
        EndReason.HANDED_BACK: ended.detail or "it was handed back when the daemon stopped",
        EndReason.ASKED: "it asked a question",
        EndReason.SPLIT: f"it wrote smaller tasks in its place: {parts}",
        EndReason.CANCELLED: "it was cancelled",
        EndReason.AUTH: "its agent is not logged in",
        EndReason.SETUP_FAILED: f"the sandbox did not start a command: {ended.detail}",
    }
    return words_.get(reason, "")
