"""The facts about a change that guards check: paths, changed keys, targets of links, git filters.

Invariant: every read of a file has a bound, and a change with very many paths does not block the
event loop.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from factory.ground.aside import aside
from factory.ground.bounded import COMPARED, LINK
from factory.ground.plumbing import GITLINK, SYMLINK, Change
from factory.inference.rules import Rules
from factory.judging.guards import Guards, Refused, guard
from factory.judging.keys import is_mixed, judges
from factory.judging.rule_files import too_large
from factory.repo.git import Git

_CALLING = re.compile("filter|working-tree-encoding")
_INFERRED = ("the gates or the setup that factoryd infers from it",)


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts about the change between two commits."""

    paths: Sequence[str]
    # changed symbolic links, with their targets
    links: Mapping[str, str] = field(default_factory=dict)
    filters: Sequence[str] = ()  # .gitattributes files with a filter, or too large to read
    larger: Mapping[str, int] = field(default_factory=dict)  # rule files that are too large to read
    # Changed files that can be compared by content, each with its old and its new blob. New and
    # removed files are not among them, because they can change which program sets up the tree.
    edited: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    # Compared files that gates or setup are read from → their changed keys that judge.
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def is_let_through(self) -> bool:
        """Whether a file that can judge changed in no key that judges."""
        return not all(self.keys.values())

    async def compared(self, own: Git, rules: Sequence[Rules]) -> "Facts":
        """Return these facts with the keys of the files that rules are read from."""
        edited = list(self.edited)
        sources = await aside(len(self.paths), partial(_sources, rules, edited))
        pairs = {path: self.edited[path] for path in edited if path in sources}
        if not pairs:
            return self
        before = {path: blobs[0] for path, blobs in pairs.items()}
        after = {path: blobs[1] for path, blobs in pairs.items()}
        old = await own.read(before, most=COMPARED)
        new = await own.read(after, most=COMPARED)
        lines = sum(map(len, new.found.values())) // 64
        keys = await aside(lines, partial(_compared, old.found, new.found))
        return replace(self, keys=keys)

    @property
    def inferring(self) -> "Facts":
        """These facts, if other gates or another setup are inferred after the change."""
        keys = {path: keys or _INFERRED for path, keys in self.keys.items()}
        return replace(self, keys=keys)

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
            sources = _sources(rules, self.paths).union(self.filters)
            return guard(
                self.paths,
                Guards(sources, theirs=theirs, reached=reached, keys=self.keys),
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
    # A user's checkout runs filters, but a bench does not. If a filter landed, the next start would
    # refuse the repository. With an encoding, a tree has other bytes than the compared blobs.
    calling = [path for path, text in texts.found.items() if _CALLING.search(text)]
    return Facts(
        paths,
        targets.found,
        filters=[*calling, *texts.larger],
        larger={**larger, **targets.larger},
        edited=await aside(len(changes), partial(_edited, changes)),
    )


def _sources(rules: Sequence[Rules], changed: Sequence[str]) -> frozenset[str]:
    """Return the files that gates and setup are read from, by any of these rules."""
    return frozenset[str]().union(*(each.sources_among(changed) for each in rules))


def _edited(changes: Sequence[Change]) -> dict[str, tuple[str, str]]:
    found = dict[str, tuple[str, str]]()
    for change in changes:
        is_plain = change.status == "M" and SYMLINK not in (change.old_mode, change.mode)
        if is_plain and GITLINK not in (change.old_mode, change.mode) and is_mixed(change.path):
            found[change.path] = (change.old, change.new)
    return found


def _compared(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Return the changed keys of each file that could be read on both sides."""
    return {path: judges(path, old[path], new[path]) for path in old.keys() & new.keys()}


def _kinds(changes: Sequence[Change]) -> tuple[list[str], dict[str, str], dict[str, str]]:
    """Return all paths, then symbolic links and .gitattributes files, each with its blob."""
    links = {change.path: change.new for change in changes if change.mode == SYMLINK}
    attributes = {
        change.path: change.new for change in changes if change.new and _is_attributes(change.path)
    }
    return [change.path for change in changes], links, attributes


def _is_attributes(path: str) -> bool:
    return path.rpartition("/")[2].casefold() == ".gitattributes"
