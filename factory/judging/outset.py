"""The state before a setup began. A later daemon needs it to finish that setup.

Invariant: a record is either read back completely or refused.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from factory.judging.place import Stamp, stamp_of
from factory.judging.standing import Asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Outset:
    """What a setup has to make, and the state in which it began."""

    asked: Asked
    stamp: Stamp  # the stamp of the existing dependencies; without a key if there are none
    ignored: tuple[str, ...]  # paths in the tree that git ignored
    again: bool  # only the build in the tree runs, because the dependencies already exist

    def told(self) -> dict[str, Any]:
        """Return the outset as JSON values."""
        return asdict(self)


def outset_of(told: Mapping[str, Any]) -> Outset:
    """Read an outset from JSON values.

    Raises TypeError, KeyError or ValueError if a part is missing.
    """
    return Outset(
        asked=Asked(**told["asked"]),
        stamp=stamp_of(told["stamp"]),
        ignored=tuple(told["ignored"]),
        again=bool(told["again"]),
    )
