"""What the merge queue does next: pure arithmetic on the rehearsed chain.

Prefix k of the queue is trunk plus the first k candidates, each one commit. Every prefix is judged
on its own tree, up to one per bench at once, so that trunk moves only to commits that were judged.
The window comes from Zuul's chain. The simulation in docs/design.md explains why a red candidate is
set aside and judged alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Standing(StrEnum):
    """The verdict on the tree of one prefix."""

    UNKNOWN = "waiting"
    JUDGING = "judging"
    GREEN = "green"
    RED = "red"


@dataclass(frozen=True, slots=True)
class Link:
    """One candidate in the chain: the unit, and the verdict on the prefix that ends with it."""

    unit: str
    standing: Standing


@dataclass(frozen=True, slots=True)
class Moves:
    """The next moves of the queue; every part may be empty."""

    land: tuple[str, ...] = ()  # units whose prefixes are green, in order
    blame: str = ""  # a unit that is red directly on trunk
    aside: tuple[str, ...] = ()  # red units behind other units; they are judged alone later
    judge: tuple[str, ...] = ()  # prefixes to put on free benches


def plan(chain: Sequence[Link], *, free: int, window: int) -> Moves:
    """Return the moves for a chain in queue order; judge at most the first `window` prefixes."""
    land = _leading_green(chain)
    rest = chain[len(land) :]
    if not land and rest and rest[0].standing is Standing.RED:
        return Moves(blame=rest[0].unit)
    aside = ""
    judge: list[str] = []
    for depth, link in enumerate(rest):
        if link.standing is Standing.RED:
            aside = link.unit
            break  # the next pass rehearses the later units without the red unit
        if link.standing is Standing.UNKNOWN and depth < window and len(judge) < free:
            judge.append(link.unit)
    return Moves(land=land, aside=(aside,) if aside else (), judge=tuple(judge))


def _leading_green(chain: Sequence[Link]) -> tuple[str, ...]:
    units = []
    for link in chain:
        if link.standing is not Standing.GREEN:
            break
        units.append(link.unit)
    return tuple(units)
