"""Finds out what setuptools would package from the top folder of a project.

Invariant: pure; no code of the project runs. The rules are those of setuptools, in discovery.py
(flat layout) and config/.
"""

import re
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from factory.ground.toml_text import parsed

if TYPE_CHECKING:
    from configparser import ConfigParser

FILES = ("pyproject.toml", "setup.cfg", "setup.py")  # the files that say what to package


def is_packaged(name: str, roots: Collection[str], texts: Mapping[str, str]) -> bool:
    """Return whether setuptools would package a folder of that name that has no `__init__.py`.

    `roots`: the names in the tree's top folder; `texts`: the contents of those FILES that exist.
    """
    pyproject = _toml(texts.get("pyproject.toml", ""))
    if not _uses_setuptools(pyproject, roots):
        return False
    told = _table(_table(pyproject, "tool"), "setuptools")
    options = _ini(texts.get("setup.cfg", ""))
    listed = _by_pyproject(name, told)
    if listed is None:
        listed = _by_cfg(name, options)
    if listed is None:
        listed = _by_script(texts.get("setup.py", ""))
    if listed is not None:
        return listed
    moved = "package-dir" in told or options.has_option("options", "package_dir")
    return not moved and "src" not in roots


def _uses_setuptools(pyproject: Mapping[str, Any], roots: Collection[str]) -> bool:
    build = _table(pyproject, "build-system")
    if build:
        return str(build.get("build-backend", "setuptools")).startswith("setuptools")
    return "project" in pyproject or "setup.py" in roots or "setup.cfg" in roots


def _by_pyproject(name: str, told: Mapping[str, Any]) -> bool | None:
    """Return whether `[tool.setuptools]` packages the folder; None if it lists no packages."""
    packages = told.get("packages")
    if isinstance(packages, list):
        return name in packages
    if "py-modules" in told:
        return False
    if not isinstance(packages, dict):
        return None
    find = _table(packages, "find")
    if not find.get("namespaces", True) or not _in_root(find.get("where", ["."])):
        return False
    return _fits(name, find.get("include", ["*"])) and not _fits(name, find.get("exclude", []))


def _by_cfg(name: str, options: "ConfigParser") -> bool | None:
    """Return whether `[options]` of setup.cfg packages the folder; None if it lists no packages."""
    packages = options.get("options", "packages", fallback="").strip()
    if not packages and not options.has_option("options", "py_modules"):
        return None
    if packages != "find_namespace:":
        return name in packages.split()
    section = "options.packages.find"
    where = options.get(section, "where", fallback=".").split()
    include = options.get(section, "include", fallback="*").split()
    exclude = options.get(section, "exclude", fallback="").split()
    return _in_root(where) and _fits(name, include) and not _fits(name, exclude)


def _by_script(text: str) -> bool | None:
    """Return whether setup.py seems to package the folder; None if it lists no packages."""
    if not re.search(r"\b(packages|py_modules)\s*=", text):
        return None
    return bool(re.search(r"find_namespace_packages\(\s*\)", text))


def _in_root(where: object) -> bool:
    return isinstance(where, list) and not {".", "", "./"}.isdisjoint(map(str, where))


def _fits(name: str, globs: object) -> bool:
    return isinstance(globs, list) and any(fnmatchcase(name, str(glob)) for glob in globs)


def _table(table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = table.get(key)
    return found if isinstance(found, dict) else {}


def _toml(text: str) -> Mapping[str, Any]:
    try:
        return parsed(text)
    except (ValueError, RecursionError):
        return {}  # setuptools reads the file later and has a better message


def _ini(text: str) -> "ConfigParser":
    from configparser import ConfigParser, Error  # here, because few projects need it

    found = ConfigParser(interpolation=None)
    try:
        found.read_string(text)
    except Error:
        return ConfigParser(interpolation=None)
    return found
