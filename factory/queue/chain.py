"""What the merge queue does next: pure arithmetic on the rehearsed chain.

Prefix k of the queue is trunk plus the first k candidates, each one commit. Every prefix is judged
on its own tree, up to one per bench at once, so that trunk only ever moves over judged commits.
Source of the window: Zuul's chain; of setting a suspect aside and judging it alone: the simulation
in docs/design.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Standing(StrEnum):
    """What is known about the tree of one prefix."""

    UNKNOWN = "waiting"
    JUDGING = "judging"
    GREEN = "green"
    RED = "red"


@dataclass(frozen=True, slots=True)
class Link:
    """One candidate in the chain: the unit, and how the prefix that ends with it stands."""

    unit: str
    standing: Standing


@dataclass(frozen=True, slots=True)
class Moves:
    """What to do now; every part may be empty."""

    land: tuple[str, ...] = ()  # these units, in order: their prefixes are green
    blame: str = ""  # red on trunk alone: back to its worker
    aside: tuple[str, ...] = ()  # red behind others: judged alone later
    judge: tuple[str, ...] = ()  # prefixes to put on free benches


def plan(chain: Sequence[Link], *, free: int, window: int) -> Moves:
    """The moves for a chain in queue order, with `free` benches, judging `window` prefixes deep."""
    land = _leading_green(chain)
    rest = chain[len(land) :]
    if not land and rest and rest[0].standing is Standing.RED:
        return Moves(blame=rest[0].unit)
    aside = ""
    judge: list[str] = []
    for depth, link in enumerate(rest):
        if link.standing is Standing.RED:
            aside = link.unit
            break  # what stands behind it is rehearsed without it
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
