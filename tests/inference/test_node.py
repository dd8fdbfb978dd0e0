"""Gates and setup of a package.json."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.inference.rules import Rules, Setup
from tests.inference.reading import commands, of


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


def test_a_package_that_is_only_prepared_has_a_setup() -> None:
    assert of({"package.json": '{"scripts": {"prepare": "tsc"}}'}).setup.kind == "npm"


@pytest.mark.parametrize(
    ("files", "package", "client", "install"),
    [
        ({"pnpm-lock.yaml": "lockfileVersion: '9.0'\n"}, {}, "pnpm@9", "--frozen-lockfile"),
        ({"pnpm-lock.yaml": "lockfileVersion: 6.0\n"}, {}, "pnpm@8", "--frozen-lockfile"),
        ({"yarn.lock": ""}, {}, "yarn@1", "--frozen-lockfile"),
        ({"yarn.lock": "", ".yarnrc.yml": "yarnPath: x\n"}, {}, "yarn@1", "--immutable"),
        ({"bun.lock": ""}, {}, "bun@latest", "--frozen-lockfile"),
        ({}, {"packageManager": "pnpm@10.1.2+sha512.ab"}, "pnpm@10.1.2", "pnpm install"),
        (
            {"yarn.lock": ""},
            {"packageManager": "yarn@4.5.0"},
            "@yarnpkg/cli-dist@4.5.0",
            "--immutable",
        ),
        ({}, {"devEngines": {"packageManager": {"name": "bun"}}}, "bun@latest", "bun install"),
    ],
)
def test_the_client_of_the_lock_installs_in_the_version_that_the_project_names(
    files: dict[str, str], package: dict[str, object], client: str, install: str
) -> None:
    about = {"scripts": {"test": "x", "lint": "y"}, "dependencies": {"a": "1"}, **package}

    found = of({**files, "package.json": json.dumps(about)})

    name = client.removeprefix("@yarnpkg/cli-dist").partition("@")[0] or "yarn"
    get_client, install_packages = found.setup.commands
    assert get_client[-1] == client
    assert install in install_packages[-1]
    assert found.setup.rebuild == (install_packages,)
    assert [gate.command[0] for gate in found.gates] == [name, name]


def test_tracked_node_modules_need_no_setup() -> None:
    assert (
        of({"package-lock.json": "", "package.json": "{}", "node_modules/a/index.js": ""}).setup
        == Setup()
    )


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
