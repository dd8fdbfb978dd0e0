"""One gate in one judging: its runs, what they say, and which of them run side by side.

Invariant: a run that changed what it judged has not passed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from factory.child.process import Exit
from factory.inference.rules import Gate
from factory.judging import rewrites
from factory.judging.progress import Done


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a command ended and what it said last."""

    exit: Exit
    tail: str
    log: Path
    where: str  # the same for people and the store: relative to the checkout if it lies there
    wrote: Path | None = None  # what it wrote in the tree, where that is kept apart
    rewrote: tuple[str, ...] = ()  # tracked files that it changed and must not

    @property
    def succeeded(self) -> bool:
        """Whether it exited 0 and nothing of it is left."""
        return self.exit.cause == "exited" and self.exit.code == 0 and not self.exit.left

    @property
    def ok(self) -> bool:
        """Whether it succeeded on the tree as it is."""
        return self.succeeded and not self.rewrote


@dataclass(slots=True)
class Trial:
    """One gate in one judging: its runs so far, oldest first."""

    gate: Gate
    key: str
    runs: list[Ran] = field(default_factory=list)

    @property
    def last(self) -> Ran:
        """The run that counts."""
        return self.runs[-1]

    @property
    def done(self) -> tuple[Done, ...]:
        """Its runs, as the next daemon has to know them."""
        done = list[Done]()
        for ran in self.runs:
            rewrote = ran.rewrote[: rewrites.MOST_KEPT]
            done.append(Done(run=ran.log.parent.name, rewrote=rewrote))
        return tuple(done)

    @property
    def interrupted(self) -> bool:
        """Whether the last run says nothing about the tree."""
        ended = self.last.exit
        return ended.cause in ("lost", "stopped", "unconfined") or bool(ended.left)

    @property
    def red(self) -> bool:
        """Whether the last run failed because of the tree or the gate."""
        return not (self.last.ok or self.interrupted or self.missing)

    @property
    def missing(self) -> bool:
        """Whether its command is not there (one with a `/` in it is the tree's own)."""
        if self.gate.script or "/" in self.gate.command[0]:
            return False
        return self.last.exit.cause == "unstartable"


# ── side by side ──


def repeated(trials: Sequence[Trial], *, shares: bool) -> list[Sequence[Trial]]:
    """Return the batches of a rerun: one by one if gates share a tree."""
    return [[trial] for trial in trials] if shares else batches(trials, shares=False)


def batches(trials: Sequence[Trial], *, shares: bool) -> list[Sequence[Trial]]:
    """Return the batches; if gates share a tree, one that may change it runs alone."""
    together = list[Trial]()
    alone = list[Sequence[Trial]]()
    for trial in trials:
        if shares and trial.gate.rewrites:
            alone.append([trial])
        else:
            together.append(trial)
    return [together, *alone] if together else alone


# ── for a person ──


def said_by(ran: Ran, command: str) -> str:
    """The end of its output, and how the run ended where that is not its exit code."""
    end = _ending(ran, command)
    return f"{ran.tail}\n{end}" if end else ran.tail


def _ending(ran: Ran, command: str) -> str:
    if ran.rewrote:
        return f"[red: {rewrites.sentence(ran.rewrote, rewrites.told(command, ran.tail))}]"
    if ran.exit.cause == "timeout":
        return f"[ended after {ran.exit.seconds:.1f} s: it takes too long]"
    if ran.exit.cause == "overran":
        return f"[ended: it uses too much: {ran.exit.detail}]"
    if ran.exit.signal:
        return f"[ended by signal {ran.exit.signal}]"
    return ran.exit.detail
