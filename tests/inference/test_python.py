"""Gates and setup of a Python project."""

import pytest

from factory.inference.infer import rules_of
from tests.inference.reading import UNITTEST, VENV, commands, installs, of


def test_unittest_cases_get_unittest_and_a_bare_venv_without_any_download() -> None:
    found = of({"tests/test_a.py": UNITTEST, "tests/__init__.py": ""})

    assert [gate.name for gate in found.gates] == ["unittest"]
    assert '"-s", "tests", "-t", "."' in found.gates[0].command[2]
    assert found.setup.commands == ((*VENV, "--without-pip"),)


@pytest.mark.parametrize(
    "files",
    [
        {"test_a.py": "import pytest\n"},
        {"test_a.py": "def test_a(): assert True\n"},
        {"test_a.py": UNITTEST, "conftest.py": ""},
        {"test_a.py": UNITTEST, "requirements-dev.txt": "pytest\n"},
        {"test_a.py": UNITTEST, "setup.cfg": "[tool:pytest]\n"},
        {"pytest.ini": ""},
        {"pyproject.toml": "[tool.pytest.ini_options]\n"},
    ],
)
def test_pytest_rules_where_anything_speaks_of_it(files: dict[str, str]) -> None:
    assert commands(of(files)) == {"pytest": "python -m pytest"}


def test_a_python_project_is_installed_editable_with_its_test_extras_groups_and_runners() -> None:
    pyproject = """
        [project]
        name = "a"
        optional-dependencies = {test = ["hypothesis"], docs = ["sphinx"]}
        [dependency-groups]
        lint = ["ruff==0.9"]
        dev = ["anyio", {include-group = "lint"}, {include-group = "dev"}]
        docs = ["mkdocs"]
        [tool.ruff]
        [tool.mypy]
        files = ["a"]
    """

    found = of(
        {
            "pyproject.toml": pyproject,
            "tests/test_a.py": "import pytest",
            "requirements-dev.txt": "x\n",
        }
    )

    assert commands(found) == {
        "ruff": "ruff check --no-fix .",
        "mypy": "mypy",
        "pytest": "python -m pytest",
    }
    assert found.setup.kind == "pip"
    assert found.setup.commands[0] == VENV
    assert installs(found) == [
        "-e .[test] ruff==0.9 anyio ruff==0.9 -r requirements-dev.txt pytest ruff mypy"
    ]


def test_requirement_files_of_other_purposes_stay_out_and_those_they_point_to_are_inputs() -> None:
    found = of(
        {
            "requirements.txt": "-r deps/base.in\n-c ./constraints.txt\n-e ./libs/b\n",
            "requirements/test.txt": "x\n",
            "requirements/docs.txt": "x\n",
            "test-requirements.txt": "x\n",
            "requirements-docs.txt": "x\n",
            "test_a.py": "import pytest",
        }
    )

    assert installs(found) == [
        "-r requirements.txt -r requirements/test.txt -r test-requirements.txt pytest"
    ]
    assert {"deps/base.in", "constraints.txt", "libs/b/pyproject.toml", "libs/b/setup.py"} <= set(
        found.setup.inputs
    )


def test_requirements_with_hashes_are_installed_by_themselves() -> None:
    found = of(
        {
            "requirements.txt": "a==1 --hash=sha256:00\n",
            "pyproject.toml": "[project]\n",
            "test_a.py": "pytest",
        }
    )

    assert installs(found) == ["-r requirements.txt", "-e . pytest"]


def test_files_that_dynamic_metadata_reads_are_inputs() -> None:
    found = of(
        {
            "pyproject.toml": "[project]\n[tool.setuptools.dynamic]\ndependencies = {file = ['a.in']}\n"
            "version = {attr = 'a.v'}\nreadme = {file = 'R.md'}\n"
        }
    )

    assert {"a.in", "R.md"} <= set(found.setup.inputs)


def test_tables_of_odd_shape_are_passed_over() -> None:
    odd = "[project]\n[dependency-groups]\ndev = 'pytest'\n[tool.setuptools.dynamic]\nversion = {file = 5}\n"

    assert installs(of({"pyproject.toml": odd})) == ["-e ."]


def test_a_group_that_includes_no_group_by_name_is_passed_over() -> None:
    odd = "[dependency-groups]\ndev = ['a', {include-group = ['b']}]\n"

    assert installs(of({"pyproject.toml": odd})) == ["a"]


def test_a_uv_lock_is_synced_as_locked_and_runners_that_it_lacks_are_added() -> None:
    found = of(
        {
            "uv.lock": '[[package]]\nname = "pytest"\n',
            "pyproject.toml": "[project]\noptional-dependencies = {test = []}\n"
            "[dependency-groups]\ndev = []\n[tool.ruff]\n",
            "tests/test_a.py": "import pytest",
        }
    )

    assert found.setup.kind == "uv"
    assert found.setup.commands[2:] == (
        ("uv", "sync", "--locked", "--inexact", "--extra", "test", "--group", "dev"),
        ("uv", "pip", "install", "ruff"),
    )
    assert {"uv.lock", "pyproject.toml"} <= found.sources


def test_mypy_is_aimed_by_its_own_section_of_setup_cfg_alone() -> None:
    setup_cfg = "[mypy]\nstrict = true\n[options]\npackages = find:\n"

    rules = rules_of(["setup.cfg", "a.py"], {"setup.cfg": setup_cfg})

    assert [gate.command for gate in rules.gates if gate.name == "mypy"] == [("mypy", ".")]
