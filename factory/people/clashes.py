"""Commits on trunk that a change does not fit together with, and the sentences about them."""

from collections.abc import Sequence

from factory.repo.meanwhile import OnTrunk
from factory.store.ports import Store
from factory.store.records import Clash
from factory.store.unit import Unit

NAMED = 3  # most commits that a sentence names
KEPT = 10  # most commits that are recorded


def clashes_of(store: Store, commits: Sequence[OnTrunk]) -> tuple[Clash, ...]:
    """Return the first KEPT commits, with the titles of their units."""
    found = []
    for each in commits[:KEPT]:
        unit = store.get(Unit, each.unit) if each.unit else None
        title = unit.title if unit and unit.commit == each.commit else each.subject
        found.append(Clash(unit=each.unit, commit=each.commit, title=title))
    return tuple(found)


def red_together(suspects: Sequence[Clash], count: int) -> str:
    """Return that a change is red with one of `count` suspects, of which some are given."""
    one_of = "" if count == 1 else "one of "
    return f"green alone; red together with {one_of}{', '.join(_named(suspects, count))}"


def conflicting(changers: Sequence[Clash]) -> str:
    """Return whom a change conflicts with; `trunk` if no commit is known."""
    return " and ".join(_named(changers, len(changers))) or "trunk"


def named_one(clash: Clash) -> str:
    """Return the name of the unit, or else of the commit, and where it is on trunk."""
    short = clash.commit[:7]
    if clash.unit:
        return f"`{clash.unit}` (landed {short})"
    return f"commit {short} ({clash.title[:60]})"


def _named(clashes: Sequence[Clash], count: int) -> list[str]:
    """Return the names of the first ones, and how many of `count` are left."""
    named = [named_one(clash) for clash in clashes[:NAMED]]
    more = count - len(named)
    if more:
        named.append(f"{more} more")
    return named
