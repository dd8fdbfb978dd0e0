"""How things stood before a setup began: what a later daemon has to know to finish it.

Invariant: what is read back is what was told, or it is refused whole.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from factory.judging.place import Stamp, stamp_of
from factory.judging.standing import Asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Outset:
    """What a setup was asked for, and what it began on."""

    asked: Asked
    stamp: Stamp  # of the dependencies that are there, or of none
    ignored: tuple[str, ...]  # what git ignored in the tree
    again: bool  # only what builds in the tree runs, on dependencies that are there

    def told(self) -> dict[str, Any]:
        """Itself, as JSON can say it."""
        return asdict(self)


def outset_of(told: Mapping[str, Any]) -> Outset:
    """What was told; raises TypeError, KeyError or ValueError where it is not whole."""
    return Outset(
        asked=Asked(**told["asked"]),
        stamp=stamp_of(told["stamp"]),
        ignored=tuple(told["ignored"]),
        again=bool(told["again"]),
    )
