"""The conventions of one commit: the files under conventions/ on trunk, then the shipped ones.

Invariant: `Conventions` is a value. It is built from texts that are already read; building it reads
no file.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from factory.ground import bounded
from factory.ground.front_matter import loose
from factory.ground.names import CONVENTIONS, HIDDEN, KNOWN, folder_of, layout
from factory.ground.scope import overlap

_NAMES = (CONVENTIONS, HIDDEN[CONVENTIONS])
_SHIPPED = "shipped "  # the start of a shipped file's `place`


@dataclass(frozen=True, slots=True)
class Convention:
    """One file: its text, and its place as error messages name it."""

    text: str
    where: str

    @property
    def is_shipped(self) -> bool:
        """Whether the file comes with factoryd and not from the repository."""
        return self.where.startswith(_SHIPPED)


@dataclass(frozen=True, slots=True)
class Note:
    """One file of knowledge. `paths`: the globs of files that it is about; (): all files."""

    name: str
    text: str
    paths: tuple[str, ...] = ()

    def concerns(self, scope: Sequence[str]) -> bool:
        """Return whether the note concerns a unit with this scope. Empty means all files."""
        return not self.paths or not scope or overlap(self.paths, scope)


@dataclass(frozen=True)
class Conventions:
    """The files by their path below conventions/."""

    files: Mapping[str, Convention]
    folder: str = CONVENTIONS  # the repository's own files

    @cached_property
    def runtimes(self) -> Mapping[str, Convention]:
        """The runtime files by name, the repository's own first.

        The first runtime whose program is installed is the default.
        """
        return {path.stem: file for path, file in self._in("runtimes", ".toml")}

    @cached_property
    def prompts(self) -> Mapping[str, Convention]:
        """The prompt templates by file name."""
        return {path.name: file for path, file in self._in("prompts", ".md")}

    @cached_property
    def prompts_key(self) -> str:
        """A digest of the prompts: it changes when any of them changes."""
        texts = sorted((name, file.text) for name, file in self.prompts.items())
        return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]

    @cached_property
    def knowledge(self) -> tuple[Note, ...]:
        """The repository's notes, by name."""
        files = sorted(self._in("knowledge", ".md"))
        return tuple(_note(path.stem, file.text) for path, file in files)

    def _in(self, folder: str, suffix: str) -> Iterator[tuple[PurePosixPath, Convention]]:
        for name, file in self.files.items():
            path = PurePosixPath(name)
            if path.parent == PurePosixPath(folder) and path.suffix == suffix:
                yield path, file


def overlay(
    trunk: Mapping[str, str], shipped: Mapping[str, str], folder: str = CONVENTIONS
) -> Conventions:
    """Return the conventions in force.

    `trunk`: texts by path in the repository; `shipped`: what `read_shipped` returns.
    """
    top = f"{folder}/"
    files: dict[str, Convention] = {}
    for path in sorted(trunk):
        if path.startswith(top):
            files[path.removeprefix(top)] = Convention(trunk[path], path)
    for path in sorted(shipped):
        files.setdefault(path, Convention(shipped[path], f"{_SHIPPED}{path}"))
    return Conventions(files, folder)


def differing(root: Path, ruling: Conventions) -> list[str]:
    """Return the convention files of the checkout at `root` that differ from those in force."""
    rules: dict[str, list[str]] = {}
    for file in ruling.files.values():
        if not file.is_shipped:
            rules[file.where] = file.text.splitlines()
    here: dict[str, list[str]] = {}
    for path in _own_files(root, ruling.folder):
        here[path.relative_to(root).as_posix()] = _lines(path)
    found = []
    for name in sorted(rules.keys() | here.keys()):
        is_dotted = PurePosixPath(name).name.startswith(".")
        if not is_dotted and rules.get(name) != here.get(name):
            found.append(name)
    return found


def _own_files(root: Path, folder: str) -> Iterator[Path]:
    """Yield the files that can be in force: from the folder in use, then from the other folder."""
    for name in sorted(_NAMES, key=lambda name: name != folder):
        for known in KNOWN:
            top = root / name / known.rstrip("/")
            for path in [top] if top.is_file() else top.rglob("*"):
                if path.is_symlink() or path.is_file():
                    yield path


def read_own(root: Path) -> tuple[dict[str, str], str]:
    """Return the checkout's convention texts by path, and the folder that contains them."""
    texts: dict[str, str] = {}
    for name in _NAMES:
        for path in sorted((root / name).rglob("*")):
            if path.is_file():
                texts[path.relative_to(root).as_posix()] = _text(path)
    folder = folder_of(layout(texts))
    own = {path: text for path, text in texts.items() if path.startswith(f"{folder}/")}
    return own, folder


def read_shipped(folder: Path | None = None) -> dict[str, str]:
    """Return the shipped runtimes and prompts, by path below conventions/.

    The files lie in the installed package. If the package has none, they lie in this checkout.
    """
    root = folder
    if root is None:
        package = Path(__file__).parents[1]
        installed = package / "shipped"
        root = installed if installed.is_dir() else package.parent / "conventions"
    paths = [*root.glob("runtimes/*.toml"), *root.glob("prompts/*.md")]
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def _lines(path: Path) -> list[str]:
    """Return a file's lines without line ends, because these may differ from those in git."""
    with suppress(OSError):  # the file was deleted or is not readable, so it differs
        if path.is_symlink():
            return [str(path.readlink())]
        return _text(path).splitlines()
    return []


def _text(path: Path) -> str:
    """Return the beginning of a file, up to the bound; ignore the rest of a larger file."""
    return bounded.head(path, bounded.PARSED).decode("utf-8", "replace")


def _note(name: str, text: str) -> Note:
    """Return the note. With unreadable front matter, it concerns the whole repository."""
    file = loose(text)
    paths = file.keys.get("paths") or []
    globs = paths if isinstance(paths, list) else [paths]
    body = text if file.trouble else file.body
    return Note(name, body.strip(), tuple(globs))
