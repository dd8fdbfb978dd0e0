"""Which requirements only name a release of a package, and which packages judge work.

Invariant: pure; a requirement is plain only if its client takes it from the configured index. A
URL, a path, an archive, an alias or an option is never plain.
"""

import re
from typing import Any

# A package judges if its name has one of these words: it runs, extends or measures tests or checks,
# or it installs the other packages.
_JUDGING = frozenset(
    "test tests testing tester unittest pytest nose nose2 tox nox hypothesis doctest testtools"
    " coverage cov codecov lint linter linters linting ruff mypy pyright basedpyright pyre pytype"
    " pylint flake8 pyflakes pycodestyle pydocstyle black isort bandit vulture codespell yamllint"
    " precommit interrogate setuptools pip pipx uv wheel hatchling hatch flit maturin poetry pdm"
    " pipenv virtualenv jest vitest mocha chai ava tap c8 nyc istanbul sinon karma jasmine qunit"
    " cypress playwright eslint tslint jshint standard stylelint prettier biome biomejs oxlint"
    " typescript tsc turbo nx lerna npm pnpm yarn bun corepack husky testify ginkgo gomega gotest"
    " nextest proptest quickcheck clippy rustfmt trybuild insta criterion".split()
)
_ARCHIVE = re.compile(r"\.(zip|whl|egg|tar|tgz|tbz2?|txz|tlz|gz|bz2|xz|lzma?)\b")
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_VERSION = r"(?:===?|~=|!=|<=?|>=?) ?[A-Za-z0-9][A-Za-z0-9.*+!_-]*"
_VERSIONS = rf"{_VERSION}(?: ?, ?{_VERSION})*,?"
_REQUIREMENT = re.compile(
    rf"({_NAME}) ?(?:\[[A-Za-z0-9._, -]*\])? ?(?:{_VERSIONS}|\( ?{_VERSIONS} ?\))?"
    r" ?(?:;([A-Za-z0-9_.<>=!~()'\" -]+))?"
)
_MARKER = re.compile(
    r"[( ]*((python|platform|implementation|sys|os)_\w+|extra) ?([<>=!~]|in |not )"
)
# Only an operator may have a space after it, so that there is one way to match a text.
_RELEASE = (
    r"(?:(?:[~^]|[<>]=?|=) ?)?v?(?:\d+|[xX*])(?:\.(?:\d+|[xX*])){0,2}(?:[-+][A-Za-z0-9.+-]+)?"
)
_RANGE = re.compile(rf"{_RELEASE}(?:(?: ?\|\| ?| - | ){_RELEASE})*")
_MOST = 500  # characters of a requirement; a longer one is not plain
_SPECIFIER = re.compile(r"[A-Za-z0-9.*^~<>=!,|+ \t-]+")


def is_judging(name: str) -> bool:
    """Whether a package with that name judges, as its name suggests."""
    return not _JUDGING.isdisjoint(re.split(r"[^a-z0-9]+", name.casefold()))


def required(text: object) -> str:
    """Return the name of the package that a Python requirement asks for; "" if it is not plain."""
    if not isinstance(text, str) or len(text) > _MOST:
        return ""
    found = _REQUIREMENT.fullmatch(_spaced(text))
    if not found or _ARCHIVE.search(text.casefold()):
        return ""
    marker = found[2]
    # setuptools takes `a; b` in setup.cfg for two requirements. pip takes ` -…` for an option.
    if marker and (not _MARKER.match(marker) or " -" in marker):
        return ""
    return found[1]


def is_range(value: object) -> bool:
    """Whether a value of `dependencies` in package.json is a range of versions, and no source."""
    if not isinstance(value, str) or len(value) > _MOST or _ARCHIVE.search(value.casefold()):
        return False
    return not value or bool(_RANGE.fullmatch(_spaced(value)))


def is_specifier(value: Any, *more: str) -> bool:
    """Whether a TOML dependency names only versions. `more`: other keys that its table may have."""
    if isinstance(value, list):
        return all(is_specifier(each, *more) for each in value)
    if isinstance(value, dict):
        return value.keys() <= {"version", *more} and is_specifier(value.get("version"))
    return isinstance(value, str) and bool(_SPECIFIER.fullmatch(value))


def _spaced(text: str) -> str:
    """Return the text with single spaces, so that the time to match it stays short."""
    return re.sub(r"[ \t]+", " ", text.strip(" \t"))
