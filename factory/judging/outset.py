"""How things stood before a setup began: what a later daemon has to know to finish it.

Invariant: it is read back whole, or refused.
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
        """Return it as JSON values."""
        return asdict(self)


def outset_of(told: Mapping[str, Any]) -> Outset:
    """Read it back; raises TypeError, KeyError or ValueError if a part is missing."""
    return Outset(
        asked=Asked(**told["asked"]),
        stamp=stamp_of(told["stamp"]),
        ignored=tuple(told["ignored"]),
        again=bool(told["again"]),
    )
