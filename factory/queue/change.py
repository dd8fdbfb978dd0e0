"""What guards want to know about a change: its paths, where its links lead, which files call for filters.

Invariant: no more than a bound is read of any file of the change.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from factory.git import Git
from factory.ground.bounded import LINK
from factory.ground.plumbing import SYMLINK, Change
from factory.judging.rule_files import too_large


@dataclass(frozen=True, slots=True)
class Facts:
    """About what differs between two commits."""

    paths: Sequence[str]
    links: Mapping[str, str] = field(default_factory=dict)  # changed symbolic links, and where they lead
    filters: Sequence[str] = ()  # attribute files that call for filters, or are too large to tell
    larger: Mapping[str, int] = field(default_factory=dict)  # files that rule and are too large to be read


async def facts_of(own: Git, before: str, after: str, folder: str) -> Facts:
    """The facts; `folder`: the name of the one with the conventions."""
    changes = await own.changed(before, after)
    paths = [change.path for change in changes]
    links = {change.path: change.new for change in changes if change.mode == SYMLINK}
    read = await own.read(links, most=LINK)
    larger = await too_large(own, after, changes, folder)
    filters = await _filters(own, changes)
    return Facts(paths, read.found, filters, {**larger, **read.larger})


async def _filters(own: Git, changes: Sequence[Change]) -> list[str]:
    """Attribute files that call for filters: a checkout runs them, a bench does not.

    The next start would refuse the repository.
    """
    named = {change.path: change.new for change in changes if change.new and _is_attributes(change.path)}
    read = await own.read(named)
    calling = [path for path, text in read.found.items() if "filter" in text]
    return [*calling, *read.larger]


def _is_attributes(path: str) -> bool:
    return path.rpartition("/")[2].casefold() == ".gitattributes"
