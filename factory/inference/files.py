"""The files of one commit, from which gates and setup are read.

Invariant: all functions are pure. Only wanted files have a content here. If a needed file was too
large to read, its path is noted.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from fnmatch import translate
from functools import cached_property
from itertools import chain
from pathlib import PurePosixPath
from typing import Any

from factory.ground import toml_text
from factory.ground.yaml_tree import Tree, table, tree_of

PYTHON_MANIFESTS = (
    "pyproject.toml",
    "setup.py",
    "setup.cfg",
    "requirements*.txt",
    "*-requirements.txt",
    "requirements/*.txt",
    "constraints*.txt",
    ".python-version",
    "uv.toml",
    "Pipfile",
)
PYTHON_INPUTS = (*PYTHON_MANIFESTS, "uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock")
NPM_LOCKS = ("package-lock.json", "npm-shrinkwrap.json")
# Each client of package.json → its lock files; the first client whose lock exists counts.
LOCK_OF = {
    "npm": NPM_LOCKS,
    "pnpm": ("pnpm-lock.yaml",),
    "yarn": ("yarn.lock",),
    "bun": ("bun.lock", "bun.lockb"),
}
PNPM_WORKSPACE = "pnpm-workspace.yaml"
BERRY = ".yarnrc.yml"  # the configuration of Yarn 2 and newer
NODE_INPUTS = (
    "package.json",
    ".npmrc",
    *chain.from_iterable(LOCK_OF.values()),
    PNPM_WORKSPACE,
    BERRY,
    ".yarnrc",
    "bunfig.toml",
)
SETUP_INPUTS = (*PYTHON_INPUTS, *NODE_INPUTS)
# Lock files are too large to parse, so only those lines are read that name a package or a version.
LOCKS = ("uv.lock", LOCK_OF["pnpm"][0])
LOCKED = '^name = "[^"]+"|^lockfileVersion:.*'
TESTS_READ = 20
_TEST_FILE = re.compile(r"(^|/)(test_[^/]*|[^/]*_test)\.py$")
_CI_FILE = re.compile(
    r"\.github/workflows/[^/]*\.ya?ml|\.github/(.*/)?action\.ya?ml"
    r"|\.gitlab-ci\.yml|\.gitlab/.*\.ya?ml"
    r"|\.circleci/config\.yml",
    re.DOTALL,
)


class Files:
    """The file names of a commit, and the contents of those files that inference needs."""

    def __init__(
        self,
        listing: Sequence[str],
        contents: Mapping[str, str],
        folder: str,
        larger: Collection[str],
    ) -> None:
        self.names = frozenset(listing)
        self.gates = gates_in(folder)
        self.setup = setup_in(folder)
        self.unread = set[str]()
        self._contents = contents
        self._larger = frozenset(larger)
        self._trees: dict[str, Mapping[str, Tree]] = {}
        self.tests = sorted(tests_in(self.names))
        self.pyproject = _parsed(toml_text.parsed, self.text("pyproject.toml"))
        self.package = _parsed(json.loads, self.text("package.json"))

    def text(self, *names: str) -> str:
        """Return the joined content of these files; note the files that were too large to read."""
        self.unread.update(self._larger.intersection(names))
        return self.sample(*names)

    def sample(self, *names: str) -> str:
        """Return the joined content of these files; leave out files that could not be read."""
        return "\n".join(self._contents.get(name, "") for name in names)

    def yaml(self, name: str) -> Mapping[str, Tree]:
        """Return the mapping in a YAML file; {} if there is none. Each file is parsed once."""
        if name not in self._trees:
            self._trees[name] = table(tree_of(self.text(name)))
        return self._trees[name]

    @cached_property
    def manifests(self) -> str:
        """The joined content of the manifests of Python that could be read."""
        return self.sample(*self.matching(*PYTHON_MANIFESTS))

    def first(self, names: Iterable[str]) -> str:
        """Return the first of these names that exists in the commit, or ""."""
        return next((name for name in names if name in self.names), "")

    def has_folder(self, path: str) -> bool:
        """Whether the commit has files in this folder."""
        return any(name.startswith(f"{path}/") for name in self.names)

    def matching(self, *globs: str) -> list[str]:
        """Return the names of the commit's files that match a glob."""
        return matching(self.names, *globs)


def gates_in(folder: str) -> str:
    """Return the folder of gates in the conventions folder."""
    return f"{folder}/gates/"


def setup_in(folder: str) -> str:
    """Return the path of the setup script in the conventions folder."""
    return f"{folder}/workspace/setup.sh"


def tests_in(names: Iterable[str]) -> list[str]:
    """Return the names of Python test files, in the given order."""
    return list(filter(_TEST_FILE.search, names))


def ci_files_in(names: Iterable[str]) -> list[str]:
    """Return the names of the files that say what CI runs, sorted."""
    return sorted(filter(_CI_FILE.fullmatch, names))


def matching(names: Iterable[str], *globs: str) -> list[str]:
    """Return the names that match a glob, sorted; `*` does not match a slash."""
    # All globs become one expression, which is faster, because a repository may have very many
    # names.
    fits = re.compile("|".join(map(translate, globs)).replace(".*", "[^/]*"))
    return sorted(filter(fits.match, names))


def leads_out(path: str) -> bool:
    """Whether a path or glob leads out of the tree."""
    return path.startswith("/") or ".." in PurePosixPath(path).parts


def bare(path: str) -> str:
    """Return the path without a leading `./`."""
    return re.sub(r"^(\./)+", "", path)


def at(table: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """Return the nested table at this path; {} if there is no such table."""
    for key in path:
        found = table.get(key)
        table = found if isinstance(found, dict) else {}
    return table


def _parsed(load: Callable[[str], Any], text: str) -> dict[str, Any]:
    try:
        found = load(text)
    except (ValueError, RecursionError):
        return {}  # the tool that uses the file reports a better error
    return found if isinstance(found, dict) else {}
