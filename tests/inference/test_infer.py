"""What is read from a commit's files: gates, setup, and who must not edit what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.inference.infer import rules_of, wanted
from factory.inference.rules import Rules, Setup, Skipped
from tests.inference.reading import GATES, SETUP, UNITTEST, commands, installs, of


def test_a_repository_with_nothing_has_no_gate_and_no_setup() -> None:
    assert of({"README.md": "hello"}) == Rules(gates=(), setup=Setup(), sources=frozenset())


@pytest.mark.parametrize(
    ("files", "larger", "unread"),
    [
        ({"pyproject.toml": "[tool.pytest]"}, ["test_big.py"], []),
        ({"test_a.py": "import pytest"}, ["test_big.py"], []),
        ({"conftest.py": ""}, ["test_big.py"], []),
        ({f"{GATES}1-a.sh": "true"}, ["test_big.py"], []),
        ({"test_a.py": UNITTEST}, ["test_big.py"], ["test_big.py"]),
        ({}, ["test_big.py", "requirements.txt"], ["requirements.txt", "test_big.py"]),
        ({}, ["pyproject.toml"], ["pyproject.toml"]),
        ({f"{GATES}1-a.sh": "true"}, [SETUP], [SETUP]),
    ],
)
def test_a_file_that_could_not_be_read_is_named_where_what_it_says_would_matter(
    files: dict[str, str], larger: list[str], unread: list[str]
) -> None:
    names = sorted([*files, *larger])

    found = rules_of(names, files, larger=larger)

    assert sorted(found.unread) == unread


def test_only_what_builds_from_the_tree_is_run_again_for_each_tree() -> None:
    pip = of(
        {
            "pyproject.toml": '[project]\nname = "a"\n',
            "requirements.txt": "b\n",
            "test_a.py": "import pytest",
        }
    )
    uv = of({"pyproject.toml": '[project]\nname = "a"\n', "uv.lock": ""})
    npm = of({"package.json": '{"scripts": {"prepare": "tsc", "postinstall": "x", "test": "y"}}'})
    many = of({"package-lock.json": "", "package.json": '{"workspaces": ["p/*"]}'})

    assert pip.setup.rebuild == pip.setup.commands[1:]
    assert [command[-2:] for command in uv.setup.rebuild] == [("--reinstall-package", "a")]
    assert [" ".join(command) for command in npm.setup.rebuild] == [
        "npm run --ignore-scripts postinstall",
        "npm run --ignore-scripts prepare",
    ]
    assert "--workspaces" in many.setup.rebuild[0]


def test_a_repository_of_two_languages_has_the_setups_of_both() -> None:
    found = of({"requirements.txt": "a\n", "package-lock.json": "", "package.json": "{}"})

    assert found.setup.kind == "pip+npm"
    assert [command[0] for command in found.setup.commands] == [
        "{python}",
        "{venv}/bin/python",
        "npm",
    ]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"Makefile": "test:\n\tx\ncheck: test\n"}, {"check": "make check"}),
        ({"Makefile": "test ::\n\tx\n"}, {"test": "make test"}),
        ({"Makefile": "check := 1\ntesting:\n"}, {}),
        ({"Makefile": "check:\n", "test_a.py": "import pytest"}, {"pytest": "python -m pytest"}),
        ({"go.mod": ""}, {"go-vet": "go vet ./...", "go-test": "go test ./..."}),
        ({"Cargo.toml": "", "Makefile": "test:\n"}, {"cargo-test": "cargo test"}),
        ({"justfile": "@test:\n x\n"}, {"test": "just test"}),
        ({"Taskfile.yml": "tasks:\n  ci:\n"}, {"ci": "task ci"}),
        ({"CMakeLists.txt": "project(a)"}, {}),
        ({"tox.ini": "[tox]"}, {}),
        ({"mypy.ini": "[mypy]\nfiles = a\n"}, {"mypy": "mypy"}),
        ({"setup.cfg": "[mypy]\n"}, {"mypy": "mypy ."}),
        ({".ruff.toml": ""}, {"ruff": "ruff check --no-fix ."}),
        ({"pyproject.toml": "[tool.pytest"}, {}),
    ],
)
def test_other_gates_are_inferred_where_their_files_are(
    files: dict[str, str], expected: dict[str, str]
) -> None:
    assert commands(of(files)) == expected


def test_files_that_would_overrule_a_gate_if_they_appeared_are_sources_too() -> None:
    found = of({"pyproject.toml": "[tool.pytest.ini_options]\n"})

    assert {
        "pyproject.toml",
        "pytest.ini",
        ".pytest.ini",
        "pytest.toml",
        "pytest.py",
        "setup.cfg",
    } <= found.sources
    assert "ruff.toml" not in found.sources


def test_files_that_a_gate_runs_are_sources_but_the_tests_it_names_are_not() -> None:
    found = of(
        {
            f"{GATES}10-all.sh": "set -e\n# see docs.md\n./scripts/check.sh && make lint\npytest tests/test_a.py\n",
            "scripts/check.sh": "",
            "docs.md": "",
            "tests/test_a.py": "",
            "Makefile": "",
        }
    )

    assert {
        f"{GATES}10-all.sh",
        "scripts/check.sh",
        "Makefile",
        "GNUmakefile",
        "pytest.ini",
    } <= found.sources
    assert not {"docs.md", "tests/test_a.py"} & found.sources


def test_a_runner_that_a_gate_file_names_is_installed() -> None:
    found = of({f"{GATES}10-test.sh": "pytest -q\n"})

    assert installs(found) == ["pytest"]


def test_only_files_that_matter_are_wanted() -> None:
    listing = [
        "src/a.py",
        "tests/test_a.py",
        "pyproject.toml",
        "sub/pyproject.toml",
        f"{GATES}1-a.sh",
        "go.mod",
        "x.txt",
    ]

    assert wanted(listing) == [f"{GATES}1-a.sh", "go.mod", "pyproject.toml", "tests/test_a.py"]


@given(
    st.dictionaries(
        st.sampled_from(["pyproject.toml", "package.json", "setup.cfg", "Makefile", "uv.lock"]),
        st.text(),
    )
)
def test_whatever_a_repository_holds_inference_gives_rules(files: dict[str, str]) -> None:
    assert isinstance(of(files), Rules)


def test_gates_and_setup_are_read_from_the_hidden_folder_where_that_one_rules() -> None:
    files = {
        ".conventions/gates/10-test.sh": "pytest -q\n",
        ".conventions/workspace/setup.sh": "make deps\n",
        "conventions/gates/10-other.sh": "true\n",
    }

    found = rules_of([*files], files, ".conventions")

    assert [(gate.name, gate.inferred, gate.shown) for gate in found.gates] == [
        ("10-test", False, "sh .conventions/gates/10-test.sh")
    ]
    assert found.setup.reason == ".conventions/workspace/setup.sh"
    assert {".conventions/gates/10-test.sh", ".conventions/workspace/setup.sh"} <= found.sources
    assert "conventions/gates/10-other.sh" not in wanted([*files], ".conventions")
    assert ".conventions/gates/10-test.sh" in wanted([*files], ".conventions")


def test_what_judges_in_ci_and_cannot_run_here_is_named_with_its_reason() -> None:
    ci = ".github/workflows/ci.yml"
    workflow = """\
on: push
jobs:
  db:
    runs-on: ubuntu-latest
    services: {a: {image: postgres}}
    steps: [{run: pytest -m db}]
  test:
    runs-on: ubuntu-latest
    steps:
    - run: pytest
    - run: |
        echo it
        pytest -m paid --key ${{ secrets.KEY }}
    - run: twine upload -p ${{ secrets.KEY }}
"""

    rules = rules_of([ci], {ci: workflow})

    assert [gate.name for gate in rules.gates] == ["pytest"]
    assert rules.skipped == (
        Skipped("db", "ci.yml", "it needs services, such as a database"),
        Skipped(
            "pytest -m paid --key ${{ secrets.KEY }}",
            "ci.yml:12",
            "it uses a secret, or a value that only GitHub knows",
        ),
    )
