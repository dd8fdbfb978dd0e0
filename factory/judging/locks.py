"""Finds the changed packages of a lock file that decide how work is judged.

A change judges if it concerns a package that judges, or if a package comes from a new source.

Invariant: pure; each function raises ValueError if it cannot parse a text. Sources count as known
only if the old text already had them.
"""

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any
from urllib.parse import unquote, urlsplit

from factory.ground.toml_text import parsed
from factory.judging.packages import is_judging, is_range

# The keys of a lock file that say only how the file was made. pyproject.toml decides the others.
_FREE = ("version", "revision", "resolution-markers", "metadata", "extras")
_PYTHON_HOSTS = ("https://pypi.org", "https://files.pythonhosted.org")
_PYPI = {"registry": "https://pypi.org/simple"}
NPM_HOSTS = ("https://registry.npmjs.org", "https://registry.yarnpkg.com")
_ARTIFACT = ("url", "hash", "size", "upload-time", "upload_time", "file", "marker")
_NPM_FREE = (
    "version resolved integrity dev devOptional optional peer license engines os cpu libc funding"
    " dependencies devDependencies peerDependencies peerDependenciesMeta optionalDependencies"
    " requires deprecated extraneous"
).split()
# Programs that scripts start by name. The programs of packages come first on their PATH.
_PROGRAMS = frozenset("sh bash env node npx python python3 make git tsx bun deno".split())
_NPM_TABLES = ("dependencies", "devDependencies", "optionalDependencies", "peerDependencies")

Table = Mapping[str, Any]


def json_table(text: str) -> dict[str, Any]:
    """Return a JSON object; raise ValueError for other texts, and if a key is there twice."""
    found = json.loads(text, object_pairs_hook=_table, parse_constant=_refuse)
    if not isinstance(found, dict):
        raise ValueError("it is not an object")
    return found


def of_toml(old: str, new: str) -> Iterator[str]:
    """Yield what judges and differs between two files of uv, Poetry or PDM."""
    before, after = parsed(old), parsed(new)
    for key in sorted(before.keys() | after.keys()):
        if key not in ("package", *_FREE) and _shown(before.get(key)) != _shown(after.get(key)):
            yield key
    known = _by_name(before.get("package", []))
    found = _by_name(after.get("package", []))
    sources = _Sources(known)
    for name in sorted(known.keys() | found.keys()):
        was, now = known.get(name, []), found.get(name, [])
        if _shown(was) == _shown(now):
            continue
        if is_judging(name) and not _is_project(was, now):
            yield f"package {name}"
        elif not sources.have(now, was):
            yield f"package {name}: its source"


class _Sources:
    """The registries and hosts from which packages came before a change."""

    def __init__(self, packages: Mapping[str, Sequence[Table]]) -> None:
        self._registries = set[str]()
        self._hosts = set[str]()
        for entry in chain.from_iterable(packages.values()):
            source = entry.get("source")
            if source is None or _is_registry(source):
                self._registries.add(_shown(source))
            for file in _files(entry):
                if isinstance(file, dict) and "url" in file:
                    self._hosts.add(host(file["url"]))

        # The public index is known only if the file names no other: a package that only a private
        # registry has could come from there.
        self._registries = self._registries or {_shown(_PYPI), _shown(None)}
        self._hosts = self._hosts or set(_PYTHON_HOSTS)

    def have(self, entries: Sequence[Table], before: Sequence[Table]) -> bool:
        """Whether all entries of a package come from known sources; `before`: its old entries."""
        known = self._registries.union(_shown(entry.get("source")) for entry in before)
        for entry in entries:
            if _shown(entry.get("source")) not in known:
                return False
            # PDM writes these keys for a package from another place than the index.
            if not entry.keys().isdisjoint(("path", "git", "url", "develop", "editable", "ref")):
                return False
            if not all(self._has(entry["name"], file) for file in _files(entry)):
                return False
        return True

    def _has(self, name: str, file: object) -> bool:
        """Whether a file is one of that package on a known host."""
        if not isinstance(file, dict) or not file.keys() <= set(_ARTIFACT):
            return False
        if "url" not in file:
            return True
        last = unquote(urlsplit(str(file["url"])).path).rpartition("/")[2]
        return host(file["url"]) in self._hosts and _normal(last).startswith(f"{_normal(name)}-")


def _by_name(packages: object) -> dict[str, list[Table]]:
    """Return the entries of a list of packages by name; raise ValueError for another shape."""
    found = defaultdict[str, list[Table]](list)
    for entry in packages if isinstance(packages, list) else [None]:
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise ValueError("a package has no name")
        found[entry["name"]].append(entry)
    return found


def _is_registry(source: object) -> bool:
    if not isinstance(source, dict):
        return False
    return source.keys() == {"registry"} or source.get("type") == "legacy"


def _is_project(old: Sequence[Table], new: Sequence[Table]) -> bool:
    """Whether the entries are those of the project itself or of its workspace."""
    for entry in (*old, *new):
        source = entry.get("source")
        if not isinstance(source, dict) or not source.keys() <= {"editable", "virtual"}:
            return False
    return True


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.casefold())


def _files(entry: Table) -> Iterator[Any]:
    """Yield the files of a package that a client can install."""
    for key in ("wheels", "files", "sdist"):
        found = entry.get(key, [])
        yield from found if isinstance(found, list) else [found]


def of_pipenv(old: str, new: str) -> Iterator[str]:
    """Yield what judges and differs between two files of Pipenv."""
    before, after = map(json_table, (old, new))
    meta = [{**table_at(table, "_meta"), "hash": None} for table in (before, after)]
    if _shown(meta[0]) != _shown(meta[1]):
        yield "_meta"
    for group in sorted({*before, *after} - {"_meta"}):
        was, now = table_at(before, group), table_at(after, group)
        for name in sorted({*was, *now}):
            if _shown(was.get(name)) == _shown(now.get(name)):
                continue
            if is_judging(name) or _is_odd(table_at(was, name), table_at(now, name)):
                yield f"{group}.{name}"


def _is_odd(old: Table, new: Table) -> bool:
    """Whether an entry of Pipenv names another source than the configured one, or changes it."""
    plain = {"hashes", "index", "markers", "version", "extras"}
    if not {*old, *new} <= plain:
        return True
    return bool(old and new) and old.get("index") != new.get("index")


def of_npm(old: str, new: str) -> Iterator[str]:
    """Yield what judges and differs between two files of npm."""
    before, after = map(json_table, (old, new))
    for key in sorted(before.keys() | after.keys()):
        # Files of npm 7 and newer repeat `packages` in `dependencies`, which only npm 6 reads.
        known = key in ("version", "packages") or (key == "dependencies" and "packages" in after)
        if not known and _shown(before.get(key)) != _shown(after.get(key)):
            yield key
    was, now = table_at(before, "packages"), table_at(after, "packages")
    urls = [table_at(was, path).get("resolved", "") for path in was]
    hosts = {host(url) for url in urls if str(url).startswith("https:")} or set(NPM_HOSTS)
    for path in sorted(was.keys() | now.keys()):
        if _shown(was.get(path)) != _shown(now.get(path)):
            for what in _of_package(path, table_at(was, path), table_at(now, path), hosts):
                yield f"packages.{path or 'the project'}: {what}"


def _of_package(path: str, old: Table, new: Table, hosts: Collection[str]) -> Iterator[str]:
    """Yield what judges in the entry of one package of npm that changed."""
    _, is_installed, name = path.rpartition("node_modules/")
    if is_judging(name) and is_installed:
        yield "a package that judges"
        return
    for key in sorted(old.keys() | new.keys()):
        if _shown(old.get(key)) == _shown(new.get(key)) or key in _NPM_FREE:
            continue
        # A package that is no longer installed has no script and no program any more.
        if key in new and not (key == "bin" and is_installed and not _judging_programs(new)):
            yield key
    for table in () if is_installed else _NPM_TABLES:
        yield from _of_dependencies(table_at(old, table), table_at(new, table))
    if is_installed and new and not _is_release(name, new, hosts):
        yield "its source"


def _of_dependencies(old: Table, new: Table) -> Iterator[str]:
    for name in sorted(old.keys() | new.keys()):
        values = [table[name] for table in (old, new) if name in table]
        if len(set(map(_shown, values))) == 1 and len(values) == 2:
            continue
        if is_judging(name) or not all(map(is_range, values)):
            yield name


def _judging_programs(package: Table) -> bool:
    """Whether a package brings a program with the name of one that judges."""
    return any(is_judging(name) or name in _PROGRAMS for name in table_at(package, "bin"))


def _is_release(name: str, package: Table, hosts: Collection[str]) -> bool:
    """Whether an installed package is the release of that name in a known registry."""
    if package.get("link") or "name" in package:
        return False
    if package.get("inBundle"):
        return True  # it lies in the file of another package
    url = package.get("resolved")
    return isinstance(url, str) and is_file_of(url, name, package.get("version"), hosts)


def is_file_of(url: str, name: str, version: object, hosts: Collection[str]) -> bool:
    """Whether the URL is that of a package's release in one of these registries of npm."""
    file = f"{name.rpartition('/')[2]}-{version}.tgz"
    return host(url) in hosts and urlsplit(url).path.endswith(f"/{name}/-/{file}")


# ── values ──


def _table(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def table_at(table: Table, key: str) -> dict[str, Any]:
    """Return the table at a key; {} if there is none; raise ValueError for another value."""
    found = table.get(key, {})
    if not isinstance(found, dict):
        raise ValueError(f"{key} is not a table")
    return found


def host(url: object) -> str:
    """Return a URL up to its host; raise ValueError."""
    parts = urlsplit(str(url))
    return f"{parts.scheme}://{parts.netloc}"


def _shown(value: object) -> str:
    """Return the value as text, in which 1 differs from true."""
    return json.dumps(value, sort_keys=True, default=repr)
