"""What is installed for a Python, as its files say: where modules come from, and whose they are.

Invariant: nothing of what is installed is run, and no more than a bound is read of it: what is
larger is refused, not passed over.
"""

import csv
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from factory.judging.texts import TooLarge, text_of, whole_text

# Bounds: of one file that leads elsewhere, of its lines together, of the packages in one folder.
LINK_BYTES = 1 << 20
LINES = 10_000
PACKAGES = 20_000
_HEAD_BYTES = 64 << 10
_SUFFIXES = (".py", ".pyc", ".so", ".abi3.so")
_NAME = re.compile(r"^Name:[ \t]*(\S+)", re.MULTILINE | re.IGNORECASE)
_ESCAPE = re.compile(r"\\(.)")
_LOADED = re.compile(r"import[ \t]+([\w.]+(?:[ \t]*,[ \t]*[\w.]+)*)")
# Of a loader's text. Each character is looked at once, whatever the text is.
_TOKEN = re.compile(
    r"""(?P<text>'(?:[^'\\\n]|\\.)*+'?|"(?:[^"\\\n]|\\.)*+"?)"""
    r"""|(?P<between>[:,])|(?P<space>[\s\[]+)|(?P<other>[^'":,\s\[]+)"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """An installed package; `source`: the folder or file of this machine that it is from."""

    name: str
    info: Path
    source: Path | None = None
    from_folder: bool = False
    editable: bool = False

    @property
    def folder(self) -> Path:
        """Where its modules are, unless it is editable."""
        return Path(os.path.realpath(self.info.parent))

    def owns(self, module: str) -> bool:
        """Whether it says that a top-level module is its own. Raises TooLarge."""
        firsts = (path.partition("/")[0] for path in self._files())
        return any(first == module or first.startswith(f"{module}.") for first in firsts)

    def _files(self) -> Iterator[str]:
        record = whole_text(self.info / "RECORD")
        with suppress(csv.Error):
            for row in csv.reader(record.splitlines()):
                yield from row[:1]
        yield from text_of(self.info / "top_level.txt", most=_HEAD_BYTES).split()  # of an egg-info


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """Folders in which modules are looked for, in their order; then modules by the path of each."""

    folders: tuple[Path, ...]
    led: dict[str, Path] = field(default_factory=dict)
    distributions: tuple[Distribution, ...] = ()

    def origin(self, module: str) -> Path | None:
        """Where a top-level module is imported from; None if nothing that is installed has it."""
        for folder in self.folders:
            if found := _module_in(folder, module):
                return found
        return self.led.get(module)


def read(site_folders: Sequence[Path], *, before: Sequence[Path] = ()) -> Installed:
    """Read what lies in these folders, and where their .pth files lead; `before`: searched first.

    Raises TooLarge.
    """
    folders, led = [*before], dict[str, Path]()
    left = LINES
    for site in site_folders:
        folders.append(site)
        for line in _lines(site):
            left -= 1
            if left < 0:
                raise TooLarge(f"The .pth files in {site} have more than {LINES:,} lines")
            if found := _LOADED.match(line):
                for module, path in _leads(site, found[1]):
                    led.setdefault(module, path)
            elif os.path.isdir(entry := os.path.join(site, line)):  # noqa: PTH112, PTH118
                folders.append(Path(entry))
    distributions = (each for folder in folders for each in _distributions(folder))
    return Installed(folders=tuple(folders), led=led, distributions=tuple(distributions))


def _lines(site: Path) -> Iterator[str]:
    """What the .pth files of a folder say, in the order in which Python reads them."""
    for path in sorted(_entries(site, ".pth")):
        for line in whole_text(path, most=LINK_BYTES).splitlines():
            if line.strip() and line[0] != "#":
                yield line.rstrip()


def _leads(site: Path, loaders: str) -> Iterator[tuple[str, Path]]:
    """Where the loaders that an `import` line names lead modules, as their text says.

    Such as `MAPPING = {'app': '/tree/src/app'}` (setuptools), or
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
    """Each two strings with a colon or a comma between them."""
    last, separated = "", False
    for token in _TOKEN.finditer(text):
        match token.lastgroup:
            case "text":
                said = _ESCAPE.sub(r"\1", token[0][1:-1])
                if last and separated:
                    yield last, said
                last, separated = said, False
            case "between":
                separated = True
            case "other":
                last = ""


def _module_in(folder: Path, module: str) -> Path | None:
    """A package or a module of that name there; a folder without `__init__` gives way to any."""
    for base in (folder / module / "__init__", folder / module):
        for suffix in _SUFFIXES:
            if os.path.isfile(path := f"{base}{suffix}"):  # noqa: PTH113
                return Path(path)
        with suppress(OSError, ValueError):
            if built := next(base.parent.glob(f"{base.name}.*.so"), None):
                return built
    return None


# ── packages ──


def _distributions(folder: Path) -> Iterator[Distribution]:
    for info in sorted(_entries(folder, ".dist-info", ".egg-info")):
        head = next(filter(None, (text_of(path, most=_HEAD_BYTES) for path in _metadata(info))), "")
        found = _NAME.search(head)
        name = found[1] if found else info.stem.partition("-")[0]
        yield _distribution(name, info)


def _metadata(info: Path) -> tuple[Path, ...]:
    return (info / "METADATA", info / "PKG-INFO", info)


def _distribution(name: str, info: Path) -> Distribution:
    said = parsed(whole_text(info / "direct_url.json", most=_HEAD_BYTES))
    told = said if isinstance(said, dict) else {}
    url, about = urlsplit(str(told.get("url", ""))), told.get("dir_info")
    source = Path(unquote(url.path)) if url.scheme == "file" else None
    editable = isinstance(about, dict) and about.get("editable") is True
    return Distribution(
        name=name,
        info=info,
        source=source and Path(os.path.realpath(source)),
        from_folder=isinstance(about, dict),
        editable=editable,
    )


def parsed(text: str) -> Any:
    """What JSON says; None if it is none."""
    with suppress(ValueError, RecursionError):
        return json.loads(text)
    return None


def _entries(folder: Path, *outcomes: str) -> Iterable[Path]:
    """What lies in a folder and ends so; hidden files are passed over. Raises TooLarge."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, PACKAGES + 1)]
    except OSError:
        return ()
    if len(names) > PACKAGES:
        raise TooLarge(f"{folder} holds more than {PACKAGES:,} files and folders")
    return [folder / name for name in names if name.endswith(outcomes) and name[0] != "."]
