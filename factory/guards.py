"""What an agent's change may not do by itself: leave its scope, or alter what judges it.

Invariant: pure; a path counts however it is spelled (case) and wherever a changed symlink leads.
"""

import posixpath
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from factory.scope import within
from factory.unit import EndReason

OURS = frozenset({".factory", "inbox"})
RULES = (
    *("factory.toml", "conventions", ".ci", ".github/workflows", ".github/actions", ".circleci", ".buildkite"),
    *(".woodpecker", ".gitlab-ci.yml", ".travis.yml", ".drone.yml", "bitbucket-pipelines.yml"),
    *("azure-pipelines.yml", "jenkinsfile"),
)
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a change is not judged; `liftable`: a person may let it land all the same."""

    kind: EndReason  # out_of_scope or guard: also the card's kind
    paths: tuple[str, ...]
    sentence: str
    liftable: bool = True


def guard(
    changed: Iterable[str],
    *,
    sources: Collection[str],
    allow: Collection[str] = (),
    scope: Collection[str] = (),
    links: Mapping[str, str] | None = None,
) -> Refused | None:
    """The first objection to a change of these paths (both names of a moved file), or None.

    `sources`: files that gates or setup were read or inferred from. `allow`, `scope`: the task's own; after a person
    let a guard or a scope pass, call with "edit-gates" or with no scope. `links`: where each changed symlink leads.
    """
    paths = sorted(set(changed))
    if ours := tuple(path for path in paths if _is_ours(path, links or {})):
        sentence = f"it touches {shown(ours)}: .factory/ and inbox/ are the factory's own, and nothing lifts that"
        return Refused(EndReason.OUT_OF_SCOPE, ours, sentence, liftable=False)
    if scope and (outside := tuple(path for path in paths if not within(path, scope))):
        sentence = f"it touches {shown(outside)}, outside its scope ({', '.join(scope)})"
        return Refused(EndReason.OUT_OF_SCOPE, outside, sentence)
    rules = tuple(f"{place}/" for place in (*RULES, *map(str.casefold, sources)))
    if "edit-gates" not in allow and (
        judges := tuple(path for path in paths if f"{path.casefold()}/".startswith(rules))
    ):
        sentence = f"it changes {shown(judges)}, by which the factory judges or sets up work"
        return Refused(EndReason.GUARD, judges, sentence)
    return None


def shown(paths: Collection[str]) -> str:
    """The first few paths for a sentence; unprintable ones escaped."""
    names = [path if path.isprintable() else ascii(path) for path in list(paths)[:_SHOWN]]
    return ", ".join(names) + (f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else "")


def _is_ours(path: str, links: Mapping[str, str]) -> bool:
    if path.casefold().split("/")[0] in OURS:
        return True
    if path not in links:
        return False
    target = posixpath.normpath(posixpath.join(posixpath.dirname(path), links[path])).casefold().split("/")
    # One that leads out of the tree may come back in by any name: each of its parts counts.
    return bool(OURS & set(target if target[0] in ("", "..") else target[:1]))
