"""Which changed packages of a lock file judge: those that judge by name, and those from a new source."""

import json
from typing import Any

import pytest

from factory.judging.keys import judges

PYPI = "https://pypi.org/simple"
HOST = "https://files.pythonhosted.org/packages/aa"


def uv(name: str, version: str, **keys: str) -> str:
    """An entry of uv.lock."""
    source = keys.get("source", f'{{ registry = "{PYPI}" }}')
    url = keys.get("url", f"{HOST}/{name}-{version}.tar.gz")
    return (
        f'[[package]]\nname = "{name}"\nversion = "{version}"\nsource = {source}\n'
        f'sdist = {{ url = "{url}", hash = "sha256:aa", size = 1 }}\n'
    )


HEAD = 'version = 1\nrequires-python = ">=3.11"\n'
SHOP = '[[package]]\nname = "pytest-shop"\nversion = "1"\nsource = { editable = "." }\n'
UV = HEAD + uv("requests", "1") + uv("pytest", "8") + SHOP


@pytest.mark.parametrize(
    "new",
    [
        HEAD + uv("requests", "2") + uv("pytest", "8") + SHOP,
        HEAD + uv("requests", "2") + uv("pytest", "8") + SHOP.replace('"1"', '"2"'),
        HEAD + uv("Zope.Interface", "2", url=f"{HOST}/zope_interface-2.tar.gz") + UV.removeprefix(HEAD),
        HEAD.replace("version = 1", "version = 1\nrevision = 3") + uv("pytest", "8") + SHOP,
    ],
)  # fmt: skip
def test_releases_of_other_packages_do_not_judge_in_uv_lock(new: str) -> None:
    assert judges("uv.lock", UV, new) == ()


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        (uv("pytest", "8"), uv("pytest", "7"), "package pytest"),
        (uv("pytest", "8"), "", "package pytest"),
        (uv("requests", "1"), uv("requests", "1") + uv("pytest-xdist", "1"), "package pytest-xdist"),
        (uv("requests", "1"), uv("requests", "1", source='{ git = "https://x/y" }'), "package requests: its source"),
        (uv("requests", "1"), uv("requests", "1", source='{ directory = "../x" }'), "package requests: its source"),
        (uv("requests", "1"), uv("requests", "1", source='{ registry = "https://x" }'), "package requests: its source"),
        (uv("requests", "1"), uv("requests", "2", url="https://evil.org/requests-2.tar.gz"), "package requests: its source"),
        (uv("requests", "1"), uv("requests", "2", url=f"{HOST}/evil-2.tar.gz"), "package requests: its source"),
        (uv("requests", "1"), uv("requests", "2").replace("url =", "path ="), "package requests: its source"),
        (HEAD, HEAD.replace("3.11", "3.9"), "requires-python"),
        (HEAD, HEAD + '[manifest]\noverrides = ["a"]\n', "manifest"),
        (HEAD, HEAD + '[options]\nprerelease-mode = "allow"\n', "options"),
    ],
)  # fmt: skip
def test_what_judges_in_uv_lock_is_named(old: str, new: str, key: str) -> None:
    assert judges("uv.lock", UV, UV.replace(old, new, 1)) == (key,)


def test_a_source_that_the_lock_file_had_stays_known() -> None:
    mine = {"source": '{ registry = "https://mine" }', "url": "https://mine/requests-1.whl"}
    git = {"source": '{ git = "https://x/y#1" }'}
    old = uv("requests", "1", **mine) + uv("forked", "1", **git)

    newer = uv("rich", "2", source=mine["source"], url="https://mine/rich-2.whl")
    public = uv("rich", "2")
    assert judges("uv.lock", old, old + newer) == ()
    assert judges("uv.lock", old, old + public) == ("package rich: its source",)
    assert judges("uv.lock", HEAD, HEAD + public) == ()
    assert judges("uv.lock", old, old.replace("y#1", "y#2")) == ("package forked: its source",)


def test_poetry_and_pdm() -> None:
    entry = '[[package]]\nname = "rich"\nversion = "1"\nfiles = [{file = "rich-1.whl", hash = "sha256:a"}]\n'
    old = entry + '[metadata]\ncontent-hash = "a"\n'
    newer = old.replace('"1"', '"2"').replace('"a"', '"b"')

    for name in ("poetry.lock", "pdm.lock"):
        assert judges(name, old, newer) == ()
        for more in ('git = "https://x"', 'path = "./x"', '[package.source]\ntype = "git"'):
            changed = old.replace("[metadata]", f"{more}\n[metadata]")
            assert judges(name, old, changed) == ("package rich: its source",)


def test_pipenv() -> None:
    def lock(**default: Any) -> str:
        meta = {"hash": {"sha256": str(default)}, "sources": [{"url": PYPI}]}
        return json.dumps({"_meta": meta, "default": default, "develop": {}})

    old = lock(rich={"version": "==1", "index": "pypi"})

    assert judges("Pipfile.lock", old, lock(rich={"version": "==2", "index": "pypi"}, a={})) == ()
    assert judges("Pipfile.lock", old, lock(rich={"version": "==2", "index": "x"})) == (
        "default.rich",
    )
    assert judges("Pipfile.lock", old, lock(rich={"git": "https://x"})) == ("default.rich",)
    assert judges("Pipfile.lock", old, lock(pytest={})) == ("default.pytest",)
    assert judges("Pipfile.lock", old, old.replace(PYPI, "https://x")) == ("_meta",)


NPM: dict[str, Any] = {
    "": {"name": "shop", "version": "1", "dependencies": {"a": "^1"}},
    "node_modules/a": {
        "version": "1.0.0",
        "resolved": "https://registry.npmjs.org/a/-/a-1.0.0.tgz",
        "integrity": "sha512-a",
    },
}
A = "node_modules/a"
SCOPED = "node_modules/a/node_modules/@b/c"


def npm(**packages: dict[str, Any]) -> str:
    return json.dumps({"name": "shop", "version": "1", "lockfileVersion": 3, "packages": packages})


def released(of: str, version: str, **keys: Any) -> dict[str, Any]:
    last = of.rpartition("/")[2]
    url = f"https://registry.npmjs.org/{of}/-/{last}-{version}.tgz"
    return {"version": version, "resolved": url, "integrity": "sha512-b", **keys}


@pytest.mark.parametrize(
    "packages",
    [
        {A: released("a", "2.0.0", license="MIT", engines={"node": "*"}, bin={"a": "a.js"})},
        {SCOPED: released("@b/c", "1.0.0", dev=True)},
        {A: {}},
        {"": {"name": "shop", "version": "2", "dependencies": {"a": "^2", "b": "1"}}},
    ],
)
def test_releases_of_other_packages_do_not_judge_in_package_lock(packages: dict[str, Any]) -> None:
    assert judges("package-lock.json", npm(**NPM), npm(**{**NPM, **packages})) == ()


@pytest.mark.parametrize(
    ("packages", "key"),
    [
        ({"node_modules/jest": released("jest", "1.0.0")}, "packages.node_modules/jest: a package that judges"),
        ({A: released("evil", "2.0.0")}, f"packages.{A}: its source"),
        ({A: released("a", "2.0.0", name="evil")}, f"packages.{A}: name"),
        ({A: {"resolved": "../a", "link": True}}, f"packages.{A}: link"),
        ({A: released("a", "2.0.0", resolved="https://evil.org/a/-/a-2.0.0.tgz")}, f"packages.{A}: its source"),
        ({A: released("a", "2.0.0", resolved="git+ssh://x/a.git#1")}, f"packages.{A}: its source"),
        ({A: released("a", "2.0.0", resolved="file:a-2.0.0.tgz")}, f"packages.{A}: its source"),
        ({A: {"version": "2.0.0"}}, f"packages.{A}: its source"),
        ({A: released("a", "2.0.0", hasInstallScript=True)}, f"packages.{A}: hasInstallScript"),
        ({A: released("a", "2.0.0", bin={"jest": "a.js"})}, f"packages.{A}: bin"),
        ({A: released("a", "2.0.0", bin={"node": "a.js"})}, f"packages.{A}: bin"),
        ({"": {"name": "shop", "version": "1", "dependencies": {"a": "npm:evil@1"}}}, "packages.the project: a"),
        ({"": {**NPM[""], "bin": {"x": "x.js"}}}, "packages.the project: bin"),
        ({"tools/jest": {"name": "jest"}}, "packages.tools/jest: name"),
    ],
)  # fmt: skip
def test_what_judges_in_package_lock_is_named(packages: dict[str, Any], key: str) -> None:
    assert key in judges("package-lock.json", npm(**NPM), npm(**{**NPM, **packages}))


def test_an_old_lock_file_of_npm_judges_in_its_dependencies() -> None:
    old = json.dumps({"lockfileVersion": 1, "dependencies": {"a": {"version": "1"}}})

    assert judges("package-lock.json", old, old.replace('"1"', '"2"')) == ("dependencies",)
