"""Finds the installed packages of a Python, their modules' paths, and each module's package.

Invariant: no installed code runs. Files are read up to a bound; a larger file is refused and never
skipped.
"""

import csv
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from factory.judging.texts import TooLarge, text_of, whole_text

# Upper bounds: bytes of a .pth file or a loader, lines of all .pth files, packages in a folder.
LINK_BYTES = 1 << 20
LINES = 10_000
PACKAGES = 20_000
_HEAD_BYTES = 64 << 10
_SUFFIXES = (".py", ".pyc", ".so", ".abi3.so")
_NAME = re.compile(r"^Name:[ \t]*(\S+)", re.MULTILINE | re.IGNORECASE)
_ESCAPE = re.compile(r"\\(.)")
_LOADED = re.compile(r"import[ \t]+([\w.]+(?:[ \t]*,[ \t]*[\w.]+)*)")
# Matches parts of a loader's text. For every text, this expression reads each character only once.
_TOKEN = re.compile(
    r"""(?P<text>'(?:[^'\\\n]|\\.)*+'?|"(?:[^"\\\n]|\\.)*+"?)"""
    r"""|(?P<between>[:,])|(?P<space>[\s\[]+)|(?P<other>[^'":,\s\[]+)"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """An installed package; `source`: the local folder or file that it was installed from."""

    name: str
    info: Path
    source: Path | None = None
    from_folder: bool = False
    editable: bool = False

    @property
    def folder(self) -> Path:
        """The folder of the package's modules; None if the package is editable."""
        return Path(os.path.realpath(self.info.parent))

    def owns(self, module: str) -> bool:
        """Whether the package's metadata says that it owns a top-level module. Raises TooLarge."""
        for path in self._files():
            first = path.partition("/")[0]
            if first == module or first.startswith(f"{module}."):
                return True
        return False

    def _files(self) -> Iterator[str]:
        record = whole_text(self.info / "RECORD")
        with suppress(csv.Error):
            for row in csv.reader(record.splitlines()):
                yield from row[:1]
        # an egg-info lists modules in this file
        yield from text_of(self.info / "top_level.txt", most=_HEAD_BYTES).split()


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """Where modules come from: first `folders`, in their order; then `led` (module → path)."""

    folders: tuple[Path, ...]
    led: dict[str, Path] = field(default_factory=dict)
    distributions: tuple[Distribution, ...] = ()

    def origin(self, module: str) -> Path | None:
        """Return the path of a top-level module; None if no installed package has it."""
        for folder in self.folders:
            if found := _module_in(folder, module):
                return found
        return self.led.get(module)


def read(site_folders: Sequence[Path], *, before: Sequence[Path] = ()) -> Installed:
    """Read the folders and their .pth files' targets; `before`: folders that are searched first.

    Raises TooLarge.
    """
    folders = [*before]
    led = dict[str, Path]()
    left = LINES
    for site in site_folders:
        folders.append(site)
        for line in _lines(site):
            left -= 1
            if left < 0:
                raise TooLarge(f"The .pth files in {site} have more than {LINES:,} lines")
            found = _LOADED.match(line)
            if found:
                for module, path in _leads(site, found[1]):
                    led.setdefault(module, path)
                continue
            entry = os.path.join(site, line)  # noqa: PTH118
            if os.path.isdir(entry):  # noqa: PTH112
                folders.append(Path(entry))
    distributions = chain.from_iterable(map(_distributions, folders))
    return Installed(folders=tuple(folders), led=led, distributions=tuple(distributions))


def _lines(site: Path) -> Iterator[str]:
    """Yield the lines of a folder's .pth files, in the order in which Python reads them."""
    for path in sorted(_entries(site, ".pth")):
        for line in whole_text(path, most=LINK_BYTES).splitlines():
            if line.strip() and line[0] != "#":
                yield line.rstrip()


def _leads(site: Path, loaders: str) -> Iterator[tuple[str, Path]]:
    """Yield each module with its path, from the texts of the loaders that an `import` line names.

    Such a text is `MAPPING = {'app': '/tree/src/app'}` (setuptools), or
    `F.map_module('app', '/tree/src/app/__init__.py')` (editables).
    """
    for loader in loaders.split(","):
        path = site / loader.strip().replace(".", "/")
        for source in (path.with_suffix(".py"), path / "__init__.py"):
            text = whole_text(source, most=LINK_BYTES)
            for module, where in _pairs(text):
                if where[:1] == "/":
                    yield module, Path(where)


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    """Yield each pair of strings in the text with a colon or a comma between them."""
    last = ""
    separated = False
    for token in _TOKEN.finditer(text):
        match token.lastgroup:
            case "text":
                said = _ESCAPE.sub(r"\1", token[0][1:-1])
                if last and separated:
                    yield last, said
                last = said
                separated = False
            case "between":
                separated = True
            case "other":
                last = ""


def _module_in(folder: Path, module: str) -> Path | None:
    """Return the package or module of that name in the folder. Packages need an `__init__`."""
    for base in (folder / module / "__init__", folder / module):
        for suffix in _SUFFIXES:
            path = f"{base}{suffix}"
            if os.path.isfile(path):  # noqa: PTH113
                return Path(path)
        with suppress(OSError, ValueError):
            for built in base.parent.glob(f"{base.name}.*.so"):
                return built
    return None


# ── packages ──


def _distributions(folder: Path) -> Iterator[Distribution]:
    for info in sorted(_entries(folder, ".dist-info", ".egg-info")):
        found = _NAME.search(_head(info))
        name = found[1] if found else info.stem.partition("-")[0]
        yield _distribution(name, info)


def _head(info: Path) -> str:
    """Return the beginning of a package's metadata. An egg-info may be a file or a folder."""
    for path in (info / "METADATA", info / "PKG-INFO", info):
        text = text_of(path, most=_HEAD_BYTES)
        if text:
            return text
    return ""


def _distribution(name: str, info: Path) -> Distribution:
    told = parsed(whole_text(info / "direct_url.json", most=_HEAD_BYTES))
    if not isinstance(told, dict):
        return Distribution(name=name, info=info)
    source = None
    url = urlsplit(str(told.get("url", "")))
    if url.scheme == "file":
        source = Path(os.path.realpath(unquote(url.path)))
    about = told.get("dir_info")
    if not isinstance(about, dict):
        return Distribution(name=name, info=info, source=source)
    editable = about.get("editable") is True
    return Distribution(name=name, info=info, source=source, from_folder=True, editable=editable)


def parsed(text: str) -> Any:
    """Return the value of a JSON text; None if the text is not JSON."""
    with suppress(ValueError, RecursionError):
        return json.loads(text)
    return None


def _entries(folder: Path, *endings: str) -> Iterable[Path]:
    """Yield the visible paths in a folder that have one of these endings. Raises TooLarge."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, PACKAGES + 1)]
    except OSError:
        return ()
    if len(names) > PACKAGES:
        raise TooLarge(f"{folder} holds more than {PACKAGES:,} files and folders")
    return [folder / name for name in names if name.endswith(endings) and name[0] != "."]
