"""What is read from a commit's files: gates, setup, and who must not edit what."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.ground.errors import ConfigError
from factory.inference.infer import rules_of, wanted
from factory.inference.rules import Gate, Rules, Setup

GATES = "conventions/gates/"
SETUP = "conventions/workspace/setup.sh"
UNITTEST = "import unittest\nclass TestA(unittest.TestCase): ...\n"
VENV = ("{python}", "-I", "-m", "venv", "{venv}")


def of(files: dict[str, str]) -> Rules:
    names = wanted(list(files))
    return rules_of(list(files), {name: files[name] for name in names})


def commands(found: Rules) -> dict[str, str]:
    return {gate.name: gate.shown for gate in found.gates}


def installs(found: Rules) -> list[str]:
    return [" ".join(command[7:]) for command in found.setup.commands if "pip" in command]


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


def test_gate_files_rule_alone_in_the_order_of_their_numbers() -> None:
    found = of(
        {
            f"{GATES}20-test.toml": 'command = "make check"\ntimeout_s = 9\nflaky_reruns = 0\n',
            f"{GATES}5-lint.sh": "./lint\n",
            f"{GATES}20-types.toml": 'command = ["ty", "src"]\n',
            f"{GATES}README.md": "how these work",
            "test_a.py": UNITTEST,
        }
    )

    assert found.gates == (
        Gate(name="5-lint", group=5, script="./lint\n", reason=f"{GATES}5-lint.sh"),
        Gate(
            name="20-test",
            group=20,
            command=("sh", "-c", "make check"),
            timeout_s=9.0,
            flaky_reruns=0,
            reason=f"{GATES}20-test.toml",
        ),
        Gate(name="20-types", group=20, command=("ty", "src"), reason=f"{GATES}20-types.toml"),
    )
    assert found.gates[0].shown == f"sh {GATES}5-lint.sh"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("test.sh", "true", "NN-name.sh"),
        ("10-test.py", "pass", "NN-name.sh"),
        ("10-test.sh", "# later\n\n", "would pass everything"),
        ("10-a.sh", "# rewrites: **\ntrue", "names every file of the repository"),
        ("10-a.sh", "# rewrites: ../x\ntrue", "names files outside the repository"),
        ("10-a.toml", "# rewrites: /x\ncommand = 'x'", "names files outside the repository"),
        ("10-a.toml", "command = ", "is not TOML"),
        ("10-a.toml", 'comand = "x"', "did you mean command?"),
        ("10-a.toml", "timeout_s = 1", "the form is"),
        ("10-a.toml", "command = []", "the form is"),
        ("10-a.toml", 'command = " "', "the form is"),
        ("10-a.toml", 'command = [""]', "the form is"),
        ("10-a.toml", 'command = ["a", 1]', "the form is"),
        ("10-a.toml", 'command = "x"\ntimeout_s = true', "the form is"),
        ("10-a.toml", 'command = "x"\ntimeout_s = -1', "the form is"),
        ("10-a.toml", 'command = "x"\ntimeout_s = nan', "the form is"),
        ("10-a.toml", 'command = "x"\ntimeout_s = inf', "the form is"),
        ("10-a.toml", f'command = "x"\ntimeout_s = 1{"0" * 400}', "the form is"),
        ("10-a.toml", 'command = "x"\nflaky_reruns = 11', "the form is"),
        ("10-a.toml", f"command = {'[' * 5000}", "is not TOML"),
        ("10-a.toml", 'command = "x"\nflaky_reruns = 1.5', "the form is"),
    ],
)
def test_a_wrong_gate_file_is_refused_rather_than_passed_over(
    name: str, text: str, says: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        of({GATES + name: text})

    assert str(refused.value).startswith(GATES + name)
    assert says in str(refused.value)


def test_a_gate_names_in_comments_the_files_that_it_may_change() -> None:
    script = "#!/bin/sh\n# rewrites: Cargo.lock docs/*.svg\ncargo test\n# rewrites: more.txt\n"
    table = '# rewrites: Cargo.lock\ncommand = "cargo test"\n'

    first, second = of({f"{GATES}10-a.sh": script, f"{GATES}20-b.toml": table}).gates

    assert (first.rewrites, second.rewrites) == (
        ("Cargo.lock", "docs/*.svg", "more.txt"),
        ("Cargo.lock",),
    )
    assert second.digest != replace(second, rewrites=()).digest


def test_a_gate_s_digest_is_of_its_text_and_not_of_its_time_limit() -> None:
    gate = Gate(name="a", group=1, script="x", reason="r")

    assert (
        gate.digest
        == Gate(name="a", group=2, script="x", reason="r", timeout_s=5, flaky_reruns=3).digest
    )
    assert gate.digest != Gate(name="a", group=1, script="y", reason="r").digest
    assert gate.digest != Gate(name="a", group=1, command=("x",), reason="r").digest


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


def test_package_scripts_are_gates_but_not_npm_s_placeholder() -> None:
    placeholder = '{"scripts": {"test": "echo \\"Error: no test specified\\" && exit 1"}}'
    real = '{"scripts": {"test": "vitest", "lint": "eslint ."}, "devDependencies": {"vitest": "1"}}'

    assert of({"package.json": placeholder}).gates == ()
    assert commands(of({"package.json": real})) == {"lint": "npm run lint", "test": "npm test"}
    assert of({"package.json": "[1]"}) == of({"package.json": "{"})


@pytest.mark.parametrize(
    ("lock", "install"),
    [
        ("package-lock.json", "npm ci --no-audit --no-fund"),
        ("other.lock", "npm install --no-package-lock --no-audit --no-fund"),
    ],
)
def test_node_packages_are_installed_as_locked(lock: str, install: str) -> None:
    package = '{"scripts": {"test": "x"}, "dependencies": {"a": "1"}, "workspaces": ["p/*"]}'

    found = of({lock: "", "package.json": package, "p/b/package.json": "{}"})

    assert [" ".join(command) for command in found.setup.commands] == [install]
    assert found.setup.keeps[:2] == ("node_modules", "p/b/node_modules")
    assert commands(found) == {"test": "npm test"}


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


def test_a_package_that_is_only_prepared_has_a_setup() -> None:
    assert of({"package.json": '{"scripts": {"prepare": "tsc"}}'}).setup.kind == "npm"


@pytest.mark.parametrize("lock", ["pnpm-lock.yaml", "yarn.lock", "bun.lock"])
def test_npm_does_not_stand_in_for_another_client(lock: str) -> None:
    package = '{"scripts": {"test": "x"}, "dependencies": {"a": "1"}}'

    assert of({lock: "", "package.json": package}) == Rules()
    assert commands(of({lock: "", "package-lock.json": "", "package.json": package})) == {
        "test": "npm test"
    }


def test_tracked_node_modules_need_no_setup() -> None:
    assert (
        of({"package-lock.json": "", "package.json": "{}", "node_modules/a/index.js": ""}).setup
        == Setup()
    )


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
        ({"go.mod": "", "a_test.go": "", "Cargo.toml": "", "tox.ini": "[tox]"}, {}),
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


def test_a_setup_script_rules_alone_and_says_what_it_reads_and_makes() -> None:
    found = of(
        {
            SETUP: "#!/bin/sh\n# inputs: a.lock deps/*.txt\n# keeps: out\nmake deps\n",
            "requirements.txt": "x",
        }
    )

    assert found.setup.kind == "script"
    assert found.setup.commands == (VENV,)
    assert (found.setup.inputs, found.setup.keeps) == (("a.lock", "deps/*.txt"), ("out",))
    assert found.setup.reason == SETUP


def test_a_setup_script_tells_dependencies_from_what_each_tree_builds_for_itself() -> None:
    found = of(
        {
            SETUP: "# keeps: dist web/node_modules src/_version.py\n# made-from: pyproject.toml src/**\nmake\n"
        }
    )

    assert found.setup.dependencies == ("node_modules", ".venv", "web/node_modules")
    assert found.setup.builds == ("dist", "src/_version.py")
    assert found.setup.made_from == ("pyproject.toml", "src/**")
    assert of({SETUP: "make\n"}).setup.builds == ()
    assert found.setup.digest != replace(found.setup, made_from=()).digest


def test_a_setup_script_that_says_nothing_is_thought_to_read_every_manifest() -> None:
    found = of({SETUP: "make deps\n"})

    assert found.setup.commands == ()
    assert {"pyproject.toml", "package-lock.json", "uv.lock", "pnpm-lock.yaml"} <= set(
        found.setup.inputs
    )
    assert found.setup.keeps == ("node_modules", ".venv")


@pytest.mark.parametrize(
    "says",
    [
        "keeps: ../x",
        "keeps: /x",
        "keeps: a/../../x",
        "inputs: .",
        "inputs: src/**.lock",
        "made-from: ../x",
    ],
)
def test_a_setup_script_cannot_keep_what_lies_outside_or_read_what_is_no_glob(says: str) -> None:
    with pytest.raises(ConfigError, match="leads out of the tree, or is no glob"):
        of({SETUP: f"# {says}\ntrue\n"})


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


def test_files_that_an_inferred_setup_would_read_if_they_appeared_are_sources_too() -> None:
    changed = [
        "requirements-dev.txt",
        "setup.py",
        "package.json",
        "src/app.py",
        "docs/requirements.txt",
    ]
    inferred, written = of({"requirements.txt": "attrs\n"}), of({SETUP: "pip install -r a.txt\n"})

    assert inferred.sources_among(changed) == inferred.sources | {
        "requirements-dev.txt",
        "setup.py",
        "package.json",
    }
    assert written.sources_among(changed) == written.sources


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


@given(
    st.recursive(
        st.none() | st.text(),
        lambda some: st.lists(some) | st.dictionaries(st.text(), some),
        max_leaves=4,
    )
)
def test_odd_shapes_in_package_json_are_passed_over(value: object) -> None:
    keys = ("scripts", "dependencies", "workspaces")

    assert isinstance(of({"package.json": json.dumps(dict.fromkeys(keys, value))}), Rules)


def test_mypy_is_aimed_by_its_own_section_of_setup_cfg_alone() -> None:
    setup_cfg = "[mypy]\nstrict = true\n[options]\npackages = find:\n"

    rules = rules_of(["setup.cfg", "a.py"], {"setup.cfg": setup_cfg})

    assert [gate.command for gate in rules.gates if gate.name == "mypy"] == [("mypy", ".")]


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


def test_a_wrong_file_of_the_hidden_folder_is_named_as_it_is_called() -> None:
    with pytest.raises(
        ConfigError,
        match=r"^\.conventions/gates/test\.sh is not run: .* e\.g\. \.conventions/gates/20-",
    ):
        rules_of(
            [".conventions/gates/test.sh"], {".conventions/gates/test.sh": "true\n"}, ".conventions"
        )
