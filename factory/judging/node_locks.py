"""Finds the changed packages of the lock files of pnpm and Yarn that decide how work is judged.

Invariant: pure; only the simple form that these clients write is parsed, in linear time. Each
function raises ValueError for other forms (aliases, texts of several lines, keys that are there
twice).
"""

import re
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any

from factory.judging.locks import NPM_HOSTS, host, is_file_of, table_at
from factory.judging.packages import is_judging, is_range

Tree = dict[str, Any]  # its values are trees or texts
_Check = Callable[[str, Tree, Tree], Iterator[str]]

_KEY = r"""("[^"]*"(?:, "[^"]*")*|'[^']*'|[^\s"'#&*!|>%@`{\[?-][^"'#]*?)"""
_LINE = re.compile(rf"( *){_KEY}:(?: (.*))?")
# Yarn 1 quotes only some of the wishes that one release fulfils.
_WISH = r"""("[^"]*"|[^\s"',:]+)"""
_WISHES = re.compile(rf"({_WISH}(?:, {_WISH})+):")
_PAIR = re.compile(r"""( +)("[^"]*"|[^\s"':?]+) (.*)""")  # Yarn 1 writes no colon
_INTEGRITY = re.compile(r"\{integrity: sha\d+-[A-Za-z0-9+/=]+\}")
_VERSION = re.compile(r"\d[\w.+-]*(\(.*\))?")
_TABLES = ("dependencies", "devDependencies", "optionalDependencies")
_PNPM_FREE = (
    "engines os cpu libc hasBin peerDependencies peerDependenciesMeta deprecated dev optional"
    " dependencies optionalDependencies transitivePeerDependencies resolution"
).split()
_YARN_FREE = (
    "version resolved integrity dependencies optionalDependencies resolution checksum languageName"
    " linkType peerDependencies peerDependenciesMeta dependenciesMeta conditions bin"
).split()


def of_pnpm(old: str, new: str) -> Iterator[str]:
    """Yield what judges and differs between two files of pnpm."""
    before, after = _tree(old), _tree(new)
    for key in sorted(before.keys() | after.keys()):
        if key in _PNPM_CHECKS:
            was, now = table_at(before, key), table_at(after, key)
            for what in _differing(was, now, _PNPM_CHECKS[key]):
                yield f"{key}.{what}"
        elif key in _TABLES:
            yield from _of_wanted(table_at(before, key), table_at(after, key))
        elif before.get(key) != after.get(key):
            yield key


def of_yarn(old: str, new: str) -> Iterator[str]:
    """Yield what judges and differs between two files of Yarn."""
    before, after = _tree(old), _tree(new)
    if before.pop("__metadata", None) != after.pop("__metadata", None):
        yield "__metadata"
    hosts = set[str]()
    for entry in before.values():
        url = entry.get("resolved") if isinstance(entry, dict) else None
        if url:
            hosts.add(host(url))
    yield from _differing(before, after, partial(_of_yarn_package, hosts=hosts or NPM_HOSTS))


def _differing(before: Tree, after: Tree, check: _Check) -> Iterator[str]:
    """Yield what the check finds in the entries of a table that differ."""
    for name in sorted(before.keys() | after.keys()):
        was, now = table_at(before, name), table_at(after, name)
        if was != now or (name in before) != (name in after):
            for what in check(name, was, now):
                yield f"{name}: {what}"


def _of_pnpm_package(key: str, old: Tree, new: Tree) -> Iterator[str]:
    name, version = _split(key.removeprefix("/"))
    if is_judging(name):
        yield "a package that judges"
        return
    for field in sorted(old.keys() | new.keys()):
        if field not in _PNPM_FREE and old.get(field) != new.get(field) and field in new:
            yield field
    resolution = new.get("resolution", "")
    plain = _VERSION.fullmatch(version) and _INTEGRITY.fullmatch(str(resolution))
    if new and not plain:
        yield "its source"


def _of_snapshot(_key: str, old: Tree, new: Tree) -> Iterator[str]:
    """Yield the dependencies of a package that lead to a package of another name."""
    for table in _TABLES:
        before, after = table_at(old, table), table_at(new, table)
        for name, version in after.items():
            if before.get(name) != version and not _VERSION.fullmatch(str(version)):
                yield name


def _of_importer(_key: str, old: Tree, new: Tree) -> Iterator[str]:
    for table in sorted(old.keys() | new.keys()):
        if table in _TABLES:
            yield from _of_wanted(table_at(old, table), table_at(new, table))
        elif old.get(table) != new.get(table):
            yield table


def _of_wanted(old: Tree, new: Tree) -> Iterator[str]:
    """Yield the dependencies of a project that judge or are no releases of that name."""
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) == new.get(name):
            continue
        entry = table_at(new, name)
        version = str(entry.get("version", ""))
        plain = is_range(entry.get("specifier")) and _VERSION.fullmatch(version)
        if is_judging(name) or (name in new and not plain):
            yield name


_PNPM_CHECKS: dict[str, _Check] = {
    "packages": _of_pnpm_package,
    "snapshots": _of_snapshot,
    "importers": _of_importer,
}


def _of_yarn_package(key: str, old: Tree, new: Tree, hosts: Collection[str]) -> Iterator[str]:
    wanted = [_split(each) for each in key.replace('"', "").split(", ")]
    if any(is_judging(name) for name, _ in wanted):
        yield "a package that judges"
        return
    for field in sorted(old.keys() | new.keys()):
        if field not in _YARN_FREE and old.get(field) != new.get(field):
            yield field
    if any(is_judging(name) for name in table_at(new, "bin")):
        yield "bin"
    if not new:
        return
    name = wanted[0][0]
    is_project = all("@workspace:" in each for each in key.split(", "))
    if is_project and old.get("resolution") == new.get("resolution"):
        return
    plain = all(each == name and is_range(wish.removeprefix("npm:")) for each, wish in wanted)
    if not plain or not _is_release(name, new, hosts):
        yield "its source"


def _is_release(name: str, entry: Tree, hosts: Collection[str]) -> bool:
    version = str(entry.get("version", ""))
    if "resolution" in entry:  # Yarn 2 and newer
        return bool(version) and entry["resolution"] == f"{name}@npm:{version}"
    return is_file_of(str(entry.get("resolved", "")), name, version, hosts)


def _split(key: str) -> tuple[str, str]:
    """Return the name and the version of `name@version`; a scope begins with `@` too."""
    at = key.find("@", 1)
    return (key[:at], key[at + 1 :]) if at > 0 else (key, "")


def _tree(text: str) -> Tree:
    """Return the lines of a lock file as a tree by their indentation."""
    root: Tree = {}
    open_trees: list[tuple[int, Tree]] = [(-1, root)]
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        indent, key, value = _parts(line)
        while open_trees[-1][0] >= indent:
            open_trees.pop()
        below = open_trees[-1][1]
        if key in below or (below is root and indent):
            raise ValueError("a key is there twice, or a line is indented too far")
        if value:
            below[key] = {} if value == "{}" else value
            # A deeper line would continue the value.
            open_trees.append((indent, _Closed()))
        else:
            below[key] = {}
            open_trees.append((indent, below[key]))
    return root


class _Closed(dict[str, Any]):
    """A place in which no line may lie, because its key has a value."""

    def __setitem__(self, key: str, value: object) -> None:
        raise ValueError(f"a value of several lines at {key}")


def _parts(line: str) -> tuple[int, str, str]:
    """Return the indentation, the key and the value of a line; raise ValueError."""
    item = re.fullmatch(r"( +)- (\S+)", line)
    if item:
        return len(item[1]), f"- {item[2]}", "-"
    wishes = _WISHES.fullmatch(line)
    if wishes:
        return 0, wishes[1], ""
    found = _LINE.fullmatch(line) or _PAIR.fullmatch(line)
    if not found:
        raise ValueError("a line has an unknown form")
    key, value = found[2], (found[3] or "").strip()
    if "\\" in key or _is_open(value):
        raise ValueError("a value has an unknown form")
    if key[0] in "\"'" and ", " not in key:
        key = key[1:-1]
    if len(value) > 1 and value[0] in "\"'" and value[0] == value[-1]:
        value = value[1:-1] or '""'
    return len(found[1]), key, value


def _is_open(value: str) -> bool:
    """Whether a value may be an alias, or may end on another line."""
    first = value[:1]
    if first in ("'", '"'):
        closed = len(value) > 1 and value.endswith(first) and value.count(first) % 2 == 0
        return not closed or "\\" in value
    if first in ("{", "["):
        closed = value.endswith("}" if first == "{" else "]")
        return not closed or value.count("'") % 2 == 1 or '"' in value or "#" in value
    return first in ("&", "*", "!", "|", ">", "%", "@", "`")
