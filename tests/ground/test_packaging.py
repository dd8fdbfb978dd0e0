"""What setuptools would package, as told from a project's files; and setuptools itself, where it is installed."""

from pathlib import Path

import pytest

from factory.ground.packaging import FILES, is_packaged
from tests.git_repo import write

PROJECT = '[project]\nname = "p"\nversion = "1"\n'
BACKEND = '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "{}"\n'
FIND = "[tool.setuptools.packages.find]\n"
CASES = [  # files, whether a folder inbox/ is packaged
    ({"pyproject.toml": PROJECT, "p/__init__.py": ""}, True),
    ({"pyproject.toml": PROJECT, "p.py": ""}, True),
    (
        {"pyproject.toml": BACKEND.format("setuptools.build_meta") + PROJECT, "p/__init__.py": ""},
        True,
    ),
    (
        {
            "pyproject.toml": '[build-system]\nrequires = ["setuptools"]\n' + PROJECT,
            "p/__init__.py": "",
        },
        True,
    ),
    ({"setup.py": "from setuptools import setup\nsetup(name='p')\n", "p/__init__.py": ""}, True),
    (
        {
            "setup.cfg": "[metadata]\nname = p\n",
            "setup.py": "import setuptools\nsetuptools.setup()\n",
            "p.py": "",
        },
        True,
    ),
    ({"pyproject.toml": PROJECT, "src/p/__init__.py": ""}, False),
    (
        {"pyproject.toml": PROJECT + '[tool.setuptools]\npackages = ["p"]\n', "p/__init__.py": ""},
        False,
    ),
    (
        {
            "pyproject.toml": PROJECT + '[tool.setuptools]\npackages = ["p", "inbox"]\n',
            "p/__init__.py": "",
        },
        True,
    ),
    ({"pyproject.toml": PROJECT + '[tool.setuptools]\npy-modules = ["p"]\n', "p.py": ""}, False),
    ({"pyproject.toml": PROJECT + FIND, "p/__init__.py": ""}, True),
    ({"pyproject.toml": PROJECT + FIND + 'include = ["p*"]\n', "p/__init__.py": ""}, False),
    ({"pyproject.toml": PROJECT + FIND + 'exclude = ["in*"]\n', "p/__init__.py": ""}, False),
    ({"pyproject.toml": PROJECT + FIND + 'where = ["lib"]\n', "lib/p/__init__.py": ""}, False),
    ({"pyproject.toml": PROJECT + FIND + "namespaces = false\n", "p/__init__.py": ""}, False),
    (
        {
            "pyproject.toml": PROJECT + '[tool.setuptools]\npackage-dir = {"" = "lib"}\n',
            "lib/p/__init__.py": "",
        },
        False,
    ),
    (
        {
            "setup.cfg": "[options]\npackages = find:\n",
            "setup.py": "import setuptools\nsetuptools.setup()\n",
        },
        False,
    ),
    (
        {
            "setup.cfg": "[options]\npackages = find_namespace:\n",
            "setup.py": "from setuptools import setup\nsetup()\n",
        },
        True,
    ),
    (
        {
            "setup.cfg": "[options]\npackages = find_namespace:\n[options.packages.find]\ninclude =\n  p*\n",
            "setup.py": "from setuptools import setup\nsetup()\n",
        },
        False,
    ),
    (
        {"setup.py": "from setuptools import setup\nsetup(packages=['p'])\n", "p/__init__.py": ""},
        False,
    ),
    (
        {
            "setup.py": "from setuptools import *\nsetup(packages=find_namespace_packages())\n",
            "p/__init__.py": "",
        },
        True,
    ),
]


def told(files: dict[str, str], name: str = "inbox") -> bool:
    roots = {path.split("/")[0] for path in files}
    return is_packaged(name, roots, {path: text for path, text in files.items() if path in FILES})


@pytest.mark.parametrize(("files", "packaged"), CASES)
def test_what_a_projects_files_say_is_packaged(files: dict[str, str], packaged: bool) -> None:
    assert told(files) is packaged


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"package.json": "{}"},
        {"pyproject.toml": "[tool.ruff]\n"},
        {"pyproject.toml": BACKEND.format("hatchling.build") + PROJECT},
        {"pyproject.toml": BACKEND.format("poetry.core.masonry.api")},
        {"pyproject.toml": "not [ TOML"},
    ],
)
def test_where_setuptools_builds_nothing_nothing_is_packaged(files: dict[str, str]) -> None:
    assert not told(files)


@pytest.mark.parametrize(
    "text",
    [
        "[tool]\nsetuptools = 3\n",
        "[tool.setuptools]\npackages = 7\n",
        "[tool.setuptools.packages]\nfind = 1\n",
    ],
)
def test_files_that_setuptools_refuses_are_no_trouble_here(text: str) -> None:
    assert isinstance(told({"pyproject.toml": PROJECT + text}), bool)
    assert isinstance(told({"setup.cfg": "no [ section\n", "setup.py": ""}), bool)


@pytest.mark.parametrize(("files", "packaged"), CASES)
def test_setuptools_does_as_is_told_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], packaged: bool
) -> None:
    """Its own discovery on a real folder; a second top-level package in a flat layout is refused by it."""
    setuptools = pytest.importorskip("setuptools")
    errors = pytest.importorskip("setuptools.errors")
    write(tmp_path, {**files, "inbox/task.md": "do it"})
    monkeypatch.chdir(tmp_path)
    arguments = {}
    if "setup.py" in files and "packages=" in files["setup.py"]:
        arguments["packages"] = (
            ["p"] if "['p']" in files["setup.py"] else setuptools.find_namespace_packages()
        )
    made = setuptools.Distribution(arguments)

    try:
        made.parse_config_files()
        made.set_defaults()
        found = "inbox" in (made.packages or [])
    except errors.PackageDiscoveryError as refusal:
        found = "'inbox'" in str(refusal)

    assert found is packaged
