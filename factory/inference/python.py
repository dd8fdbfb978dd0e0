"""Infers the gates of a Python project."""

import re
from collections.abc import Iterator, Mapping

from factory.inference.files import PYTHON_MANIFESTS, TESTS_READ, Files, at
from factory.inference.rules import CHECKS, TESTS, Gate

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
_NO_PACKAGE = re.compile(r"tests?|docs?|examples?|scripts|tools|benchmarks?|build|dist")
_MYPY_AIMS = ("files", "packages", "modules")
_MYPY_AIM = re.compile(r"^\[mypy\](?:\n(?!\[).*)*?\n(files|packages|modules)\s*=", re.MULTILINE)
# Before Python 3.12, unittest reports success if no test ran.
_UNITTEST = """\
import sys, unittest
done = unittest.main(module=None, argv=["unittest", "discover", {}], exit=False).result
sys.exit(0 if done.testsRun and done.wasSuccessful() else 1)"""


def gates(files: Files) -> Iterator[Gate]:
    """Yield the gates for configured tools and for tests."""
    ruff = _configured(files, "ruff")
    if ruff:
        # The option --no-fix overrides `fix` in the configuration.
        yield Gate("ruff", CHECKS, ("ruff", "check", "--no-fix", "."), ruff)
    mypy = _configured(files, "mypy")
    if mypy:
        aim = () if _is_mypy_aimed(files) else _packages(files)
        yield Gate("mypy", CHECKS, ("mypy", *aim), mypy)
    test = _test_gate(files)
    if test:
        yield test


def _test_gate(files: Files) -> Gate | None:
    pytest = _configured(files, "pytest")
    if pytest:
        return Gate("pytest", TESTS, ("python", "-m", "pytest"), pytest)
    if "manage.py" in files.names:
        return Gate("django", TESTS, ("python", "manage.py", "test"), "manage.py")
    if files.tests and _uses_pytest(files):
        reason = f"test files ({files.tests[0]} …)"
        return Gate("pytest", TESTS, ("python", "-m", "pytest"), reason)
    if files.tests:
        return _unittest_gate(files)
    if "tests.py" in files.names:
        return Gate("unittest", TESTS, ("python", "-m", "unittest", "tests"), "tests.py")
    return None


def _packages(files: Files) -> tuple[str, ...]:
    """Return the folders of the project's own packages; `.` if there is none."""
    found = set()
    for name in files.names:
        folder, slash, rest = name.partition("/")
        if folder == "src" and slash:
            return ("src",)
        if rest == "__init__.py" and not _NO_PACKAGE.fullmatch(folder):
            found.add(folder)
    return tuple(sorted(found)) or (".",)


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
    manifests = (*files.matching(*PYTHON_MANIFESTS, "tox.ini"), *tests)
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
        group=TESTS,
        command=("python", "-c", _UNITTEST.format(arguments)),
        reason=f"unittest cases ({first} …)",
        said=" ".join(["python -m unittest discover", *where]),
    )
