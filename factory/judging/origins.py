"""Whether the project's modules come from the tree that is judged, by what is installed beside it.

Invariant: no code of a candidate runs: only files are read.
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
    ": gates would test that and not the candidate. Install the project editable "
    "(pip install -e .), e.g. in conventions/workspace/setup.sh."
)


def modules_of(tree: Path) -> list[str]:
    """Names of the project's top-level modules."""
    names = set[str]()
    for path in (*tree.glob("*"), *(tree / "src").glob("*")):
        if path.suffix == ".py" or os.path.isfile(path / "__init__.py"):  # noqa: PTH113
            names.add(path.name.removesuffix(".py"))
    return sorted(filter(str.isidentifier, names))


def checked_modules(tree: Path) -> list[str]:
    """Those of them whose names nothing else may have."""
    common = sys.stdlib_module_names | _COMMON
    return [name for name in modules_of(tree) if name not in common]


def outside_python(
    tree: Path, venv: Path | None, folders: Sequence[Path], *, before: Sequence[Path] = ()
) -> str:
    """What gates would import from elsewhere than the tree, in a sentence; empty if nothing.

    `folders` hold installed packages, and `before` are searched first. Without a `venv` the folders
    are the machine's, where packages that have nothing to do with the project do not matter.
    """
    try:
        return _Origins(tree, venv, read(folders, before=before)).wrong()
    except TooLarge as error:
        return f"{error}, so it is unknown whether gates would test the candidate."


def folders_told(output: str) -> list[Path]:
    """Where a Python keeps what is installed: its own path, then folders, as JSON in the last line.

    A venv's Python that has loaded nothing does not know that it is one.
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
        """The first thing that is wrong; empty if nothing is."""
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
        """What is wrong with how a package is installed."""
        local = package.source if package.from_folder else None
        if local and not local.is_relative_to(self._tree):
            return f"{package.name} is installed from {local}, outside of the tree{_CURE}"
        if package.editable or package.folder.is_relative_to(self._tree):
            return ""
        if local or self._is_project(package):
            return f"{package.name} is installed as a copy{_CURE}"
        return ""

    def _is_project(self, package: Distribution) -> bool:
        return bool(self._project) and _plain(package.name) == self._project

    def _module(self, name: str, origin: Path) -> str:
        """What is wrong with where a module comes from."""
        if origin.is_relative_to(self._tree):
            return ""
        if not self._venv or not origin.is_relative_to(self._venv):
            return f"`import {name}` gives {origin}, outside of the tree{_CURE}"
        shown = origin.relative_to(self._venv)
        owners = [each for each in self._known.distributions if each.owns(name)]
        if not owners:
            return f"`import {name}` gives {shown}, a copy that no installed package owns{_CURE}"
        for owner in owners:
            if owner.source and not owner.editable:
                return f"`import {name}` gives {shown}, which {owner.name} brings as a copy{_CURE}"
        return ""  # a dependency of that name, or what an editable installation built


def _project_of(tree: Path) -> str:
    """The project's name, as its manifests say; empty if none does."""
    for name in _MANIFESTS:
        found = _PROJECT.search(text_of(tree / name, most=_MANIFEST_BYTES))
        if found:
            return _plain(found[1])
    return ""


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def outside_node(tree: Path) -> str:
    """What node would load from elsewhere than the tree, in a sentence; empty if nothing."""
    if not (tree / "package.json").is_file():
        return ""
    for folder in tree.parents:
        found = folder / "node_modules"
        if found.is_dir():
            return (
                f"node looks into {found} for what the tree lacks: gates would pass here and fail "
                "elsewhere. Remove that folder, or set XDG_STATE_HOME to a place that has none "
                "above it."
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
