"""What a script, a target or a session of the project does, as its name says."""

import re
from collections.abc import Mapping, Sequence

from factory.inference.ci.starters import past_options
from factory.inference.files import LOCK_OF

# Programs that run something of the project by its name → their options with a value.
RUNNERS: Mapping[str, str] = {
    "npm": "-w --workspace --prefix -C",
    "pnpm": "-F --filter -C --dir",
    "yarn": "--cwd",
    "bun": "--filter --cwd",
    "make": "-C -f -j",
    "gmake": "-C -f -j",
    "just": "-f -d",
    "task": "-d -t",
    "rake": "",
    "inv": "",
    "invoke": "",
    "doit": "",
    "poe": "",
    "hatch": "-e --env",
    "pdm": "",
    "tox": "",
    "nox": "",
}
_JS_INSTALLS = ("install", "i", "ci", "add", "link", "up", "upgrade", "update")
_RUN_WORDS = ("run", "run-script", "workspaces", "recursive", "foreach")
_CHOOSING = ("-e", "-s", "--session", "--sessions", "-t", "--tags", "-f")  # of tox and nox
_OTHER = "other"
# Kinds by a word of the name. The first row that fits counts.
_BY_WORD: Mapping[str, str] = {
    _OTHER: """
        fix write watch deploy publish release releases docs doc storybook size bench benchmark
        benchmarks benchmarking update upload clean serve start e2e site website changelog codecov
        package bump sign audit dist docker twine twinecheck perf performance
    """,
    "types": "type types typing typecheck tsc mypy pyright typescript dts",
    "format": "format fmt prettier black formatting style",
    "lint": """
        lint linter linters eslint stylelint ruff flake flake8 pylint bandit codespell clippy
        precommit quality static
    """,
    "test": """
        test tests testing unit check ci spec specs coverage cov verify validate integration
        pytest jest vitest py tox runtests distcheck
    """,
    "install": "install deps setup bootstrap requirements init dependencies sync develop",
    "build": "build compile bundle all generate codegen prebuild transpile",
}
_OTHERS = frozenset(_BY_WORD[_OTHER].split())
_STRONGEST = ("test", "types", "lint", "format", "build", "install")
_SEPARATORS = re.compile(r"[\W_\d]+")
_BEGINS_TEST = re.compile(r"(run[-_]?)?tests?\b|\w*tests?$|tests?[-_:]")
_NOT_TESTED_HERE = frozenset(
    "e2e docs doc bench benches benchmark benchmarks perf watch update browser deploy".split()
)
_PY_TEST = re.compile(r"(^|/)((run)?_?tests?|test_\w+|runtests)\.py$")
_RUNNER_OF_TESTS = re.compile(r"(^|/)tests?/run(ner)?[\w-]*\.\w+$")
_SCRIPT = re.compile(r"^\w[\w.-]*/|^\./|(^|/)[\w.-]*\.(sh|bash|py|js|mjs|cjs|ts|pl|rb)$")
_TARGET = re.compile(r"^([a-zA-Z][\w.-]*)[ \t]*::?(?![=:])", re.MULTILINE)
_SETUP_PY = {
    "test": "test",
    "pytest": "test",
    "develop": "install",
    "install": "install",
    "build_ext": "install",
}


def kind_by_name(name: str) -> str:
    """Return what something with this name does."""
    lower = name.lower().replace("pre-commit", "precommit")
    words = set(_SEPARATORS.split(lower))
    if _BEGINS_TEST.match(lower) and not words & _NOT_TESTED_HERE:
        return "test"
    for kind, row in _BY_WORD.items():
        if words.intersection(row.split()):
            return kind
    return _OTHER


def default_target(makefile: str) -> str:
    """Return the target that `make` makes if it gets no target; "" if there is none."""
    found = _TARGET.search(makefile)
    return found[1] if found else ""


def is_script(program: str) -> bool:
    """Whether the program is a file of the project."""
    return bool(_SCRIPT.search(program))


def kind_of_script(words: Sequence[str]) -> str:
    """Return what a file of the project does that an interpreter runs, or that runs itself."""
    for at, word in enumerate(words):
        after = "".join(words[at + 1 : at + 2])
        if word.endswith("manage.py"):
            return "test" if after == "test" else _OTHER
        if word.endswith("setup.py"):
            return _SETUP_PY.get(after, _OTHER)
        if _PY_TEST.search(word) or _RUNNER_OF_TESTS.search(word):
            return "test"
        if at < 2 and is_script(word):
            return kind_by_name(re.sub(r"\.\w+$", "", word.rpartition("/")[2]))
    return _OTHER


def kind_of_run(program: str, words: Sequence[str]) -> str:
    """Return what a runner does with these words."""
    names = names_run(program, words)
    if names is None:
        return "install"
    if not names:
        return {"tox": "test", "nox": "test", "make": "build", "gmake": "build"}.get(
            program, _OTHER
        )
    kinds = [kind_by_name(name) for name in names]
    for kind in _STRONGEST:
        if kind in kinds:
            return kind
    # A session with a name of its own, e.g. py312, tests.
    is_session = program in ("tox", "nox")
    is_named_other = any(set(_SEPARATORS.split(name)) & _OTHERS for name in names)
    return "test" if is_session and not is_named_other else _OTHER


def names_run(program: str, words: Sequence[str]) -> list[str] | None:
    """Return the scripts, targets or sessions that run; None if the runner installs."""
    rest = tuple(words[1:])
    if program in ("tox", "nox"):
        return _chosen(rest)
    rest = past_options(rest, RUNNERS[program])
    if program in LOCK_OF:
        return _names_of_js(program, rest)
    if program in ("hatch", "pdm"):
        if rest[:1] in (("install",), ("sync",), ("env",)):
            return None
        if rest[:1] == ("run",):
            rest = past_options(rest[1:], RUNNERS[program])
        return [word for word in rest if not word.startswith("+")][:1]
    return [word for word in rest if not word.startswith("-") and "=" not in word]


def _names_of_js(program: str, rest: tuple[str, ...]) -> list[str] | None:
    if not rest:
        return None if program == "yarn" else []
    if rest[0] == "workspace":  # of Yarn: the next word is a package
        rest = past_options(rest[2:], RUNNERS[program])
    if rest[:1] and rest[0] in _JS_INSTALLS:
        return None
    while rest and rest[0] in _RUN_WORDS:
        rest = past_options(rest[1:], RUNNERS[program])
    return list(rest[:1])


def _chosen(words: Sequence[str]) -> list[str]:
    """Return the environments or sessions that options choose; a comma separates several."""
    found: list[str] = []
    taking = False
    for word in words:
        if word == "--":
            break
        name, _, value = word.partition("=")
        if name.startswith("-"):
            taking = name in _CHOOSING
            word = value if taking else ""
        if taking and word:
            found += word.split(",")
    return found
