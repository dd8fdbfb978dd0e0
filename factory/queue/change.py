"""What guards look at in a change: its paths, where its links lead, which files want filters.

Invariant: no more than a bound is read of any file of the change, and a change of very many paths
does not keep the event loop from turning.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from factory.ground.aside import aside
from factory.ground.bounded import LINK
from factory.ground.plumbing import SYMLINK, Change
from factory.inference.rules import Rules
from factory.judging.guards import Guards, Refused, guard
from factory.judging.rule_files import too_large
from factory.repo.git import Git


@dataclass(frozen=True, slots=True)
class Facts:
    """About what differs between two commits."""

    paths: Sequence[str]
    links: Mapping[str, str] = field(
        default_factory=dict
    )  # changed symbolic links, and where they lead
    filters: Sequence[str] = ()  # attribute files that call for filters, or are too large to tell
    larger: Mapping[str, int] = field(
        default_factory=dict
    )  # files that rule and are too large to be read

    async def refused(
        self,
        rules: Sequence[Rules],
        *,
        allow: Collection[str],
        scope: Collection[str],
        reached: Mapping[str, str],
        theirs: Collection[str],
        passed: bool,
    ) -> Refused | None:
        """What guards object to; `passed`: a person let this change pass them."""

        def ask() -> Refused | None:
            sources = frozenset(self.filters).union(
                *(each.sources_among(self.paths) for each in rules)
            )
            return guard(
                self.paths,
                Guards(sources, theirs=theirs, reached=reached),
                allow=allow,
                scope=scope,
                links=self.links,
                larger={} if passed else self.larger,
            )

        return await aside(len(self.paths), ask)


async def facts_of(own: Git, before: str, after: str, folder: str) -> Facts:
    """The facts; `folder`: the name of the one with the conventions."""
    changes = await own.changed(before, after)
    paths, links, attributes = await aside(len(changes), partial(_kinds, changes))
    targets = await own.read(links, most=LINK)
    texts = await own.read(attributes)
    larger = await too_large(own, after, changes, folder)
    calling = [path for path, text in texts.found.items() if "filter" in text]
    # A checkout runs filters, a bench does not, and the next start would refuse the repository.
    return Facts(paths, targets.found, [*calling, *texts.larger], {**larger, **targets.larger})


def _kinds(changes: Sequence[Change]) -> tuple[list[str], dict[str, str], dict[str, str]]:
    """All paths; the symbolic links, and the attribute files, each with its blob."""
    links = {change.path: change.new for change in changes if change.mode == SYMLINK}
    attributes = {
        change.path: change.new for change in changes if change.new and _is_attributes(change.path)
    }
    return [change.path for change in changes], links, attributes


def _is_attributes(path: str) -> bool:
    return path.rpartition("/")[2].casefold() == ".gitattributes"
