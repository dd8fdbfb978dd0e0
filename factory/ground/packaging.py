"""What setuptools would package: its automatic discovery, as far as it is about one folder in a project's top folder.

Invariant: pure; nothing of the project's is run. Source: setuptools, discovery.py (flat layout) and config/.
"""

import re
import tomllib
from collections.abc import Collection, Mapping
from configparser import ConfigParser, Error
from fnmatch import fnmatchcase
from typing import Any

FILES = ("pyproject.toml", "setup.cfg", "setup.py")  # that tell setuptools what to package


def is_packaged(name: str, roots: Collection[str], texts: Mapping[str, str]) -> bool:
    """Whether setuptools would take a folder of that name, with no `__init__.py` in it, for a package.

    `roots`: the names in the tree's top folder; `texts`: the content of those of FILES that are there.
    """
    pyproject = _toml(texts.get("pyproject.toml", ""))
    if not _uses_setuptools(pyproject, roots):
        return False
    told = _table(_table(pyproject, "tool"), "setuptools")
    options = _ini(texts.get("setup.cfg", ""))
    for listed in (
        _by_pyproject(name, told),
        _by_cfg(name, options),
        _by_script(texts.get("setup.py", "")),
    ):
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
    """What `[tool.setuptools]` says; None where it lists nothing."""
    packages = told.get("packages")
    if isinstance(packages, list) or "py-modules" in told:
        return isinstance(packages, list) and name in packages
    find = _table(_table(told, "packages"), "find")
    if not isinstance(packages, dict):
        return None
    if not find.get("namespaces", True) or not _in_root(find.get("where", ["."])):
        return False
    return _fits(name, find.get("include", ["*"])) and not _fits(name, find.get("exclude", []))


def _by_cfg(name: str, options: ConfigParser) -> bool | None:
    """What `[options]` of setup.cfg says; None where it lists nothing."""
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
    """What setup.py seems to say; None where it lists nothing."""
    if not re.search(r"\b(packages|py_modules)\s*=", text):
        return None
    return bool(re.search(r"find_namespace_packages\(\s*\)", text))


def _in_root(where: object) -> bool:
    return isinstance(where, list) and bool({".", "", "./"} & {str(each) for each in where})


def _fits(name: str, globs: object) -> bool:
    return isinstance(globs, list) and any(fnmatchcase(name, str(glob)) for glob in globs)


def _table(table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = table.get(key)
    return found if isinstance(found, dict) else {}


def _toml(text: str) -> Mapping[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        return {}  # what reads it next says so better


def _ini(text: str) -> ConfigParser:
    found = ConfigParser(interpolation=None)
    try:
        found.read_string(text)
    except Error:
        return ConfigParser(interpolation=None)
    return found
