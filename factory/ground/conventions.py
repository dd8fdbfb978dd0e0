"""The conventions of one commit: the files under conventions/ on trunk, laid over the shipped ones of the same name.

Invariant: a value made of texts that were read before; nothing here looks at the user's checkout.
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

_SHIPPED = "shipped "  # begins where a complaint about the factory's own file points


@dataclass(frozen=True, slots=True)
class Convention:
    """One file: what it says, and where a complaint about it points."""

    text: str
    where: str

    @property
    def is_shipped(self) -> bool:
        """Whether it is the factory's own, and not the repository's."""
        return self.where.startswith(_SHIPPED)


@dataclass(frozen=True, slots=True)
class Note:
    """One file of knowledge; `paths` are the globs that it is about, () = the whole repository."""

    name: str
    text: str
    paths: tuple[str, ...] = ()

    def concerns(self, scope: Sequence[str]) -> bool:
        """Whether a unit with that scope (empty: the whole repository) should be told."""
        return not self.paths or not scope or overlap(self.paths, scope)


@dataclass(frozen=True)
class Conventions:
    """Files by their path below conventions/."""

    files: Mapping[str, Convention]
    folder: str = CONVENTIONS  # what the repository calls its own

    @cached_property
    def runtimes(self) -> Mapping[str, Convention]:
        """Runtime files by name; the repository's own come first, and the first that is installed is the default."""
        return {path.stem: file for path, file in self._in("runtimes", ".toml")}

    @cached_property
    def prompts(self) -> Mapping[str, Convention]:
        """Prompt templates by file name."""
        return {path.name: file for path, file in self._in("prompts", ".md")}

    @cached_property
    def prompts_key(self) -> str:
        """Which prompts these are: another one where any text among them is another."""
        texts = sorted((name, file.text) for name, file in self.prompts.items())
        return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]

    @cached_property
    def knowledge(self) -> tuple[Note, ...]:
        """What everyone here knows, by name."""
        return tuple(
            _note(path.stem, file.text) for path, file in sorted(self._in("knowledge", ".md"))
        )

    def _in(self, folder: str, suffix: str) -> Iterator[tuple[PurePosixPath, Convention]]:
        for path, file in ((PurePosixPath(name), file) for name, file in self.files.items()):
            if path.parent == PurePosixPath(folder) and path.suffix == suffix:
                yield path, file


def overlay(
    trunk: Mapping[str, str], shipped: Mapping[str, str], folder: str = CONVENTIONS
) -> Conventions:
    """The conventions that rule: `trunk` by path in the repository, `shipped` as `read_shipped` gives it."""
    top = f"{folder}/"
    own = {
        path.removeprefix(top): Convention(trunk[path], path)
        for path in sorted(trunk)
        if path.startswith(top)
    }
    theirs = {
        path: Convention(shipped[path], f"{_SHIPPED}{path}")
        for path in sorted(shipped)
        if path not in own
    }
    return Conventions(own | theirs, folder)


def differing(root: Path, ruling: Conventions) -> list[str]:
    """The conventions that the checkout at `root` has otherwise than the commit that rules."""
    rules = {
        file.where: file.text.splitlines() for file in ruling.files.values() if not file.is_shipped
    }
    here = {
        path.relative_to(root).as_posix(): _lines(path) for path in _own_files(root, ruling.folder)
    }
    names = (
        name for name in rules.keys() | here.keys() if not PurePosixPath(name).name.startswith(".")
    )
    return sorted(name for name in names if rules.get(name) != here.get(name))


def _own_files(root: Path, folder: str) -> Iterator[Path]:
    """The files that count, of the folder that rules and of the one with the other name."""
    other = next(name for name in (CONVENTIONS, HIDDEN[CONVENTIONS]) if name != folder)
    for top in (root / each / name.rstrip("/") for each in (folder, other) for name in KNOWN):
        inside = [top] if top.is_file() else top.rglob("*")
        yield from (path for path in inside if path.is_symlink() or path.is_file())


def read_own(root: Path) -> tuple[dict[str, str], str]:
    """What the checkout at `root` has, by path in it, and the name of the folder that it is read from."""
    names = (CONVENTIONS, HIDDEN[CONVENTIONS])
    found = sorted(path for name in names for path in (root / name).rglob("*") if path.is_file())
    texts = {path.relative_to(root).as_posix(): _text(path) for path in found}
    folder = folder_of(layout(texts))
    return {path: text for path, text in texts.items() if path.startswith(f"{folder}/")}, folder


def read_shipped(folder: Path | None = None) -> dict[str, str]:
    """The shipped runtimes and prompts, by path below conventions/: an installed package's, else the checkout's own."""
    installed = Path(__file__).parents[1] / "shipped"
    root = folder or (installed if installed.is_dir() else installed.parents[1] / "conventions")
    paths = [*root.glob("runtimes/*.toml"), *root.glob("prompts/*.md")]
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def _lines(path: Path) -> list[str]:  # and not the text: a checkout may have other line ends
    with suppress(OSError):  # gone again, or not to be read: it differs
        return [str(path.readlink())] if path.is_symlink() else _text(path).splitlines()
    return []


def _text(path: Path) -> str:
    """How a file begins: a longer one does not rule."""
    return bounded.head(path, bounded.PARSED).decode("utf-8", "replace")


def _note(name: str, text: str) -> Note:
    """Front matter that cannot be read concerns everybody: better told too much than kept from a unit."""
    file = loose(text)
    paths = file.keys.get("paths") or []
    globs = paths if isinstance(paths, list) else [paths]
    body = text if file.trouble else file.body
    return Note(name, body.strip(), tuple(globs))
