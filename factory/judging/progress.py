"""How far a group of gates has come: what a later daemon has to know to go on with them.

Invariant: what a finished run changed in the tree is noted before the tree is shown again, for
afterwards nobody can see it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A run that has ended, and its changes."""

    run: str  # its folder's name
    rewrote: tuple[str, ...] = ()  # tracked files that it changed and must not


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The gates of a group, by the keys of their verdicts, and how often each has run."""

    gates: Mapping[str, str] = field(default_factory=dict)  # digests of their files
    done: Mapping[str, tuple[Done, ...]] = field(default_factory=dict)
    running: Mapping[str, str] = field(default_factory=dict)  # folders of those side by side
    layered: bool = False  # what each of these writes in the tree lies apart
    left: tuple[tuple[str, ...], ...] = ()  # what runs after them, each batch side by side

    def told(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def progress_of(told: Mapping[str, Any]) -> Progress:
    """Read it back; raises TypeError, KeyError or AttributeError if a part is missing."""
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
