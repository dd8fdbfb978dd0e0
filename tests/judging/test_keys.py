"""Which changed keys of a file judge: a false green is worse than a card."""

import json
import time
from typing import Any

import pytest

from factory.judging.keys import is_mixed, judges

PYPROJECT = """\
[build-system]
requires = ["setuptools"]

[project]
name = "shop"
version = "1.0"
requires-python = ">=3.11"
dependencies = ["requests>=2"]

[project.optional-dependencies]
test = ["pytest>=8", "responses"]

[tool.pytest.ini_options]
addopts = "-q"

[tool.mypy]
strict = true
"""


def of(path: str, old: str, was: str, now: str) -> tuple[str, ...]:
    """The keys of the file after one part of its text is replaced."""
    assert was in old
    return judges(path, old, old.replace(was, now, 1))


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ('version = "1.0"', 'version = "2.0"\ndescription = "A shop"\nkeywords = ["a"]'),
        ('"requests>=2"', '"requests>=2,<4 ; python_version < \'3.14\'", "urllib3[socks] ~= 2.1"'),
        ('dependencies = ["requests>=2"]', ""),
        ('"responses"]', '"responses==0.25.*"]\ndocs = ["sphinx"]'),
        ("[tool.mypy]", '[dependency-groups]\ndev = ["rich"]\n\n[tool.mypy]'),
        ("[tool.mypy]", '[tool.poetry.dependencies]\nrich = "^13"\n[tool.mypy]'),
        ("[tool.mypy]", '[tool.poetry.group.x.dependencies]\na = {version = "1", extras = ["b"]}\n[tool.mypy]'),
        ('[tool.mypy]\nstrict = true\n', '[tool]\nmypy.strict = true\n'),
        ("strict = true", "'strict' = true  # a comment"),
    ],
)  # fmt: skip
def test_versions_descriptions_and_dependencies_of_pyproject_do_not_judge(
    was: str, now: str
) -> None:
    assert of("pyproject.toml", PYPROJECT, was, now) == ()


@pytest.mark.parametrize(
    ("was", "now", "key"),
    [
        ('"-q"', '"-q -k none"', "tool.pytest.ini_options.addopts"),
        ('addopts = "-q"', "", "tool.pytest.ini_options.addopts"),
        ("strict = true", "strict = 1", "tool.mypy.strict"),
        ("strict = true", "never_heard = 1\nstrict = true", "tool.mypy.never_heard"),
        ("strict = true", 'strict = true\n"a.b" = {c = 1}', 'tool.mypy."a.b".c'),
        ("[tool.mypy]", "[tool.ruff]\n[tool.mypy]", "tool.ruff"),
        ("[tool.mypy]", '[tool]\nruff.lint.ignore = ["E"]\n[tool.mypy]', "tool.ruff.lint.ignore"),
        ('\n[tool.pytest.ini_options]\naddopts = "-q"', "\n[tool.pytest.ini_options]", "tool.pytest.ini_options.addopts"),
        ("[tool.mypy]", '[tool.unknown]\nx = 1\n[tool.mypy]', "tool.unknown.x"),
        ("[tool.mypy]", '[dependency-groups]\ndev = [{include-group = "x"}]\n[tool.mypy]', "dependency-groups.dev: {'include-group': 'x'}"),
        ("[tool.mypy]", '[tool.uv.sources]\nrequests = {path = "x"}\n[tool.mypy]', "tool.uv.sources.requests.path"),
        ("[tool.mypy]", '[tool.uv]\nindex-url = "https://x"\n[tool.mypy]', "tool.uv.index-url"),
        ("[tool.mypy]", '[tool.uv]\noverride-dependencies = ["a"]\n[tool.mypy]', "tool.uv.override-dependencies"),
        ("[tool.mypy]", '[tool.poetry.dependencies]\na = {git = "x"}\n[tool.mypy]', "tool.poetry.dependencies.a"),
        ("[tool.mypy]", '[tool.poetry.dependencies]\na = "../x"\n[tool.mypy]', "tool.poetry.dependencies.a"),
        ("[tool.mypy]", '[tool.poetry.dependencies]\npython = "3.9"\n[tool.mypy]', "tool.poetry.dependencies.python"),
        ('["setuptools"]', '["setuptools", "evil"]', "build-system.requires"),
        ('requires = ["setuptools"]', 'requires = ["setuptools"]\nbackend-path = ["."]', "build-system.backend-path"),
        ('name = "shop"', 'name = "pytest"', "project.name"),
        (">=3.11", ">=3.9", "project.requires-python"),
        ("[project.optional", '[project.scripts]\nruff = "shop:main"\n[project.optional', "project.scripts.ruff"),
        ("[project.optional", '[project.entry-points.pytest11]\nx = "shop"\n[project.optional', "project.entry-points.pytest11.x"),
        ('"requests>=2"', '"requests @ git+https://x/y"', "project.dependencies: requests @ git+https://x/y"),
        ('"requests>=2"', '"./requests-2.whl"', "project.dependencies: ./requests-2.whl"),
        ('"requests>=2"', '"requests-2.whl"', "project.dependencies: requests-2.whl"),
        ('"requests>=2"', '"requests>=2 ; pytest==1"', "project.dependencies: requests>=2 ; pytest==1"),
        ('"requests>=2"', '"--index-url=https://x"', "project.dependencies: --index-url=https://x"),
        ('"requests>=2"', '"a\\n--index-url x"', "'project.dependencies: a\\n--index-url x'"),
        ('"pytest>=8"', '"pytest>=6"', "project.optional-dependencies.test: pytest"),
        ('"pytest>=8"', '"pytest"', "project.optional-dependencies.test: pytest"),
        ('"pytest>=8", ', '', "project.optional-dependencies.test: pytest"),
        ('"responses"', '"responses", "pytest_randomly"', "project.optional-dependencies.test: pytest_randomly"),
        ('["requests>=2"]', '"requests"', "project.dependencies"),
        ('dependencies = ["requests>=2"]', 'dynamic = ["dependencies"]', "project.dynamic"),
    ],
)  # fmt: skip
def test_what_judges_in_pyproject_is_named(was: str, now: str, key: str) -> None:
    assert key in of("pyproject.toml", PYPROJECT, was, now)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("pyproject.toml", "[project]\nversion = '1'\nversion = '2'\n"),
        ("pyproject.toml", "not toml"),
        ("pyproject.toml", "a = " + "[" * 5000),
        ("pyproject.toml", "a." * 500_000 + "a = 1"),
        ("package.json", '{"scripts": {}, "scripts": {"test": "true"}}'),
        ("package.json", '{"version": NaN}'),
        ("package.json", "[]"),
        ("package.json", '{"a":' * 100_000),
        ("setup.cfg", "[metadata]\nversion = 1\nversion = 2\n"),
        ("setup.cfg", "[metadata]\n  [tool:pytest]\naddopts = -k none\n"),
        ("setup.cfg", "[metadata] # [tool:pytest]\nversion = 1\n"),
        ("requirements.txt", "a==1 # note \\\n--index-url https://x\n"),
        ("requirements.txt", "a==1 \\\n"),
        ("uv.lock", "[[package]]\nversion = '1'\n"),
    ],
)
def test_a_file_that_cannot_be_parsed_on_one_side_judges_as_a_whole(path: str, text: str) -> None:
    fine = '{"version": "1"}' if path.endswith(".json") else ""

    for pair in ((fine, text), (text, fine)):
        assert judges(path, *pair) == ("the whole file (factoryd cannot parse it)",)


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff[project]\nversion = '1'\n",
        "# x\u2028[tool.ruff]\n",
        "# x\x0b--index-url x\n",
        "# x\r--index-url x\n",
        "# -*- coding: utf-7 -*-\n",
        "# x\n#vim: fileencoding=latin1\n",
        "# \ufffd\n",
        "#\0\n",
        "#\x1b\n",
        "#\x7f\n",
    ],
)
@pytest.mark.parametrize("path", ["pyproject.toml", "requirements.txt", "setup.cfg"])
def test_a_text_that_programs_may_read_in_different_ways_judges(path: str, text: str) -> None:
    assert judges(path, "", text) == ("the whole file (its encoding or its line ends are unusual)",)


def test_line_ends_of_windows_and_the_usual_encoding_change_nothing() -> None:
    windows = PYPROJECT.replace("\n", "\r\n")

    assert judges("pyproject.toml", PYPROJECT, windows) == ()
    assert (
        judges("requirements.txt", "# encoding: utf-8\na\n", "# encoding: utf-8\r\na==1\r\n") == ()
    )
    assert judges("pyproject.toml", windows, windows.replace('"-q"', '"-x"')) == (
        "tool.pytest.ini_options.addopts",
    )


def package(**keys: Any) -> str:
    return json.dumps({"name": "shop", "scripts": {"test": "jest"}, **keys})


@pytest.mark.parametrize(
    "keys",
    [
        {"version": "2.0.0", "description": "x", "keywords": ["a"], "license": "MIT"},
        {"dependencies": {"a": "^1.2.3", "@b/c": ">=1 <2 || 3.x", "d": "1.0.0-rc.1", "e": "*"}},
        {"devDependencies": {"rollup": "~4"}, "peerDependencies": {"react": "18 - 19"}},
    ],
)
def test_versions_and_dependencies_of_package_json_do_not_judge(keys: dict[str, Any]) -> None:
    assert judges("package.json", package(dependencies={"a": "1"}), package(**keys)) == ()


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ({"scripts": {"test": "true"}}, "scripts.test"),
        ({"scripts": {"test": "jest", "postinstall": "x"}}, "scripts.postinstall"),
        ({"name": "jest"}, "name"),
        ({"jest": {"testMatch": []}}, "jest.testMatch"),
        ({"workspaces": ["a"]}, "workspaces"),
        ({"packageManager": "pnpm@9.0.0"}, "packageManager"),
        ({"overrides": {"a": "1"}}, "overrides.a"),
        ({"resolutions": {"a": "1"}}, "resolutions.a"),
        ({"pnpm": {"overrides": {"a": "1"}}}, "pnpm.overrides.a"),
        ({"type": "module"}, "type"),
        ({"bin": {"jest": "x.js"}}, "bin.jest"),
        ({"eslintConfig": {}}, "eslintConfig"),
        ({"dependencies": {"a": "npm:evil@1"}}, "dependencies.a"),
        ({"dependencies": {"a": "file:../a"}}, "dependencies.a"),
        ({"dependencies": {"a": ".."}}, "dependencies.a"),
        ({"dependencies": {"a": "evil/a"}}, "dependencies.a"),
        ({"dependencies": {"a": "git+https://x/y.git"}}, "dependencies.a"),
        ({"dependencies": {"a": "1.0.0-a.tgz"}}, "dependencies.a"),
        ({"dependencies": {"a": "latest"}}, "dependencies.a"),
        ({"dependencies": {"a": {"x": 1}}}, "dependencies.a"),
        ({"dependencies": "a"}, "dependencies"),
        ({"devDependencies": {"jest": "29"}}, "devDependencies.jest"),
        ({"devDependencies": {"@vitest/coverage-v8": "1"}}, "devDependencies.@vitest/coverage-v8"),
        ({"devDependencies": {"eslint-plugin-x": "1"}}, "devDependencies.eslint-plugin-x"),
    ],
)  # fmt: skip
def test_what_judges_in_package_json_is_named(keys: dict[str, Any], key: str) -> None:
    assert judges("package.json", package(), package(**keys)) == (key,)


def test_the_order_of_keys_counts_where_node_reads_the_first_that_fits() -> None:
    old = package(
        jest={"moduleNameMapper": {"a": "1", "b": "2"}}, dependencies={"a": "1", "b": "1"}
    )
    new = package(
        dependencies={"b": "1", "a": "1"}, jest={"moduleNameMapper": {"b": "2", "a": "1"}}
    )

    assert judges("package.json", old, new) == ("jest.moduleNameMapper: the order of its keys",)


SETUP_CFG = """\
[metadata]
name = shop
version = 1.0
description = A shop

[options]
install_requires =
    requests>=2
    # why
    rich

[options.extras_require]
test =
    pytest

[tool:pytest]
addopts = -q
"""


@pytest.mark.parametrize(
    ("was", "now", "keys"),
    [
        ("version = 1.0", "version = 2.0", ()),
        ("A shop", "A shop\n    with many things", ()),
        ("requests>=2", "requests>=3\n    urllib3 ; python_version<'3.12'", ()),
        ("requests>=2", "requests @ https://x/y.zip", ("options.install_requires: requests @ https://x/y.zip", )),
        ("requests>=2", "requests ; pytest", ("options.install_requires: requests ; pytest",)),
        ("version = 1.0", "version = attr: shop.version", ("metadata.version",)),
        ("    pytest\n", "    pytest<5\n", ('"options.extras_require".test: pytest',)),
        ("addopts = -q", "addopts = -k none", ('tool:pytest.addopts',)),
        ("[tool:pytest]\n", "[DEFAULT]\nignore_errors = true\n[tool:pytest]\n", ("DEFAULT.ignore_errors",)),
        ("[tool:pytest]\n", "[mypy]\n[tool:pytest]\n", ("mypy",)),
        ("[options]\n", "[options]\nsetup_requires = x\n", ("options.setup_requires",)),
        ("[options]\n", "[options.entry_points]\npytest11 = x = y\n[options]\n", ('"options.entry_points".pytest11',)),
        ("version = 1.0", "Version = 2.0", ("metadata.version", "metadata.Version")),
    ],
)  # fmt: skip
def test_setup_cfg(was: str, now: str, keys: tuple[str, ...]) -> None:
    found = of("setup.cfg", SETUP_CFG, was, now)

    assert found == keys or (was == "version = 1.0" and "Version" in now and keys[1] in found)


@pytest.mark.parametrize(
    ("was", "now", "keys"),
    [
        ("rich", "rich>=13", ()),
        ("    rich", "    -e ../rich", ("testenv.deps: -e ../rich",)),
        ("    rich", "    pytest<5", ("testenv.deps: pytest",)),
        ("commands = pytest", "commands = true", ("testenv.commands",)),
        ("[testenv]", "[tox]\nenv_list = py\n[testenv]", ("tox.env_list",)),
    ],
)
def test_tox_ini(was: str, now: str, keys: tuple[str, ...]) -> None:
    old = "[testenv]\ndeps =\n    rich\ncommands = pytest\n"

    assert of("tox.ini", old, was, now) == keys


REQUIREMENTS = "--index-url https://pypi.org/simple\n-r base.txt\nrequests==2.31\npytest==8.0\n"
HASH = f"--hash=sha256:{'a' * 64}"


@pytest.mark.parametrize(
    ("was", "now", "keys"),
    [
        ("requests==2.31", "requests==2.32  # newer", ()),
        ("requests==2.31", f"requests==2.32 \\\n    {HASH} \\\n    {HASH}\nurllib3", ()),
        ("-r base.txt\nrequests==2.31\n", "requests==2.31\n-r base.txt\n", ()),
        ("pypi.org", "evil.org", ("--index-url https://evil.org/simple",)),
        ("-r base.txt", "-r other.txt", ("-r other.txt",)),
        ("-r base.txt\n", "", ("-r base.txt",)),
        ("requests==2.31", "-e ../requests", ("-e ../requests",)),
        ("requests==2.31", "./requests", ("./requests",)),
        ("requests==2.31", "requests.zip", ("requests.zip",)),
        ("requests==2.31", "requests==2.31.whl", ("requests==2.31.whl",)),
        ("requests==2.31", "${X}", ("${X}",)),
        ("requests==2.31", "requests==2.31 --config-settings=a=b", ("requests==2.31 --config-settings=a=b",)),
        ("requests==2.31", "requests ; python_version>'3' --pre", ("requests ; python_version>'3' --pre",)),
        ("requests==2.31", "requests \\\n--extra-index-url https://x", ("requests --extra-index-url https://x",)),
        ("pytest==8.0", "pytest==6.0", ("pytest",)),
        ("pytest==8.0", "PyTest_Xdist\npytest==8.0", ("PyTest_Xdist",)),
        ("--index-url https://pypi.org/simple\n-r base.txt", "-r base.txt\n--index-url https://pypi.org/simple",
         ("the order of its options",)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["requirements.txt", "requirements/dev.txt", "a/constraints.txt"])
def test_lists_of_requirements(path: str, was: str, now: str, keys: tuple[str, ...]) -> None:
    assert of(path, REQUIREMENTS, was, now) == keys


@pytest.mark.parametrize(
    ("was", "now", "keys"),
    [
        ('serde = "1"', 'serde = "1.2"\nrand = { version = "0.8", features = ["std"] }', ()),
        ('version = "0.1.0"', 'version = "0.2.0"', ()),
        ('serde = "1"', 'serde = { path = "../serde" }', ("dependencies.serde",)),
        ('serde = "1"', 'serde = { version = "1", package = "evil" }', ("dependencies.serde",)),
        ('serde = "1"', '[patch.crates-io]\nserde = { path = "x" }', ("dependencies", "patch.crates-io.serde.path")),
        ('serde = "1"', 'serde = "1"\n[lints.rust]\nunused = "allow"', ("lints.rust.unused",)),
        ('serde = "1"', 'serde = "1"\n[build-dependencies]\ncc = "1"', ("build-dependencies.cc",)),
        ('serde = "1"', 'serde = "1"\n[dev-dependencies]\nproptest = "1"', ("dev-dependencies.proptest",)),
    ],
)  # fmt: skip
def test_cargo_toml(was: str, now: str, keys: tuple[str, ...]) -> None:
    old = '[package]\nname = "shop"\nversion = "0.1.0"\n[dependencies]\nserde = "1"\n'

    found = of("Cargo.toml", old, was, now)

    assert found == keys or (len(keys) == 2 and keys[1] in found)


@pytest.mark.parametrize(
    ("was", "now", "keys"),
    [
        ("v1.0.0", "v1.1.0", ()),
        ("\tx.org/a v1.0.0\n", "\tx.org/a v1.0.0\n\tx.org/b v0.1.0 // indirect\n", ()),
        ("go 1.22", "go 1.23", ("go 1.22", "go 1.23")),
        ("go 1.22", "go 1.22\nreplace x.org/a => ../a", ("replace x.org/a => ../a",)),
        ("x.org/a v1.0.0", "x.org/a v1.0.0\n\tgithub.com/stretchr/testify v1.0.0", ("require: github.com/stretchr/testify",)),
    ],
)  # fmt: skip
def test_go_mod(was: str, now: str, keys: tuple[str, ...]) -> None:
    old = "module x.org/shop\n\ngo 1.22\n\nrequire (\n\tx.org/a v1.0.0\n)\n"

    assert of("go.mod", old, was, now) == keys


@pytest.mark.parametrize(
    "path",
    ["pytest.ini", "ruff.toml", "Makefile", "setup.py", "noxfile.py", "Gemfile", "PYPROJECT.TOML"],
)
def test_other_files_are_not_compared(path: str) -> None:
    assert not is_mixed(path)
    assert judges(path, "", "x") == ("the whole file",)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("requirements.txt", "a" + " " * 500_000 + "!"),
        ("requirements.txt", "a" * 500_000 + "!"),
        ("requirements.txt", "#" * 500_000),
        ("requirements.txt", "a\n" * 50_000),
        ("package.json", json.dumps({"dependencies": {"a": "1 || " * 80 + "!"}})),
        ("package.json", json.dumps({"dependencies": {"a": "1" + " " * 499 + "!"}})),
        ("setup.cfg", "[metadata]\nversion" + " " * 500_000),
        ("go.mod", "require " + " " * 500_000 + "!"),
    ],
)
def test_a_hostile_text_takes_no_time(path: str, line: str) -> None:
    began = time.process_time()

    judges(path, "{}" if path.endswith("json") else "", line)

    assert time.process_time() - began < 2
