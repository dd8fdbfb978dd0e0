"""Which changed packages of pnpm's and Yarn's lock files judge."""

import time

import pytest

from factory.judging.keys import judges

SUM = "sha512-AAAA=="
PNPM = f"""\
lockfileVersion: '9.0'

settings:
  autoInstallPeers: true

importers:

  .:
    dependencies:
      a:
        specifier: ^1.0.0
        version: 1.0.0(@b/c@2.0.0)
    devDependencies:
      jest:
        specifier: ^29
        version: 29.0.0

packages:

  '@b/c@2.0.0':
    resolution: {{integrity: {SUM}}}
    engines: {{node: '>=12'}}

  a@1.0.0:
    resolution: {{integrity: {SUM}}}
    hasBin: true

  jest@29.0.0:
    resolution: {{integrity: {SUM}}}

snapshots:

  '@b/c@2.0.0': {{}}

  a@1.0.0(@b/c@2.0.0):
    dependencies:
      '@b/c': 2.0.0
    transitivePeerDependencies:
      - supports-color
"""
YARN = """\
# yarn lockfile v1


"@b/c@^2", "@b/c@^2.0.0":
  version "2.0.0"
  resolved "https://registry.yarnpkg.com/@b/c/-/c-2.0.0.tgz#aa"
  integrity sha512-AAAA==

a@^1.0.0:
  version "1.0.0"
  resolved "https://registry.yarnpkg.com/a/-/a-1.0.0.tgz#aa"
  dependencies:
    "@b/c" "^2"

jest@^29:
  version "29.0.0"
  resolved "https://registry.yarnpkg.com/jest/-/jest-29.0.0.tgz#aa"
"""
BERRY = """\
__metadata:
  version: 8

"a@npm:^1.0.0":
  version: 1.0.0
  resolution: "a@npm:1.0.0"
  dependencies:
    c: "npm:^2"
  checksum: 10c0/aa
  languageName: node
  linkType: hard

"shop@workspace:.":
  version: 0.0.0-use.local
  resolution: "shop@workspace:."
  dependencies:
    a: "npm:^1.0.0"
  languageName: unknown
  linkType: soft
"""
EVIL = f"\n  evil@1.0.0:\n    resolution: {{integrity: {SUM}}}\n\nsnapshots:\n"


@pytest.mark.parametrize(
    ("was", "now", "key"),
    [
        ("a@1.0.0", "a@1.1.0", ""),
        ("^1.0.0\n        version: 1.0.0", "^2.0.0\n        version: 2.0.0", ""),
        ("\nsnapshots:\n", EVIL, ""),
        ("\n  a@1.0.0:\n", "\n  b@1.0.0:\n    resolution: {tarball: https://x}\n\n  a@1.0.0:\n", "packages.b@1.0.0: its source"),
        ("hasBin: true", "hasBin: true\n    requiresBuild: true", "packages.a@1.0.0: requiresBuild"),
        ("version: 1.0.0(@b/c@2.0.0)", "version: evil@1.0.0", "importers..: a"),
        ("version: 1.0.0(@b/c@2.0.0)", "version: link:../a", "importers..: a"),
        ("specifier: ^1.0.0", "specifier: npm:evil@1", "importers..: a"),
        ("'@b/c': 2.0.0\n", "'@b/c': evil@2.0.0\n", "snapshots.a@1.0.0(@b/c@2.0.0): @b/c"),
        ("jest@29.0.0", "jest@28.0.0", "packages.jest@28.0.0: a package that judges"),
        ("version: 29.0.0", "version: 28.0.0", "importers..: jest"),
        ("autoInstallPeers: true", "autoInstallPeers: false", "settings"),
        ("\nimporters", "\noverrides:\n  a: evil@1\n\nimporters", "overrides"),
        ("lockfileVersion: '9.0'", "lockfileVersion: '9.0'\nlockfileVersion: '6.0'", "the whole file (factoryd cannot parse it)"),
        ("hasBin: true", "hasBin: &x true", "the whole file (factoryd cannot parse it)"),
        ("hasBin: true", "hasBin: true\n      more: x", "the whole file (factoryd cannot parse it)"),
        *[
            ("hasBin: true", f"deprecated: {value}", "the whole file (factoryd cannot parse it)")
            for value in ("'open", "'open''", '"open\\"', "{a: 'open}", "[open", "{a: b} # }", "|-", "*x")
        ],
        ("  a@1.0.0:", "  ? a@1.0.0:", "the whole file (factoryd cannot parse it)"),
        ("    engines", "\t engines", "the whole file (factoryd cannot parse it)"),
    ],
)  # fmt: skip
def test_pnpm(was: str, now: str, key: str) -> None:
    assert was in PNPM
    found = judges("pnpm-lock.yaml", PNPM, PNPM.replace(was, now))

    assert (key in found) if key else found == ()


@pytest.mark.parametrize(
    ("was", "now", "key"),
    [
        ('version "1.0.0"\n  resolved "https://registry.yarnpkg.com/a/-/a-1.0.0',
         'version "1.1.0"\n  resolved "https://registry.yarnpkg.com/a/-/a-1.1.0', ""),
        ("a@^1.0.0", "a@^1.0.0 || ^2", ""),
        ("a@^1.0.0:", '"a@1 || 2", a@^1.0.0, a@^1.1.0:', ""),
        ("a@^1.0.0:", '"a@1 || 2", evil@^1.0.0:', '"a@1 || 2", evil@^1.0.0: its source'),
        ('"@b/c" "^2"', '"@b/c" "^3"', ""),
        ("/a/-/a-1.0.0", "/evil/-/evil-1.0.0", "a@^1.0.0: its source"),
        ("https://registry.yarnpkg.com/a/", "https://evil.org/a/", "a@^1.0.0: its source"),
        ("a@^1.0.0", '"a@npm:evil@^1.0.0"', "a@npm:evil@^1.0.0: its source"),
        ("a@^1.0.0", '"a@file:../a"', "a@file:../a: its source"),
        ('"29.0.0"', '"28.0.0"', "jest@^29: a package that judges"),
        ("a@^1.0.0", "jest@^29", "the whole file (factoryd cannot parse it)"),
    ],
)  # fmt: skip
def test_yarn_1(was: str, now: str, key: str) -> None:
    assert was in YARN
    found = judges("yarn.lock", YARN, YARN.replace(was, now))

    assert found == ((key,) if key else ())


@pytest.mark.parametrize(
    ("was", "now", "key"),
    [
        ('version: 1.0.0\n  resolution: "a@npm:1.0.0"', 'version: 1.1.0\n  resolution: "a@npm:1.1.0"', ""),
        ('a: "npm:^1.0.0"', 'a: "npm:^1.1.0"', ""),
        ('"a@npm:1.0.0"', '"evil@npm:1.0.0"', "a@npm:^1.0.0: its source"),
        ('"a@npm:^1.0.0":', '"a@patch:a@npm%3A1#x":', "a@patch:a@npm%3A1#x: its source"),
        ("10c0/aa", "10c0/aa\n  bin:\n    jest: x.js", "a@npm:^1.0.0: bin"),
        ('"shop@workspace:."\n  dep', '"shop@workspace:x"\n  dep', "shop@workspace:.: its source"),
        ("version: 8", "version: 7", "__metadata"),
    ],
)  # fmt: skip
def test_yarn_2(was: str, now: str, key: str) -> None:
    assert was in BERRY
    found = judges("yarn.lock", BERRY, BERRY.replace(was, now))

    assert found == ((key,) if key else ())


@pytest.mark.parametrize(
    "line", ["a" * 300_000, " " * 300_000 + "a", '"a", ' * 60_000, "a:" * 150_000]
)
def test_a_hostile_line_takes_no_time(line: str) -> None:
    began = time.process_time()

    judges("yarn.lock", "", line)

    assert time.process_time() - began < 1
