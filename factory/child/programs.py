"""What the user's programs consist of: folders that a confined command must see to run them.

Invariant: what a command can change has no say in what the next one sees.
"""
# os.path asks where pathlib raises: a link on PATH may well lead into another user's HOME.
# ruff: noqa: PTH110, PTH112, PTH114

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from factory.child.hidden import Hidden, placed, prefix

# Folders of toolchains below HOME, by the variable that names them.
TOOLCHAINS = {
    "RUSTUP_HOME": ".rustup",
    "PYENV_ROOT": ".pyenv",
    "VOLTA_HOME": ".volta",
    "ASDF_DATA_DIR": ".asdf",
    "NVM_DIR": ".nvm",
    "UV_PYTHON_INSTALL_DIR": ".local/share/uv/python",
}
# No prefix of one program: much else lies beside its `bin`.
_BARE = (".local", ".cargo", ".config", "share")


class Programs:
    """Finds hidden folders of programs. `path`: the daemon's PATH; `work`: where commands work."""

    def __init__(self, hidden: Hidden, *, path: str, work: Path) -> None:
        self._hidden = hidden
        self._path = path
        self._work = prefix(work)
        self._known: dict[Path, tuple[tuple[int, int], list[Path]]] = {}

    def on_path(self, path: str) -> list[Path]:
        """Return the hidden paths that programs on a PATH need."""
        begin = path.split(os.pathsep)
        python = shutil.which("python3", path=self._path)  # it makes venvs
        if python:
            begin.append(python)
        found: list[Path] = []
        for name in begin:
            if name.startswith("/"):
                found += self._of(Path(name))
        return found

    def of(self, *begin: Path) -> list[Path]:
        """Return the hidden paths that folders of programs, or programs, need.

        They are their prefixes, those of what they lead to, and the links on the way.
        """
        left = list(begin)
        found: list[Path] = []
        links: dict[Path, list[Path]] = {}  # by folder
        seen: set[Path] = set()
        for named in left:  # grows while it is walked
            path = placed(named)
            if path in seen or not self._may_show(path):
                continue
            seen.add(path)
            if named.parent not in links:
                links[named.parent] = list(self._hidden.links_to(named))
            is_hidden = self._hidden.holds(path)
            if is_hidden or os.path.islink(path) or named is begin[0]:
                left += _leads_to(path)
            if is_hidden and os.path.exists(path) and not any(map(path.is_relative_to, found)):
                whole = self._whole(path)
                found.append(whole)
                left += _home_of_venv(whole)
        for folder in links.values():
            found += folder
        return found

    def _of(self, begin: Path) -> list[Path]:
        """Return what a folder of programs, or one program, needs; look again if it has changed."""
        try:
            about = begin.stat()
        except OSError:
            return []
        version = (about.st_ino, about.st_mtime_ns)
        known = self._known.get(begin)
        if known is None or known[0] != version:
            known = version, self.of(begin, *_links_in(begin))
            self._known[begin] = known
        return known[1]

    def _may_show(self, path: Path) -> bool:
        """Return whether showing it shows neither other people's work nor a hidden folder."""
        return not prefix(path).startswith(self._work) and not self._hidden.lies_in(path)

    def _whole(self, path: Path) -> Path:
        """Return the folder that holds all of a program; the path if that would show more."""
        if "node_modules" in path.parts:
            return Path(*path.parts[: path.parts.index("node_modules") + 1])
        folder = path if os.path.isdir(path) else path.parent
        top = folder.parent if folder.name in ("bin", "shims") else folder
        if top.name in _BARE or self._hidden.lies_in(top) or not self._hidden.holds(top):
            return path
        return top


def toolchains(env: Mapping[str, str]) -> list[Path]:
    """Return the folders of toolchains that an environment names."""
    return [Path(env[name]) for name in TOOLCHAINS if os.path.isdir(env.get(name, ""))]


def _leads_to(path: Path) -> Iterator[Path]:
    """Yield where a link leads, or what interprets a script."""
    with suppress(OSError):
        if os.path.islink(path):
            yield path.parent / path.readlink()
        elif path.is_file():
            with path.open("rb") as file:
                first = file.readline(256)
            if first.startswith(b"#!/"):
                yield Path(os.fsdecode(first[2:].split()[0]))


def _home_of_venv(folder: Path) -> list[Path]:
    """Return where the Python of a venv is: elsewhere."""
    with suppress(OSError):
        lines = (folder / "pyvenv.cfg").read_text().splitlines()
        return [Path(line.partition("=")[2].strip()) for line in lines if line.startswith("home ")]
    return []


def _links_in(folder: Path) -> Iterator[Path]:
    with suppress(OSError):
        for entry in os.scandir(folder):
            if entry.is_symlink():
                yield Path(entry.path)
