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
