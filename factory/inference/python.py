"""Infers gates and setup of a Python project; uv or pip makes the environment."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from factory.inference.files import PYTHON_INPUTS, TESTS_READ, Files, at, bare
from factory.inference.rules import Gate, Setup

# Files that decide how a tool judges, even if they do not exist yet. If the root folder has a
# module with the name of a test runner, the module runs instead of the runner.
RULED_BY: Mapping[str, tuple[str, ...]] = {
    "pytest": (
        "pytest.toml",
        ".pytest.toml",
        "pytest.ini",
        ".pytest.ini",
        "pyproject.toml",
        "tox.ini",
        "setup.cfg",
        "pytest.py",
        "pytest/__init__.py",
    ),
    "unittest": ("unittest.py", "unittest/__init__.py"),
    "tox": ("tox.ini", "tox.toml", "pyproject.toml", "setup.cfg"),
    "ruff": ("ruff.toml", ".ruff.toml", "pyproject.toml"),
    "mypy": ("mypy.ini", ".mypy.ini", "pyproject.toml", "setup.cfg"),
}
LOCKS = ("uv.lock",)  # too large to parse, so only the lines that name a package are read
LOCKED = '^name = "[^"]+"'  # matches a line that names a package
VENV = ("{python}", "-I", "-m", "venv", "{venv}")
_INSTALLED = ("pytest", "tox", "ruff", "mypy")  # tools that setup must install in the environment
_PIP_INSTALL = (
    "{venv}/bin/python",
    "-I",
    "-m",
    "pip",
    "install",
    "--no-input",
    "--disable-pip-version-check",
)
_FOR_TESTS = re.compile(
    "(tests?|testing|dev|develop|development|checks?|lint|linting|typing|types|typecheck|ci)"
)
_PURPOSE = rf"({_FOR_TESTS.pattern}|base|main)"
_REQUIREMENTS = re.compile(rf"requirements([-_./]?{_PURPOSE})?\.txt|{_PURPOSE}-requirements\.txt")
_OTHER_LISTS = re.compile(r"^[ \t]*(?:-[rc]|--requirement|--constraint)[\s=]+(\S+)", re.MULTILINE)
_EDITABLES = re.compile(r"^[ \t]*(?:-e|--editable)[\s=]+(?:file:)?(\.?[\w./-]+)", re.MULTILINE)
_MYPY_AIMS = ("files", "packages", "modules")
_MYPY_AIM = re.compile(r"^\[mypy\](?:\n(?!\[).*)*?\n(files|packages|modules)\s*=", re.MULTILINE)
# Before Python 3.12, unittest reports success if no test ran.
_UNITTEST = """\
import sys, unittest
done = unittest.main(module=None, argv=["unittest", "discover", {}], exit=False).result
sys.exit(0 if done.testsRun and done.wasSuccessful() else 1)"""


# ── gates ──


def gates(files: Files) -> Iterator[Gate]:
    """Yield the gates for configured tools and for tests."""
    ruff = _configured(files, "ruff")
    if ruff:
        # The option --no-fix overrides `fix` in the configuration.
        yield Gate("ruff", 10, ("ruff", "check", "--no-fix", "."), ruff)
    mypy = _configured(files, "mypy")
    if mypy:
        command = ("mypy",) if _is_mypy_aimed(files) else ("mypy", ".")
        yield Gate("mypy", 10, command, mypy)
    pytest = _configured(files, "pytest")
    if not pytest and files.tests:
        if not _uses_pytest(files):
            yield _unittest_gate(files)
            return
        pytest = f"test files ({files.tests[0]} …)"
    if pytest:
        yield Gate("pytest", 20, ("python", "-m", "pytest"), pytest)


def _configured(files: Files, tool: str) -> str:
    """Return the file in which a tool is configured, or ""."""
    if tool in at(files.pyproject, "tool"):
        return f"[tool.{tool}] in pyproject.toml"
    own = re.compile(rf"\.?{tool}\.(ini|toml)")
    found = files.first(filter(own.fullmatch, RULED_BY[tool]))
    if found:
        return found
    section = re.compile(rf"^\[(tool:)?{tool}\]", re.MULTILINE)
    for name in ("setup.cfg", "tox.ini"):
        if section.search(files.text(name)):
            return name
    return ""


def _is_mypy_aimed(files: Files) -> bool:
    """Whether mypy's configuration says which files to check."""
    if not at(files.pyproject, "tool", "mypy").keys().isdisjoint(_MYPY_AIMS):
        return True
    return bool(_MYPY_AIM.search(files.text("mypy.ini", ".mypy.ini", "setup.cfg")))


def _uses_pytest(files: Files) -> bool:
    """Whether the tests or the manifests suggest that pytest must run the tests."""
    if any(name.endswith("conftest.py") for name in files.names):
        return True
    tests = files.tests[:TESTS_READ]
    manifests = (*files.matching(*PYTHON_INPUTS, "tox.ini"), *tests)
    if re.search(r"\bpytest\b", files.sample(*manifests)):
        return True
    files.text(*manifests)  # if a file could not be read, it might name pytest
    return "unittest" not in files.text(*tests)


def _unittest_gate(files: Files) -> Gate:
    first = files.tests[0]
    folder, slash, _ = first.partition("/")
    start = folder if slash else "."
    where = ["-s", start]
    if f"{start}/__init__.py" in files.names:
        where += ["-t", "."]
    arguments = ", ".join(f'"{part}"' for part in where)
    return Gate(
        name="unittest",
        group=20,
        command=("python", "-c", _UNITTEST.format(arguments)),
        reason=f"unittest cases ({first} …)",
        said=" ".join(["python -m unittest discover", *where]),
    )


# ── setup ──


def setup(files: Files, tools: Collection[str]) -> Setup:
    """Return how to make an environment that contains these tools."""
    runners = [tool for tool in _INSTALLED if tool in tools]
    if "uv.lock" in files.names:
        return _uv_setup(files, runners)
    named = _named_requirements(files)
    lists = sorted(filter(_REQUIREMENTS.fullmatch, files.names))
    if named or lists or runners:
        return _pip_setup(files, named, lists, runners)
    if "unittest" in tools:
        # The Python on PATH may have an editable install of the project, so tests get an empty
        # venv.
        venv = (*VENV, "--without-pip")
        return Setup(
            commands=(venv,), inputs=(".python-version",), reason="Python, no requirements"
        )
    return Setup()


def _uv_setup(files: Files, runners: Sequence[str]) -> Setup:
    sync = ["uv", "sync", "--locked", "--inexact"]
    for extra in _for_tests(files, "project", "optional-dependencies"):
        sync += ["--extra", extra]
    for group in _for_tests(files, "dependency-groups"):
        sync += ["--group", group]
    project = at(files.pyproject, "project").get("name")
    if isinstance(project, str):
        # uv's cache might contain an earlier build of the project, made from another tree.
        sync += ["--reinstall-package", project]
    commands = [
        VENV,
        ("sh", "-c", "command -v uv || python -I -m pip install uv"),
        tuple(sync),
    ]
    locked = re.findall(LOCKED, files.text("uv.lock"), re.MULTILINE)
    more = [tool for tool in runners if f'name = "{tool}"' not in locked]
    if more:
        commands.append(("uv", "pip", "install", *more))
    return Setup(
        kind="uv",
        commands=tuple(commands),
        inputs=PYTHON_INPUTS,
        rebuild=(tuple(sync),),
        reason="uv.lock is there",
    )


def _pip_setup(
    files: Files, named: Sequence[str], lists: Sequence[str], runners: Sequence[str]
) -> Setup:
    read: list[str] = []
    for name in lists:
        read += ["-r", name]
    installs = [[*named, *read, *runners]]
    if "--hash" in files.text(*lists):
        # If one package has a hash, pip requires hashes for all packages of the command.
        installs = [read, [*named, *runners]]
    commands = [(*_PIP_INSTALL, *install) for install in installs if install]
    return Setup(
        kind="pip",
        commands=(VENV, *commands),
        inputs=(*PYTHON_INPUTS, *_read_too(files, lists)),
        # installs only editable packages, because all other packages exist
        rebuild=tuple(commands),
        reason="a venv with " + " ".join([*named, *lists, *runners]),
    )


def _named_requirements(files: Files) -> list[str]:
    """Return the arguments that make pip install the project and its dependency groups."""
    named = []
    is_project = "project" in files.pyproject or "build-system" in files.pyproject
    if is_project or "setup.py" in files.names:
        extras = ",".join(_for_tests(files, "project", "optional-dependencies"))
        named += ["-e", f".[{extras}]" if extras else "."]
    groups = at(files.pyproject, "dependency-groups")
    for group in _for_tests(files, "dependency-groups"):
        named += _group(groups, group, ())
    return named


def _for_tests(files: Files, *table: str) -> list[str]:
    """Return the names of those extras or dependency groups in a table that tests need."""
    return list(filter(_FOR_TESTS.fullmatch, at(files.pyproject, *table)))


def _group(groups: Mapping[str, Any], name: str, seen: tuple[str, ...]) -> list[str]:
    """Return the requirements of a dependency group, including those of nested groups."""
    items = groups.get(name)
    if name in seen or not isinstance(items, list):
        return []
    found: list[str] = []
    for item in items:
        included = item.get("include-group") if isinstance(item, dict) else None
        if isinstance(included, str):
            found += _group(groups, included, (*seen, name))
        elif isinstance(item, str):
            found.append(item)
    return found


def _read_too(files: Files, lists: Sequence[str]) -> list[str]:
    """Return the files named by requirement files or by dynamic metadata; these are read too."""
    text = files.text(*lists)
    found: list[str] = _OTHER_LISTS.findall(text)
    for folder in _EDITABLES.findall(text):
        found += [f"{folder}/pyproject.toml", f"{folder}/setup.py", f"{folder}/setup.cfg"]
    for source in at(files.pyproject, "tool", "setuptools", "dynamic").values():
        named = source.get("file", []) if isinstance(source, dict) else []
        found += map(str, named if isinstance(named, list) else [named])
    return sorted(set(map(bare, found)))
