"""Finds the changed keys of a file that decide how work is judged.

Some files judge and also do other work: pyproject.toml has the settings of pytest, and it has the
dependencies. A change of dependencies makes a new environment and needs no permission.

Invariant: pure. A key judges, unless a table here lists it. A file that cannot be parsed judges as
a whole.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from itertools import chain
from typing import Any

from factory.ground.sentences import printable
from factory.ground.toml_text import parsed
from factory.judging import locks, node_locks
from factory.judging.packages import is_judging, is_range, is_specifier, required

Path = tuple[str, ...]
# It gets the last part of a key, the old and the new value. It returns what judges in the value: ""
# stands for the whole value.
Check = Callable[[str, Any, Any], list[str]]
_MISSING = object()
_WHOLE = "the whole file"
# A byte order mark, a byte that is not UTF-8, and control characters: git can write the text in
# another encoding, in which these stand for other characters.
_UNUSUAL = re.compile("[\ufeff\ufffd\0-\x08\x0b-\x0c\x0e-\x1f\x7f-\x9f]")
_LINE = 10_000  # the most characters of a line in an INI file
_SHOWN = 60  # the most characters of a key or line in a sentence


def judges(path: str, old: str, new: str) -> tuple[str, ...]:
    """Return the keys that decide how work is judged, and that differ between two texts.

    The result is empty if no such key changed. If factoryd does not know the file or cannot parse
    it, the result says that the whole file judges.
    """
    read = _reader(path)
    if read is None:
        return (_WHOLE,)
    for text in (old, new):
        if _is_ambiguous(text):
            return (f"{_WHOLE} (its encoding or its line ends are unusual)",)
    try:
        found = list(read(old, new))
    except (ValueError, RecursionError):
        return (f"{_WHOLE} (factoryd cannot parse it)",)
    return tuple(dict.fromkeys(map(_shortened, found)))


def is_mixed(path: str) -> bool:
    """Whether `judges` can parse a file of that name."""
    return _reader(path) is not None


def _reader(path: str) -> Callable[[str, str], Iterator[str]] | None:
    """Return the function that compares two texts of such a file."""
    folder, _, name = path.rpartition("/")
    if name in _READERS:
        return _READERS[name]
    listed = folder.rpartition("/")[2] == "requirements" and name.endswith(".txt")
    if listed or any(fnmatchcase(name, glob) for glob in _LISTS):
        return _of_lines
    return None


def _is_ambiguous(text: str) -> bool:
    """Whether two programs may read the text in different ways."""
    plain = text.replace("\r\n", "\n")
    lines = plain.removesuffix("\n").split("\n")
    # A line can end in more ways for Python's `splitlines`, with which pip and pytest read.
    if plain and plain.splitlines() != lines:
        return True
    if _UNUSUAL.search(text):
        return True
    return any(map(_is_encoded, lines[:2]))


def _is_encoded(line: str) -> bool:
    """Whether a line asks pip to read the file in another encoding than UTF-8."""
    comment = line.partition("#")[2].casefold()
    declared = re.findall(r"coding[:=]\s*([\w.-]+)", comment)
    return not {"utf-8", "utf8"}.issuperset(declared)


def _shortened(key: str) -> str:
    shown = printable(key)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"


# ── what does not judge ──


def _free(_key: str, _old: object, _new: object) -> list[str]:
    return []


def _requirements(_key: str, old: Any, new: Any) -> list[str]:
    """Return the changed items of a list that are no plain requirements, or name what judges."""
    before, after = map(_items, (old, new))
    if before is None or after is None:
        return [""]
    found = list[str]()
    for shown in before.keys() ^ after.keys():
        item = after.get(shown, before.get(shown))
        name = required(item)
        if not name or is_judging(name):
            found.append(name or str(item))
    return sorted(found)


def _items(value: Any) -> dict[str, Any] | None:
    """Return the items of a list by their text; None if the value is no list."""
    if value is _MISSING:
        return {}
    return {repr(item): item for item in value} if isinstance(value, list) else None


def _requirement_lines(key: str, old: Any, new: Any) -> list[str]:
    return _requirements(key, _lines(old), _lines(new))


def _lines(text: Any) -> Any:
    """Return the lines of an INI value, without empty lines and comments."""
    if not isinstance(text, str):
        return text
    found = [re.split(r"(?:^|\s)#", line)[0].strip() for line in text.splitlines()]
    return list(filter(None, found))


def _text(_key: str, _old: object, new: Any) -> list[str]:
    """A text judges if it makes setuptools read or import something: `attr: x`, `file: y`."""
    plain = new is _MISSING or not re.match(r"\s*\w+\s*:", new)
    return [] if plain else [""]


def _dependency(plain: Callable[[Any], bool], key: str, old: Any, new: Any) -> list[str]:
    values = [value for value in (old, new) if value is not _MISSING]
    return [""] if is_judging(key) or not all(map(plain, values)) else []


def _poetry(key: str, old: Any, new: Any) -> list[str]:
    if key.casefold() == "python":
        return [""]
    optional = ("extras", "optional", "markers", "python", "platform", "allow-prereleases")
    return _dependency(lambda value: is_specifier(value, *optional), key, old, new)


def _pipenv(key: str, old: Any, new: Any) -> list[str]:
    return _dependency(lambda value: is_specifier(value, "extras", "markers"), key, old, new)


def _cargo(key: str, old: Any, new: Any) -> list[str]:
    more = ("features", "optional", "default-features")
    return _dependency(lambda value: is_specifier(value, *more), key, old, new)


_npm: Check = partial(_dependency, is_range)


def _rules(check: Check, *keys: str) -> Iterator[tuple[Path, Check]]:
    """Yield a rule for each key; `*` in a part of the key stands for any text."""
    for key in " ".join(keys).split():
        yield tuple(key.replace("\\.", "\0").split(".")), check


_Rules = Sequence[tuple[Path, Check]]
# Not in these tables, and why: `name` (a project named pytest would satisfy the requirement
# pytest), scripts and entry points (a script named ruff runs instead of ruff; pytest loads
# plugins by entry points), the version of Python (it decides what ruff and mypy check), and what
# the build packages (it decides which modules tests import).
_PYPROJECT: _Rules = (
    *_rules(
        _free,
        "project.version project.description project.readme project.license project.license-files",
        "project.authors project.maintainers project.keywords project.classifiers project.urls",
        "tool.poetry.version tool.poetry.description tool.poetry.readme tool.poetry.license",
        "tool.poetry.authors tool.poetry.maintainers tool.poetry.keywords tool.poetry.classifiers",
        "tool.poetry.urls tool.poetry.homepage tool.poetry.repository tool.poetry.documentation",
        "tool.bumpversion.current_version tool.bumpver.current_version tool.commitizen.version",
    ),
    *_rules(
        _requirements,
        "project.dependencies project.optional-dependencies.* dependency-groups.*",
        "tool.uv.dev-dependencies tool.pdm.dev-dependencies.*",
    ),
    *_rules(
        _poetry,
        "tool.poetry.dependencies.* tool.poetry.dev-dependencies.*",
        "tool.poetry.group.*.dependencies.*",
    ),
)
_PIPFILE: _Rules = tuple(_rules(_pipenv, "packages.* dev-packages.*"))
_CARGO: _Rules = (
    *_rules(
        _free,
        "package.version package.description package.authors package.license package.keywords",
        "package.categories package.homepage package.repository package.documentation",
        "package.readme",
    ),
    *_rules(_cargo, "dependencies.* dev-dependencies.* workspace.dependencies.*"),
    *_rules(_cargo, "target.*.dependencies.* target.*.dev-dependencies.*"),
)
_PACKAGE: _Rules = (
    *_rules(
        _free,
        "version description keywords author contributors license homepage bugs repository funding",
    ),
    *_rules(_npm, "dependencies.* devDependencies.* optionalDependencies.* peerDependencies.*"),
)
_SETUP_CFG: _Rules = (
    *_rules(
        _text,
        "metadata.version metadata.description metadata.url metadata.author metadata.author_email",
        "metadata.maintainer metadata.maintainer_email metadata.license metadata.keywords",
    ),
    *_rules(
        _free,
        "metadata.long_description metadata.long_description_content_type metadata.project_urls",
        "metadata.license_files metadata.classifiers metadata.platforms",
    ),
    *_rules(_requirement_lines, r"options.install_requires options\.extras_require.*"),
)
_TOX: _Rules = tuple(_rules(_requirement_lines, "testenv.deps testenv:*.deps"))


# ── tables ──


def _of_toml(rules: _Rules, old: str, new: str) -> Iterator[str]:
    yield from _differing(rules, (), parsed(old), parsed(new), ordered=False)


def _of_json(rules: _Rules, old: str, new: str) -> Iterator[str]:
    yield from _differing(rules, (), locks.json_table(old), locks.json_table(new), ordered=True)


def _of_ini(rules: _Rules, old: str, new: str) -> Iterator[str]:
    yield from _differing(rules, (), _ini(old), _ini(new), ordered=False)


def _differing(rules: _Rules, path: Path, old: Any, new: Any, *, ordered: bool) -> Iterator[str]:
    """Yield the differing keys that no rule lets through, as a person writes them."""
    check = next((check for parts, check in rules if _fits(parts, path)), None)
    if check:
        # `repr` tells 1 from true.
        same = repr(old) == repr(new)
        yield from () if same else (_named(path, what) for what in check(path[-1], old, new))
        return
    tables = [value for value in (old, new) if isinstance(value, dict)]
    if len(tables) + [old, new].count(_MISSING) < 2 or not any(tables):
        if repr(old) != repr(new):
            yield _named(path, "")
        return
    before, after = ({} if table is _MISSING else table for table in (old, new))
    if ordered and _is_moved(before, after) and not _leads_to(rules, path):
        yield _named(path, "the order of its keys")
    for key in dict.fromkeys(chain(before, after)):
        values = (before.get(key, _MISSING), after.get(key, _MISSING))
        yield from _differing(rules, (*path, key), *values, ordered=ordered)


def _fits(parts: Path, path: Path) -> bool:
    if len(parts) != len(path):
        return False
    return all(
        fnmatchcase(key, part.replace("\0", ".")) for key, part in zip(path, parts, strict=True)
    )


def _leads_to(rules: _Rules, path: Path) -> bool:
    """Whether only keys below the path count: the file itself, or a table of dependencies."""
    return any(len(parts) > len(path) and _fits(parts[: len(path)], path) for parts, _ in rules)


def _is_moved(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return [key for key in old if key in new] != [key for key in new if key in old]


def _named(path: Path, what: str) -> str:
    parts = [json.dumps(part) if re.search(r"[.\s]", part) else part for part in path]
    key = ".".join(parts)
    return f"{key}: {what}" if what else key


def _ini(text: str) -> dict[str, dict[str, str]]:
    """Return the sections of an INI file; raise ValueError.

    pytest reads INI files with other rules than configparser. So a line that is a header for only
    one of them is an error here.
    """
    for line in text.splitlines():
        if len(line) > _LINE:
            raise ValueError("a line is very long, and configparser would be slow")
        if line.lstrip().startswith("[") and not re.fullmatch(r"\[[^\[\]]+\]\s*", line):
            raise ValueError("a line is a header for some programs only")
    from configparser import Error, RawConfigParser  # here, because few changes need it

    # The section DEFAULT is a section like others here, because its keys affect all sections.
    parser = RawConfigParser(default_section="\0")
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(text)
        return {name: dict(parser.items(name)) for name in parser.sections()}
    except Error as error:
        raise ValueError(str(error)) from error


# ── lines ──


def _of_lines(old: str, new: str) -> Iterator[str]:
    """Yield the options and judging packages that differ between two lists of requirements."""
    (before, others_before), (after, others_after) = map(_listed, (old, new))
    if others_before != others_after:
        # The order of options matters: the last index counts.
        changed = [line for line in others_after if line not in set(others_before)]
        yield from changed or [line for line in others_before if line not in set(others_after)]
        if set(others_before) == set(others_after):
            yield "the order of its options"
    for line in sorted(before ^ after):
        name = required(line)
        if is_judging(name):
            yield name


def _listed(text: str) -> tuple[set[str], list[str]]:
    """Return the plain requirements, and all other lines in their order."""
    plain = set[str]()
    others = list[str]()
    for line in _joined(text):
        bare = re.sub(r"[ \t]--hash[= ]\w+:[0-9a-fA-F]+", "", line).strip()
        if required(bare):
            plain.add(bare)
        else:
            others.append(line)
    return plain, others


def _joined(text: str) -> Iterator[str]:
    """Yield the lines of a list of requirements without comments, and with continued lines joined.

    Raise ValueError if pip and uv would disagree about the end of a comment.
    """
    line = ""
    for part in text.splitlines():
        code = re.split(r"(?:^|\s)#", part)[0]
        if code != part and (line or part.endswith("\\")):
            raise ValueError("a comment is continued")
        line += code.removesuffix("\\")
        if not part.endswith("\\"):
            if line.strip():
                yield line.strip()
            line = ""
    if line.strip():
        raise ValueError("the last line is continued")


def _of_go(old: str, new: str) -> Iterator[str]:
    """Yield the directives and judging modules that differ between two go.mod files."""
    (before, others_before), (after, others_after) = map(_directives, (old, new))
    yield from sorted(set(others_before) ^ set(others_after))
    for module, _ in sorted(before ^ after):
        if is_judging(module):
            yield f"require: {module}"


def _directives(text: str) -> tuple[set[tuple[str, str]], list[str]]:
    """Return the required modules with their versions, and all other directives."""
    modules = set[tuple[str, str]]()
    others = list[str]()
    block = ""
    for line in text.splitlines():
        code = line.partition("//")[0].strip()
        opened = re.fullmatch(r"(\w+)\s*\(", code)
        if opened:
            block = opened[1]
        elif code == ")":
            block = ""
        elif code:
            whole = f"{block} {code}".strip()
            found = re.fullmatch(r"require\s+([\w./~-]+)\s+(v[\w.+-]+)", whole)
            if found:
                modules.add((found[1], found[2]))
            else:
                others.append(whole)
    return modules, others


_LISTS = ("requirements*.txt", "*-requirements.txt", "constraints*.txt")
_READERS: Mapping[str, Callable[[str, str], Iterator[str]]] = {
    "pyproject.toml": partial(_of_toml, _PYPROJECT),
    "Pipfile": partial(_of_toml, _PIPFILE),
    "Cargo.toml": partial(_of_toml, _CARGO),
    "package.json": partial(_of_json, _PACKAGE),
    "setup.cfg": partial(_of_ini, _SETUP_CFG),
    "tox.ini": partial(_of_ini, _TOX),
    "go.mod": _of_go,
    "uv.lock": locks.of_toml,
    "poetry.lock": locks.of_toml,
    "pdm.lock": locks.of_toml,
    "package-lock.json": locks.of_npm,
    "npm-shrinkwrap.json": locks.of_npm,
    "pnpm-lock.yaml": node_locks.of_pnpm,
    "yarn.lock": node_locks.of_yarn,
    "Pipfile.lock": locks.of_pipenv,
}
