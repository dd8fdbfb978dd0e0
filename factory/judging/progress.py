"""The progress of a group of gates. A later daemon needs it to continue them.

Invariant: the changes of a finished run are noted before git shows the tree again, because git then
undoes these changes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A run that has ended, and the files that it changed."""

    run: str  # the name of the run's folder
    rewrote: tuple[str, ...] = ()  # tracked files that the run changed without permission


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The gates of a group and their runs, by the keys of their verdicts."""

    gates: Mapping[str, str] = field(default_factory=dict)  # keys → digests of the gates' files
    done: Mapping[str, tuple[Done, ...]] = field(default_factory=dict)
    # keys → folders of the runs that are not finished
    running: Mapping[str, str] = field(default_factory=dict)
    layered: bool = False  # whether each running gate writes to its own layer
    left: tuple[tuple[str, ...], ...] = ()  # the batches that still have to run

    def told(self) -> dict[str, Any]:
        """Return the progress as JSON values."""
        return asdict(self)


def progress_of(told: Mapping[str, Any]) -> Progress:
    """Read a progress from JSON values.

    Raises TypeError, KeyError or AttributeError if a part is missing.
    """
    if not told:
        return Progress()  # the first group has not begun
    return Progress(
        gates={**told["gates"]},
        done={key: _done(runs) for key, runs in told["done"].items()},
        running={**told["running"]},
        layered=bool(told["layered"]),
        left=tuple(map(tuple, told["left"])),
    )


def _done(runs: Sequence[Mapping[str, Any]]) -> tuple[Done, ...]:
    return tuple(Done(run=each["run"], rewrote=tuple(each["rewrote"])) for each in runs)
