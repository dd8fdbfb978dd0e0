"""Finds the folders that a confined command must see to run the user's programs.

Invariant: if a command changes files, this does not affect what the next command sees.
"""
# Uses os.path, because a link on PATH may lead into another user's HOME: there, pathlib raises, and
# os.path returns False.
# ruff: noqa: PTH110, PTH112, PTH114

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from factory.child.hidden import Hidden, placed, prefix

# Variables that name folders of toolchains below HOME.
TOOLCHAINS = {
    "RUSTUP_HOME": ".rustup",
    "PYENV_ROOT": ".pyenv",
    "VOLTA_HOME": ".volta",
    "ASDF_DATA_DIR": ".asdf",
    "NVM_DIR": ".nvm",
    "UV_PYTHON_INSTALL_DIR": ".local/share/uv/python",
}
# No program has one of these folders for itself: other things lie beside their `bin`.
_BARE = (".local", ".cargo", ".config", "share")


class Programs:
    """Finds hidden folders of programs. `path`: the daemon's PATH; `work`: the work folder."""

    def __init__(self, hidden: Hidden, *, path: str, work: Path) -> None:
        self._hidden = hidden
        self._path = path
        self._work = prefix(work)
        self._known: dict[Path, tuple[tuple[int, int], list[Path]]] = {}

    def on_path(self, path: str) -> list[Path]:
        """Return the hidden paths that the programs on a PATH need."""
        begin = path.split(os.pathsep)
        python = shutil.which("python3", path=self._path)  # commands need Python to make venvs
        if python:
            begin.append(python)
        found: list[Path] = []
        for name in begin:
            if name.startswith("/"):
                found += self._of(Path(name))
        return found

    def of(self, *begin: Path) -> list[Path]:
        """Return the hidden paths that these programs, or folders of programs, need.

        These are the prefixes of the programs and of their link targets, and the links on the way
        to them.
        """
        left = list(begin)
        found: list[Path] = []
        links: dict[Path, list[Path]] = {}  # the links found in each folder
        seen: set[Path] = set()
        for named in left:  # the loop itself adds to this list
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
        """Return what a program or a folder of programs needs. If it has changed, search again."""
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
        """Return whether the path lies outside the work folder and contains no hidden folder."""
        return not prefix(path).startswith(self._work) and not self._hidden.lies_in(path)

    def _whole(self, path: Path) -> Path:
        """Return the program's whole folder, or only the path if that folder has other content."""
        if "node_modules" in path.parts:
            return Path(*path.parts[: path.parts.index("node_modules") + 1])
        folder = path if os.path.isdir(path) else path.parent
        top = folder.parent if folder.name in ("bin", "shims") else folder
        if top.name in _BARE or self._hidden.lies_in(top) or not self._hidden.holds(top):
            return path
        return top


def toolchains(env: Mapping[str, str]) -> list[Path]:
    """Return the toolchain folders that the environment names."""
    return [Path(env[name]) for name in TOOLCHAINS if os.path.isdir(env.get(name, ""))]


def _leads_to(path: Path) -> Iterator[Path]:
    """Yield the target of a link or the interpreter of a script, if any."""
    with suppress(OSError):
        if os.path.islink(path):
            yield path.parent / path.readlink()
        elif path.is_file():
            with path.open("rb") as file:
                first = file.readline(256)
            if first.startswith(b"#!/"):
                yield Path(os.fsdecode(first[2:].split()[0]))


def _home_of_venv(folder: Path) -> list[Path]:
    """Return the folder of the Python that a venv was made with."""
    with suppress(OSError):
        lines = (folder / "pyvenv.cfg").read_text().splitlines()
        return [Path(line.partition("=")[2].strip()) for line in lines if line.startswith("home ")]
    return []


def _links_in(folder: Path) -> Iterator[Path]:
    with suppress(OSError):
        for entry in os.scandir(folder):
            if entry.is_symlink():
                yield Path(entry.path)
