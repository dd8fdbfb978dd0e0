"""Finds the installed packages of a Python environment from the layout of its folders.

Invariant: no program runs, because a candidate may have made the environment's Python.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from factory.judging.texts import text_of

_SETTINGS_BYTES = 64 << 10


def has_python(venv: Path) -> bool:
    """Whether the venv has a Python. Without a Python, the folder is not a venv."""
    bin_ = venv / "bin"
    return os.path.lexists(bin_ / "python") or os.path.lexists(bin_ / "python3")


def site_folders(venv: Path) -> list[Path]:
    """Return the venv's folders of installed packages, and the system's if the venv uses them."""
    return _existing([*_own(venv), *_of_the_system(venv)])


def own_folders(venv: Path) -> list[Path]:
    """Return the venv's own folders of installed packages."""
    return _existing(_own(venv))


def _own(venv: Path) -> Iterator[Path]:
    # lib64 is a link to lib, or a separate folder (Fedora); PyPy has lib/pypy3.11.
    for library in ("lib", "lib64"):
        yield from sorted((venv / library).glob("*/site-packages"))


def _of_the_system(venv: Path) -> Iterator[Path]:
    settings = _settings(venv)
    home = settings.get("home", "")
    uses_it = settings.get("include-system-site-packages", "").lower() == "true"
    if not uses_it or home[:1] != "/":
        return
    prefix = Path(home).parent
    version = settings.get("version", "").split(".")
    name = "python" + ".".join(version[:2])
    for library in (prefix / "lib", prefix / "lib64"):
        yield library / name / "site-packages"
    for library in (prefix / "local/lib", Path("/usr/local/lib"), prefix / "lib"):
        yield library / name / "dist-packages"
    yield prefix / "lib/python3/dist-packages"


def _settings(venv: Path) -> dict[str, str]:
    """Return the settings in pyvenv.cfg."""
    found = dict[str, str]()
    for line in text_of(venv / "pyvenv.cfg", most=_SETTINGS_BYTES).splitlines():
        key, _, value = line.partition("=")
        found[key.strip().lower()] = value.strip()
    found.setdefault("version", found.get("version_info", ""))  # the name that uv uses
    return found


def _existing(folders: Iterable[Path]) -> list[Path]:
    """Return the folders that exist, each once."""
    found: dict[str, Path] = {}
    for folder in folders:
        if folder.is_dir():
            found.setdefault(os.path.realpath(folder), folder)
    return list(found.values())
