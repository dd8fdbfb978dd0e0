"""The two names that each folder of the factory's in a repository may have, and which of them is meant.

Invariant: pure; the same files give the same names. A folder is called by its visible name (`inbox/`, `conventions/`)
or by the hidden one (`.inbox/`, `.conventions/`), and never by both at once.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from factory.ground.errors import RepositoryError
from factory.ground.packaging import is_packaged

INBOX, CONVENTIONS = "inbox", "conventions"
HIDDEN: Mapping[str, str] = {INBOX: ".inbox", CONVENTIONS: ".conventions"}
ALL = (*HIDDEN, *HIDDEN.values())
# What lies in conventions/, by which it is told from a folder of the project's with that name.
KNOWN = ("gates/", "runtimes/", "prompts/", "knowledge/", "workspace/", "policy.toml")
_FLAT = re.compile(r"Multiple top-level packages discovered in a flat-layout: \[([^\]]*)\]")


@dataclass(frozen=True, slots=True)
class Layout:
    """What the files of one commit, or of a checkout, say of these names."""

    ours: frozenset[str] = frozenset()  # names of folders that hold files of the factory's
    theirs: frozenset[str] = frozenset()  # visible names of folders that are the project's own
    roots: frozenset[str] = frozenset()  # all names in the top folder
    packaged: frozenset[str] = frozenset()  # visible names that setuptools would take for packages


@dataclass(frozen=True, slots=True)
class Names:
    """What the folders are called in this repository."""

    inbox: str = INBOX
    why: str = ""  # a sentence: why a name is the hidden one
    warnings: tuple[str, ...] = ()  # sentences: what to rename, and why
    theirs: frozenset[str] = frozenset()  # visible names of folders that are the project's own


def layout(paths: Iterable[str]) -> Layout:
    """What the names of a tree's files say."""
    below: dict[str, list[str]] = {name: [] for name in ALL}
    roots = set[str]()
    for path in paths:
        root, _, rest = path.partition("/")
        roots.add(root)
        if rest and root in below:
            below[root].append(rest)
    theirs = {name for name in HIDDEN if below[name] and not _is_ours(name, below[name])}
    ours = {name for name in ALL if below[name]} - theirs
    return Layout(frozenset(ours), frozenset(theirs), frozenset(roots))


def packaged(found: Layout, texts: Mapping[str, str]) -> Layout:
    """The layout with what setuptools would package; `texts`: the content of those of packaging.FILES that it has."""
    names = [name for name in HIDDEN if is_packaged(name, found.roots, texts)]
    return replace(found, packaged=frozenset(names))


def _is_ours(name: str, inside: Collection[str]) -> bool:
    """Whether the folder's files are what the factory has there, and not a package or documents of the project."""
    if name == CONVENTIONS:
        return any(path.startswith(KNOWN) for path in inside)
    return all(
        path.lower().endswith((".md", ".error.txt")) or path.startswith(".") for path in inside
    )


def folder_of(found: Layout, *, known: str = CONVENTIONS) -> str:
    """The name of the folder whose conventions rule; `known`: the one that did so far, where both are there."""
    names = [name for name in (CONVENTIONS, HIDDEN[CONVENTIONS]) if name in found.ours]
    if len(names) == 1:
        return names[0]
    return known


def choose(trunk: Layout, *, there: Collection[str], holding: Collection[str]) -> Names:
    """The names to use; raise RepositoryError where both of a pair hold something.

    `there`: the names of folders in the checkout; `holding`: of those in which something lies.
    """
    for visible, hidden in HIDDEN.items():
        _check_pair(visible, hidden, trunk, holding)
    inbox, why = _inbox(trunk, there, holding)
    warnings = [
        _rename(name) for name in sorted(trunk.packaged) if _stays(name, inbox, trunk, holding)
    ]
    if CONVENTIONS in trunk.theirs:
        why = f"{why} conventions/ is the project's own: gates, prompts and runtimes go into .conventions/.".strip()
    return Names(inbox, why, tuple(warnings), trunk.theirs)


def _check_pair(visible: str, hidden: str, trunk: Layout, holding: Collection[str]) -> None:
    on_trunk = {visible, hidden} <= trunk.ours
    in_checkout = {visible, hidden} <= set(holding) and visible not in trunk.theirs
    if on_trunk or in_checkout:
        where = "on trunk" if on_trunk else "in the checkout"
        raise RepositoryError(
            f"Both {visible}/ and {hidden}/ hold files {where}, and they are two names of one folder. Move what you "
            "need into one of them and remove the other. Then start again."
        )


def _inbox(trunk: Layout, there: Collection[str], holding: Collection[str]) -> tuple[str, str]:
    """The inbox's name, and why it is the hidden one."""
    hidden = HIDDEN[INBOX]
    if INBOX in trunk.theirs:
        return hidden, "Task files go into .inbox/, since inbox/ is the project's own."
    if INBOX in holding:
        return INBOX, ""
    if INBOX in trunk.packaged:
        return (
            hidden,
            "Task files go into .inbox/, since setuptools would package a visible inbox/.",
        )
    return (hidden if hidden in there else INBOX), ""


def _stays(name: str, inbox: str, trunk: Layout, holding: Collection[str]) -> bool:
    """Whether a visible folder of ours is there, for setuptools to see."""
    if name == INBOX:
        return inbox == INBOX
    return name in trunk.ours or (name in holding and name not in trunk.theirs)


def _rename(name: str) -> str:
    if name == INBOX:
        how = "Empty it, then run factoryd restart: task files go into .inbox/ from then on"
    else:
        how = f"Rename it: git mv {name} {HIDDEN[name]}, and commit"
    return f"setuptools takes {name}/ for a package, so `pip install -e .` fails or installs it. {how}."


def advice(output: str) -> str:
    """What to do about an output in which setuptools complains of such a folder; "" for any other."""
    listed = _FLAT.search(output)
    named = re.findall(r"'([^']+)'", listed[1]) if listed else []
    names = [name for name in HIDDEN if name in named]
    if not names:
        return ""
    moves = " && ".join(f"git mv {name} {HIDDEN[name]}" for name in names)
    folders = " and ".join(f"{name}/" for name in names)
    return (
        f"setuptools takes {folders} for a package. Rename it ({moves}), or list the project's packages in "
        "pyproject.toml ([tool.setuptools] packages)."
    )
