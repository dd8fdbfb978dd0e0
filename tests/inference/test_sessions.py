"""Gates of tox and nox."""

import pytest

from tests.inference.reading import commands, of

TOX = (
    "[tox]\nenvlist =\n    py{39,310}-a, py313\n    {lint,typing}\n    docs\n[testenv]\ndeps = x\n"
)
MANY = "update, fetch, compile, docs, watch, serve, flake8"
NOX = "import nox\n@nox.session(python=['3.9'])\ndef tests(session):\n ...\n@nox.session\ndef docs(session): ...\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {"tox.ini": TOX},
            {
                "tox-lint": "tox run -e lint",
                "tox-typing": "tox run -e typing",
                "tox-py-a": "tox run -e py-a",
                "tox-py": "tox run -e py",
            },
        ),
        ({"tox.ini": "[tox]\nenv_list = py, 3.13\n"}, {"tox-py": "tox run -e py"}),
        # shaped after wcwidth: the tests come after many environments that fetch and repair
        (
            {"tox.ini": f"[tox]\nenvlist = {MANY}, py{{38, 39}}\n"},
            {"tox-py": "tox run -e py", "tox-flake8": "tox run -e flake8"},
        ),
        ({"tox.ini": "[tox]\nenvlist = docs\n"}, {}),
        ({"noxfile.py": NOX}, {"nox-tests": "nox -s tests"}),
        ({"noxfile.py": "x = 1", "test_a.py": "import pytest"}, {"pytest": "python -m pytest"}),
    ],
)
def test_environments_and_sessions_that_judge_are_gates(
    files: dict[str, str], expected: dict[str, str]
) -> None:
    assert commands(of(files)) == expected


def test_their_environments_are_made_by_the_setup_and_kept_in_the_tree() -> None:
    found = of({"tox.ini": TOX, "pyproject.toml": "[dependency-groups]\ndev = ['tox>=4.1']\n"})

    assert found.setup.keeps == (".tox",)
    assert found.setup.commands[2][-1] == "tox>=4.1"
    assert found.setup.rebuild == (
        ("{venv}/bin/tox", "run", "--notest", "-e", "py,py-a,lint,typing"),
    )
    assert {"tox.ini"} <= found.sources
