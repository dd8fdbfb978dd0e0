"""Checks that gates import the project's modules from the judged tree, and not from a copy.

Invariant: no code of a candidate runs; only files are read.
"""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from factory.judging.installed import Distribution, Installed, parsed, read
from factory.judging.texts import TooLarge, text_of
from factory.judging.venvs import site_folders

_COMMON = frozenset(
    {"tests", "docs", "examples", "scripts", "benchmarks", "tools", "setup", "conftest", "noxfile"}
)
_PROJECT = re.compile(r"""(?:^|\()[ \t]*name[ \t]*=[ \t]*["']?([\w.-]+)""", re.MULTILINE)
_MANIFESTS = ("pyproject.toml", "setup.cfg", "setup.py")
_MANIFEST_BYTES = 1 << 20
_CURE = (
    ": gates would test that code and not the candidate. Install the project editable "
    "(pip install -e .), e.g. in conventions/workspace/setup.sh."
)


def modules_of(tree: Path) -> list[str]:
    """Return the names of the project's top-level modules."""
    names = set[str]()
    for path in (*tree.glob("*"), *(tree / "src").glob("*")):
        if path.suffix == ".py" or os.path.isfile(path / "__init__.py"):  # noqa: PTH113
            names.add(path.name.removesuffix(".py"))
    return sorted(filter(str.isidentifier, names))


def checked_modules(tree: Path) -> list[str]:
    """Return those of the project's modules whose names nothing else is likely to have."""
    common = sys.stdlib_module_names | _COMMON
    return [name for name in modules_of(tree) if name not in common]


def outside_python(
    tree: Path, venv: Path | None, folders: Sequence[Path], *, before: Sequence[Path] = ()
) -> str:
    """Return a sentence about a module that gates would import from outside the tree; else "".

    `folders` contain installed packages. Python searches the folders in `before` first. Without a
    `venv`, `folders` are the machine's, and only the project's own packages matter in them.
    """
    try:
        return _Origins(tree, venv, read(folders, before=before)).wrong()
    except TooLarge as error:
        return f"{error}, so it is unknown whether gates would test the candidate."


def folders_told(output: str) -> list[Path]:
    """Return the package folders of a Python, read from the output of a program that it ran.

    The last line of the output is JSON: the path of the Python, then folders. If a venv's Python
    runs with -S, it does not know that it belongs to a venv.
    """
    told = parsed(output.strip().rpartition("\n")[2])
    if not isinstance(told, list) or not told or not all(isinstance(each, str) for each in told):
        return []
    python, *folders = map(Path, told)
    prefix = python.parent.parent
    return site_folders(prefix) if (prefix / "pyvenv.cfg").is_file() else folders


class _Origins:
    def __init__(self, tree: Path, venv: Path | None, known: Installed) -> None:
        self._tree = Path(os.path.realpath(tree))
        self._venv = venv and Path(os.path.realpath(venv))
        self._known = known
        self._project = _project_of(tree)

    def wrong(self) -> str:
        """Return the first problem as a sentence; empty if there is none."""
        for package in self._known.distributions:
            if self._venv or self._is_project(package):
                found = self._package(package)
                if found:
                    return found
        for name in checked_modules(self._tree):
            origin = self._known.origin(name)
            if origin is not None:
                found = self._module(name, Path(os.path.realpath(origin)))
                if found:
                    return found
        return ""

    def _package(self, package: Distribution) -> str:
        """Return a sentence if the package is installed in a wrong way; otherwise ""."""
        local = package.source if package.from_folder else None
        if local and not local.is_relative_to(self._tree):
            return f"{package.name} is installed from {local}, outside the tree{_CURE}"
        if package.editable or package.folder.is_relative_to(self._tree):
            return ""
        if local or self._is_project(package):
            return f"{package.name} is installed as a copy{_CURE}"
        return ""

    def _is_project(self, package: Distribution) -> bool:
        return bool(self._project) and _plain(package.name) == self._project

    def _module(self, name: str, origin: Path) -> str:
        """Return a sentence if the module comes from a wrong place; otherwise ""."""
        if origin.is_relative_to(self._tree):
            return ""
        if not self._venv or not origin.is_relative_to(self._venv):
            return f"`import {name}` gives {origin}, outside the tree{_CURE}"
        shown = origin.relative_to(self._venv)
        owners = [each for each in self._known.distributions if each.owns(name)]
        if not owners:
            return f"`import {name}` gives {shown}, a copy that no installed package owns{_CURE}"
        for owner in owners:
            if owner.source and not owner.editable:
                return f"`import {name}` gives {shown}, a copy that {owner.name} installed{_CURE}"
        return ""  # a dependency has the same name, or an editable installation built the module


def _project_of(tree: Path) -> str:
    """Return the project's name from its manifests; empty if no manifest has a name."""
    for name in _MANIFESTS:
        found = _PROJECT.search(text_of(tree / name, most=_MANIFEST_BYTES))
        if found:
            return _plain(found[1])
    return ""


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def outside_node(tree: Path) -> str:
    """Return a sentence about modules that node would load from outside the tree; else ""."""
    if not (tree / "package.json").is_file():
        return ""
    for folder in tree.parents:
        found = folder / "node_modules"
        if found.is_dir():
            return (
                f"node also loads packages from {found}, outside the tree: gates could pass here "
                "and fail elsewhere. Remove that folder, or set XDG_STATE_HOME to a folder "
                "that has no node_modules above it."
            )
    real = tree.resolve()
    modules = tree / "node_modules"
    for link in (*modules.glob("*"), *modules.glob("@*/*")):
        if link.is_symlink() and not link.resolve().is_relative_to(real):
            return (
                f"{link.relative_to(tree)} leads out of the tree, to {link.resolve()}: gates would "
                "not test the candidate. Name the package in package.json by a version or by a "
                "path in the repository."
            )
    return ""
