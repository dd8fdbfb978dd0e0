"""Trials: one gate in one judging, with its runs; and the batches that run side by side.

Invariant: if a run changed the tree that it judged, the run did not pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals

from factory.child.killed import killed_by
from factory.child.process import Exit
from factory.inference.rules import Gate
from factory.judging import rewrites
from factory.judging.progress import Done


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a command ended, and the end of its output."""

    exit: Exit
    tail: str
    log: Path
    where: str  # the log's path for people and the store: relative if the log lies in the checkout
    wrote: Path | None = None  # the layer above the tree that it wrote into, if it had one
    rewrote: tuple[str, ...] = ()  # tracked files that the command changed without permission

    @property
    def succeeded(self) -> bool:
        """Whether the command exited with 0, and none of its processes is left."""
        return self.exit.cause == "exited" and self.exit.code == 0 and not self.exit.left

    @property
    def ok(self) -> bool:
        """Whether the command succeeded without changing the tree."""
        return self.succeeded and not self.rewrote


@dataclass(slots=True)
class Trial:
    """One gate in one judging, with its runs until now, oldest first."""

    gate: Gate
    key: str
    runs: list[Ran] = field(default_factory=list)

    @property
    def last(self) -> Ran:
        """The last run. Only this run counts."""
        return self.runs[-1]

    @property
    def done(self) -> tuple[Done, ...]:
        """The gate's runs, in the form that the next daemon needs."""
        done = list[Done]()
        for ran in self.runs:
            rewrote = ran.rewrote[: rewrites.MOST_KEPT]
            done.append(Done(run=ran.log.parent.name, rewrote=rewrote))
        return tuple(done)

    @property
    def interrupted(self) -> bool:
        """Whether the last run says nothing about the tree."""
        ended = self.last.exit
        if ended.left or killed_by(ended):
            return True
        return ended.cause in ("lost", "stopped", "unconfined")

    @property
    def killed(self) -> bool:
        """Whether a program that is not factoryd ended the last run; maybe the gate did it."""
        ended = self.last.exit
        return not ended.left and (ended.cause == "lost" or bool(killed_by(ended)))

    @property
    def red(self) -> bool:
        """Whether the last run failed because of the tree or the gate."""
        return not (self.last.ok or self.interrupted or self.missing)

    @property
    def missing(self) -> bool:
        """Whether the gate's command is not installed. A command with a `/` belongs to the tree."""
        if self.gate.script or "/" in self.gate.command[0]:
            return False
        return self.last.exit.cause == "unstartable"


# ── side by side ──


def repeated(trials: Sequence[Trial], *, shares: bool) -> list[Sequence[Trial]]:
    """Return the batches for a rerun. If gates share a tree, each batch has one gate."""
    return [[trial] for trial in trials] if shares else batches(trials, shares=False)


def batches(trials: Sequence[Trial], *, shares: bool) -> list[Sequence[Trial]]:
    """Return the batches. If gates share a tree, a gate that may change the tree runs alone."""
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
    """Return the end of a run's output, and how the run ended if it did not just exit."""
    end = _ending(ran, command)
    return f"{ran.tail}\n{end}" if end else ran.tail


def _ending(ran: Ran, command: str) -> str:
    if ran.rewrote:
        return f"[red: {rewrites.sentence(ran.rewrote, rewrites.told(command, ran.tail))}]"
    if ran.exit.cause == "timeout":
        return f"[ended after {ran.exit.seconds:.1f} s: it took too long]"
    if ran.exit.cause == "overran":
        return f"[ended: it used too much: {ran.exit.detail}]"
    if killed_by(ran.exit):
        return f"[ended by {Signals(killed_by(ran.exit)).name}, which factoryd did not send]"
    if ran.exit.signal:
        return f"[ended by signal {ran.exit.signal}]"
    return ran.exit.detail
