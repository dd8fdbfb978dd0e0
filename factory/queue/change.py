"""The facts about a change that guards check: its paths, targets of links, and git filters.

Invariant: every read of a file has a bound, and a change with very many paths does not block the
event loop.
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
    """The facts about the change between two commits."""

    paths: Sequence[str]
    # changed symbolic links, with their targets
    links: Mapping[str, str] = field(default_factory=dict)
    filters: Sequence[str] = ()  # .gitattributes files with a filter, or too large to read
    larger: Mapping[str, int] = field(default_factory=dict)  # rule files that are too large to read

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
        """Return the objection of the guards, if any; `passed` means that a person let it land."""

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
    """Return the facts; `folder`: the name of the folder with the conventions."""
    changes = await own.changed(before, after)
    paths, links, attributes = await aside(len(changes), partial(_kinds, changes))
    targets = await own.read(links, most=LINK)
    texts = await own.read(attributes)
    larger = await too_large(own, after, changes, folder)
    calling = [path for path, text in texts.found.items() if "filter" in text]
    # A user's checkout runs filters, but a bench does not. If a filter landed, the next start would
    # refuse the repository.
    return Facts(paths, targets.found, [*calling, *texts.larger], {**larger, **targets.larger})


def _kinds(changes: Sequence[Change]) -> tuple[list[str], dict[str, str], dict[str, str]]:
    """Return all paths, then symbolic links and .gitattributes files, each with its blob."""
    links = {change.path: change.new for change in changes if change.mode == SYMLINK}
    attributes = {
        change.path: change.new for change in changes if change.new and _is_attributes(change.path)
    }
    return [change.path for change in changes], links, attributes


def _is_attributes(path: str) -> bool:
    return path.rpartition("/")[2].casefold() == ".gitattributes"
