"""Chooses the visible or hidden names of factoryd's folders in a repository.

Invariant: pure; the same files give the same names. A folder has its visible name (`inbox/`,
`conventions/`) or the hidden one (`.inbox/`, `.conventions/`), and never both at once.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from factory.ground.errors import RepositoryError
from factory.ground.packaging import is_packaged

INBOX = "inbox"
CONVENTIONS = "conventions"
HIDDEN: Mapping[str, str] = {INBOX: ".inbox", CONVENTIONS: ".conventions"}
ALL = (*HIDDEN, *HIDDEN.values())
# Names that only a conventions/ folder of factoryd contains, and no other project's folder.
KNOWN = ("gates/", "runtimes/", "prompts/", "knowledge/", "workspace/", "policy.toml")
_FLAT = re.compile(r"Multiple top-level packages discovered in a flat-layout: \[([^\]]*)\]")


@dataclass(frozen=True, slots=True)
class Layout:
    """What the files of a commit or a checkout tell about the names of factoryd's folders."""

    ours: frozenset[str] = frozenset()  # names of folders with factoryd's files
    theirs: frozenset[str] = frozenset()  # visible names of the project's own folders
    roots: frozenset[str] = frozenset()  # all names in the top folder
    packaged: frozenset[str] = frozenset()  # visible names that setuptools would take for packages


@dataclass(frozen=True, slots=True)
class Names:
    """The names of factoryd's folders in this repository."""

    inbox: str = INBOX
    why: str = ""  # a sentence that says why a hidden name is used
    warnings: tuple[str, ...] = ()  # sentences that say what to rename, and why
    theirs: frozenset[str] = frozenset()  # visible names of the project's own folders


def layout(paths: Iterable[str]) -> Layout:
    """Return the layout that follows from the names of a tree's files."""
    below: dict[str, list[str]] = {name: [] for name in ALL}
    roots = set[str]()
    for path in paths:
        root, _, rest = path.partition("/")
        roots.add(root)
        if rest and root in below:
            below[root].append(rest)
    ours = set[str]()
    theirs = set[str]()
    for name in ALL:
        if name in HIDDEN and not _is_ours(name, below[name]):
            theirs.add(name)
        elif below[name]:
            ours.add(name)
    return Layout(frozenset(ours), frozenset(theirs), frozenset(roots))


def packaged(found: Layout, texts: Mapping[str, str]) -> Layout:
    """Return the layout with the names of folders that setuptools would package.

    `texts`: the contents of packaging.FILES that the tree has.
    """
    names = [name for name in HIDDEN if is_packaged(name, found.roots, texts)]
    return replace(found, packaged=frozenset(names))


def _is_ours(name: str, inside: Collection[str]) -> bool:
    """Return whether a visible folder is factoryd's: it is empty or has factoryd's files."""
    if name == CONVENTIONS:
        return not inside or any(path.startswith(KNOWN) for path in inside)
    return all(map(_is_of_inbox, inside))


def _is_of_inbox(path: str) -> bool:
    return path.startswith(".") or path.lower().endswith((".md", ".error.txt"))


def folder_of(found: Layout, *, known: str = CONVENTIONS) -> str:
    """Return the name of the conventions folder that exists; `known` if both or neither exist."""
    visible = CONVENTIONS in found.ours
    hidden = HIDDEN[CONVENTIONS] in found.ours
    if visible == hidden:
        return known
    return CONVENTIONS if visible else HIDDEN[CONVENTIONS]


def choose(trunk: Layout, *, there: Collection[str], holding: Collection[str]) -> Names:
    """Return the names to use; raise RepositoryError if both names of a pair have files.

    `there`: the names of folders in the checkout; `holding`: the folders that are not empty.
    """
    for visible, hidden in HIDDEN.items():
        _check_pair(visible, hidden, trunk, holding)
    inbox, why = _inbox(trunk, there, holding)
    warnings = []
    for name in sorted(trunk.packaged):
        if _stays(name, inbox, trunk, holding):
            warnings.append(_rename(name))
    if CONVENTIONS in trunk.theirs:
        own = (
            "conventions/ is the project's own: gates, prompts and runtimes go into .conventions/."
        )
        why = f"{why} {own}".strip()
    return Names(inbox, why, tuple(warnings), trunk.theirs)


def _check_pair(visible: str, hidden: str, trunk: Layout, holding: Collection[str]) -> None:
    on_trunk = {visible, hidden} <= trunk.ours
    in_checkout = {visible, hidden} <= set(holding) and visible not in trunk.theirs
    if on_trunk or in_checkout:
        where = "on trunk" if on_trunk else "in the checkout"
        raise RepositoryError(
            f"Both {visible}/ and {hidden}/ hold files {where}, and they are two names of one "
            "folder. Move what you need into one of them and remove the other. Then start again."
        )


def _inbox(trunk: Layout, there: Collection[str], holding: Collection[str]) -> tuple[str, str]:
    """Return the inbox's name, and the reason for a hidden name (else "")."""
    hidden = HIDDEN[INBOX]
    if INBOX in trunk.theirs:
        return hidden, "Task files go into .inbox/, because inbox/ is the project's own."
    if INBOX in holding:
        return INBOX, ""
    if INBOX in trunk.packaged:
        why = "Task files go into .inbox/, because setuptools would package a visible inbox/."
        return hidden, why
    return (hidden if hidden in there else INBOX), ""


def _stays(name: str, inbox: str, trunk: Layout, holding: Collection[str]) -> bool:
    """Return whether the visible folder with this name belongs to factoryd and stays in place."""
    if name == INBOX:
        return inbox == INBOX
    return name in trunk.ours or (name in holding and name not in trunk.theirs)


def _rename(name: str) -> str:
    if name == INBOX:
        how = "Empty it, then run factoryd restart: task files go into .inbox/ from then on"
    else:
        how = f"Rename it: git mv {name} {HIDDEN[name]}, and commit"
    fails = "so `pip install -e .` fails or installs it"
    return f"setuptools takes {name}/ for a package, {fails}. {how}."


def advice(output: str) -> str:
    """Return advice if setuptools complains about a folder of factoryd in this output; else ""."""
    listed = _FLAT.search(output)
    if not listed:
        return ""
    names = [name for name in HIDDEN if f"'{name}'" in listed[1]]
    if not names:
        return ""
    moves = " && ".join(f"git mv {name} {HIDDEN[name]}" for name in names)
    folders = " and ".join(f"{name}/" for name in names)
    return (
        f"setuptools takes {folders} for a package. Rename it ({moves}), or list the project's "
        "packages in pyproject.toml ([tool.setuptools] packages)."
    )
