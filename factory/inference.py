"""Which gates rule here and how an environment is made, read from the files of one commit.

Invariant: pure; the same files give the same rules, and every file that had a say, or would have one if it appeared
(a `pytest.ini` overrules pyproject.toml), is in `sources`.
"""

import hashlib
import json
import re
import shlex
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

from factory.errors import ConfigError

GATES, SETUP = "conventions/gates/", "conventions/workspace/setup.sh"

# What decides how a tool judges, present or not; a module of the runner's name at the root would run in its place.
_RULED_BY: Mapping[str, tuple[str, ...]] = {
    "pytest": (
        *("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg"),
        *("pytest.py", "pytest/__init__.py"),
    ),
    "unittest": ("unittest.py", "unittest/__init__.py"),
    "tox": ("tox.ini", "tox.toml", "pyproject.toml", "setup.cfg"),
    "ruff": ("ruff.toml", ".ruff.toml", "pyproject.toml"),
    "mypy": ("mypy.ini", ".mypy.ini", "pyproject.toml", "setup.cfg"),
    "npm": ("package.json", ".npmrc"),
    "pnpm": ("package.json", ".npmrc"),
    "yarn": ("package.json", ".yarnrc", ".yarnrc.yml"),
    "make": ("GNUmakefile", "makefile", "Makefile"),
    "go": ("go.mod", "go.work"),
    "cargo": ("Cargo.toml", ".cargo/config.toml", ".cargo/config", "rust-toolchain.toml", "rust-toolchain"),
}
_PYTHON_TOOLS = ("pytest", "tox", "ruff", "mypy")
_PYTHON_INPUTS: tuple[str, ...] = (
    *("pyproject.toml", "setup.py", "setup.cfg", "requirements*.txt", "*-requirements.txt", "requirements/*.txt"),
    *("constraints*.txt", ".python-version"),
)
_NODE_LOCKS: Mapping[str, tuple[str, ...]] = {
    "package-lock.json": ("npm", "ci", "--no-audit", "--no-fund"),
    "npm-shrinkwrap.json": ("npm", "ci", "--no-audit", "--no-fund"),
    "pnpm-lock.yaml": ("pnpm", "install", "--frozen-lockfile"),
    "yarn.lock": ("yarn", "install", "--frozen-lockfile"),
}
_NODE_INPUTS = ("package.json", ".npmrc", *_NODE_LOCKS)
_FOR_TESTS = re.compile(r"tests?|testing|dev|develop|development|checks?|lint|linting|typing|types|typecheck|ci")
_TEST_FILE = re.compile(r"(^|/)(test_[^/]*|[^/]*_test)\.py$")
_GATE_FILE = re.compile(r"(\d+)-([\w.-]*\w)\.(sh|toml)")
_UNITTEST = """\
import sys, unittest
done = unittest.main(module=None, argv=["unittest", "discover", {}], exit=False).result
sys.exit(0 if done.testsRun and done.wasSuccessful() else 1)"""  # before 3.12 no test at all counts as success


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A judge of a clean checkout: exit 0 is green. Same group in parallel, lower groups first."""

    name: str
    group: int
    command: tuple[str, ...] = ()
    script: str = ""  # the text of a *.sh gate, written outside the bench before it runs
    timeout_s: float = 0.0  # 0: as configured, or measured
    flaky_reruns: int | None = None  # None: as configured
    reason: str  # the gate's file, or why it was inferred

    @property
    def digest(self) -> str:
        """Digest of everything that rules."""
        return digest(self.name, self.script, *self.command)

    @property
    def inferred(self) -> bool:
        """Whether no file of the repository's asks for it by name."""
        return not self.reason.startswith(GATES)

    @property
    def shown(self) -> str:
        """The command that reproduces it in a checkout."""
        return f"sh {self.reason}" if self.script else shlex.join(self.command)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How an environment is made. In commands, `{venv}` is its venv and `{python}` the Python to make that with."""

    kind: str = "none"  # script, uv, pip, npm, several joined by +
    commands: tuple[tuple[str, ...], ...] = ()
    script: str = ""  # runs after the commands
    inputs: tuple[str, ...] = ()  # globs of what it reads: an environment serves while their content is unchanged
    keeps: tuple[str, ...] = ()  # what it makes inside the tree
    reason: str = "nothing to prepare was found"

    @property
    def digest(self) -> str:
        """Digest of everything that rules."""
        return digest(self.kind, self.script, *map(shlex.join, self.commands), *self.inputs, *self.keeps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What one commit says about judging; `sources` are the files that a change must not touch unseen."""

    gates: tuple[Gate, ...] = ()
    setup: Setup = Setup()
    sources: frozenset[str] = frozenset()


def wanted(listing: Sequence[str]) -> list[str]:
    """The files of a commit whose content `rules_of` needs."""
    ruling = (name for names in _RULED_BY.values() for name in names)
    globs = (f"{GATES}*", SETUP, *_PYTHON_INPUTS, "uv.lock", "package.json", *ruling)
    tests = [name for name in listing if _TEST_FILE.search(name)]
    return sorted({name for name in listing if _matches(name, globs)} | set(tests[:20]))


def rules_of(listing: Sequence[str], contents: Mapping[str, str]) -> Rules:
    """The gates and the setup of a commit; raise ConfigError for a gate file that is wrong."""
    files = _Files(listing, contents)
    explicit = _explicit(files)
    gates = explicit or _inferred(files)
    tools = _tools(gates)
    setup = _script_setup(files) if SETUP in files.names else _inferred_setup(files, tools)
    sources = {name for name in files.names if name.startswith(GATES) or name == SETUP}
    sources |= {name for tool in tools for name in _RULED_BY[tool]} | _named(files, [*map(_text, gates), setup.script])
    if setup.kind not in ("none", "script"):
        sources |= set(files.matching(*setup.inputs))
    return Rules(gates=gates, setup=setup, sources=frozenset(sources))


class _Files:
    """A commit's names, and the content of those that were wanted."""

    def __init__(self, listing: Sequence[str], contents: Mapping[str, str]) -> None:
        self.names = frozenset(listing)
        self.contents = contents

    def text(self, *names: str) -> str:
        return "\n".join(self.contents.get(name, "") for name in names)

    def matching(self, *globs: str) -> list[str]:
        return sorted(name for name in self.names if _matches(name, globs))

    @cached_property
    def pyproject(self) -> dict[str, Any]:
        try:
            return tomllib.loads(self.text("pyproject.toml"))
        except (tomllib.TOMLDecodeError, RecursionError):
            return {}  # what reads it next says so better

    @cached_property
    def package(self) -> dict[str, Any]:
        try:
            found = json.loads(self.text("package.json"))
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def extras(self) -> Mapping[str, Any]:
        return _at(self.pyproject, "project", "optional-dependencies")

    @property
    def groups(self) -> Mapping[str, Any]:
        return _at(self.pyproject, "dependency-groups")

    @cached_property
    def tests(self) -> list[str]:
        return sorted(name for name in self.names if _TEST_FILE.search(name))

    def configured(self, tool: str, *own: str) -> str:
        """Where a Python tool is configured, or nothing."""
        if tool in _at(self.pyproject, "tool"):
            return f"[tool.{tool}] in pyproject.toml"
        found = [name for name in own if name in self.names]
        section = re.compile(rf"^\[(tool:)?{tool}\]", re.MULTILINE)
        return next(iter(found + [name for name in ("setup.cfg", "tox.ini") if section.search(self.text(name))]), "")


def _explicit(files: _Files) -> tuple[Gate, ...]:
    names = [name for name in files.matching(f"{GATES}*") if not name.endswith((".md", ".txt", ".gitkeep"))]
    gates = [_gate_of(name, files.text(name)) for name in names]
    twins = {gate.name for gate in gates if sum(other.name == gate.name for other in gates) > 1}
    if twins:
        raise ConfigError(f"{GATES}{min(twins)}: there is a .sh and a .toml of this name. Remove one of them.")
    return tuple(sorted(gates, key=lambda gate: (gate.group, gate.name)))


def _gate_of(path: str, text: str) -> Gate:
    form = _GATE_FILE.fullmatch(path.removeprefix(GATES))
    if not form:
        raise ConfigError(f"{path} is not run: a gate is called NN-name.sh or NN-name.toml, e.g. {GATES}20-test.sh")
    name, group = f"{form[1]}-{form[2]}", int(form[1])
    if form[3] == "toml":
        return _toml_gate(path, text, name, group)
    if not _code(text):
        raise ConfigError(f"{path} has no command and would pass everything. Write one, or remove the file.")
    return Gate(name=name, group=group, script=text, reason=path)


def _toml_gate(path: str, text: str, name: str, group: int) -> Gate:
    try:
        keys = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    known: dict[str, Any] = {"command": None, "timeout_s": 0.0, "flaky_reruns": None}
    for key in keys.keys() - known:
        near = get_close_matches(key, known, n=1)
        raise ConfigError(f"{path}: unknown key {key!r}{f', did you mean {near[0]!r}?' if near else ''}; {_FORM}")
    command, timeout, reruns = ((known | keys)[key] for key in known)
    command = ["sh", "-c", command] if isinstance(command, str) and command.strip() else command
    good = isinstance(command, list) and command and all(isinstance(part, str) for part in command) and command[0]
    if not good or not _number(timeout, int, float) or not (reruns is None or _number(reruns, int)):
        raise ConfigError(f"{path}: {_FORM}")
    return Gate(
        name=name, group=group, command=tuple(command), timeout_s=float(timeout), flaky_reruns=reruns, reason=path
    )


_FORM = (
    'the form is: command = "make test" or ["make", "test"], timeout_s = 600, flaky_reruns = 1 (the last two may miss)'
)


def _number(value: object, *kinds: type) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool) and value >= 0  # type: ignore[operator]


def _inferred(files: _Files) -> tuple[Gate, ...]:
    gates = _python_gates(files) + _node_gates(files)
    if "go.mod" in files.names and any(name.endswith("_test.go") for name in files.names):
        gates.append(Gate(name="go-test", group=20, command=("go", "test", "./..."), reason="go.mod and *_test.go"))
    if "Cargo.toml" in files.names:
        gates.append(Gate(name="cargo-test", group=20, command=("cargo", "test"), reason="Cargo.toml"))
    return tuple(gates or _make_gates(files))


def _python_gates(files: _Files) -> list[Gate]:
    gates = []
    if why := files.configured("ruff", "ruff.toml", ".ruff.toml"):
        gates.append(Gate(name="ruff", group=10, command=("ruff", "check", "."), reason=why))
    if why := files.configured("mypy", "mypy.ini", ".mypy.ini"):
        own = re.split(r"^\[", files.text("mypy.ini", ".mypy.ini", "setup.cfg"), flags=re.MULTILINE)
        section = next((part for part in own if part.startswith("mypy]")), "")
        aimed = {"files", "packages", "modules"} & _at(files.pyproject, "tool", "mypy").keys()
        named = aimed or re.search(r"^(files|packages|modules)\s*=", section, re.MULTILINE)
        gates.append(Gate(name="mypy", group=10, command=("mypy",) if named else ("mypy", "."), reason=why))
    return gates + _python_tests(files)


def _python_tests(files: _Files) -> list[Gate]:
    why = files.configured("pytest", "pytest.ini", ".pytest.ini", "pytest.toml", ".pytest.toml")
    if not why and not files.tests:
        why = "tox.ini" if "tox.ini" in files.names else ""
        return [Gate(name="tox", group=20, command=("python", "-m", "tox"), reason=why)] if why else []
    tests, told = files.text(*files.tests[:20]), files.text(*files.matching(*_PYTHON_INPUTS, "uv.lock", "tox.ini"))
    spoken = re.search(r"\bpytest\b", told + tests) or any(name.endswith("conftest.py") for name in files.names)
    if why or spoken or "unittest" not in tests:
        why = why or f"test files ({files.tests[0]} …)"
        return [Gate(name="pytest", group=20, command=("python", "-m", "pytest"), reason=why)]
    start = files.tests[0].split("/")[0] if "/" in files.tests[0] else "."
    where = f'"-s", "{start}", "-t", "."' if f"{start}/__init__.py" in files.names else f'"-s", "{start}"'
    command = ("python", "-c", _UNITTEST.format(where))
    return [Gate(name="unittest", group=20, command=command, reason=f"unittest cases ({files.tests[0]} …)")]


def _node_gates(files: _Files) -> list[Gate]:
    scripts = _at(files.package, "scripts")
    client = next((command[0] for lock, command in _NODE_LOCKS.items() if lock in files.names), "npm")
    gates = []
    if scripts.get("lint"):
        gates.append(Gate(name="lint", group=10, command=(client, "run", "lint"), reason="package.json, scripts.lint"))
    if scripts.get("test") and "no test specified" not in str(scripts["test"]):
        gates.append(Gate(name="test", group=20, command=(client, "test"), reason="package.json, scripts.test"))
    return gates


def _make_gates(files: _Files) -> list[Gate]:
    name = next((name for name in _RULED_BY["make"] if name in files.names), "")
    targets = re.findall(r"^(check|test)\s*::?(?!=)", files.text(name), re.MULTILINE)
    return [
        Gate(name=target, group=20, command=("make", target), reason=f"{name}, target {target}")
        for target in sorted(set(targets))[:1]
    ]


def _script_setup(files: _Files) -> Setup:
    script = files.text(SETUP)
    told = dict(re.findall(r"^#\s*(inputs|keeps):\s*(.+)$", script, re.MULTILINE))
    venv = (("{python}", "-I", "-m", "venv", "{venv}"),) if files.matching(*_PYTHON_INPUTS) else ()
    inputs = told.get("inputs", " ".join((*_PYTHON_INPUTS, *_NODE_INPUTS, "uv.lock", "go.*", "Cargo.*"))).split()
    keeps = told.get("keeps", "node_modules .venv").split()
    if wrong := [path for path in keeps if path.startswith("/") or ".." in path.split("/")]:
        raise ConfigError(f"{SETUP}: `# keeps: {wrong[0]}` leads out of the tree. Name paths inside of it.")
    return Setup(kind="script", commands=venv, script=script, inputs=tuple(inputs), keeps=tuple(keeps), reason=SETUP)


def _inferred_setup(files: _Files, tools: Sequence[str]) -> Setup:
    parts = [part for part in (_python_setup(files, tools), _node_setup(files)) if part]
    return Setup(
        kind="+".join(part.kind for part in parts if part.kind != "none") or "none",
        commands=tuple(command for part in parts for command in part.commands),
        inputs=tuple(name for part in parts for name in part.inputs),
        keeps=tuple(name for part in parts for name in part.keeps),
        reason="; ".join(part.reason for part in parts) or "nothing to prepare was found",
    )


def _python_setup(files: _Files, tools: Sequence[str]) -> Setup | None:
    runners = [tool for tool in _PYTHON_TOOLS if tool in tools]
    venv = ("{python}", "-I", "-m", "venv", "{venv}")
    if "uv.lock" in files.names:
        return _uv_setup(files, runners, venv)
    wants, files_read = _requirements(files)
    if wants or files_read or runners:
        return _pip_setup(files, wants, files_read, runners, venv)
    if "unittest" in tools:  # a venv of its own all the same: the python on PATH may know an editable install
        return Setup(
            commands=((*venv, "--without-pip"),), inputs=(".python-version",), reason="Python, no requirements"
        )
    return None


def _uv_setup(files: _Files, runners: Sequence[str], venv: tuple[str, ...]) -> Setup:
    extras, groups = _for_tests(files.extras, files.groups)
    chosen = [part for name in extras for part in ("--extra", name)]
    chosen += [part for name in groups for part in ("--group", name)]
    locked = set(re.findall(r'^name = "([^"]+)"', files.text("uv.lock"), re.MULTILINE))
    more = [tool for tool in runners if tool not in locked]
    commands = (
        venv,
        ("sh", "-c", "command -v uv || python -I -m pip install uv"),
        ("uv", "sync", "--locked", "--inexact", *chosen),
        *([("uv", "pip", "install", *more)] if more else []),
    )
    return Setup(
        kind="uv", commands=commands, inputs=(*_PYTHON_INPUTS, "uv.lock", "uv.toml"), reason="uv.lock is there"
    )


def _pip_setup(
    files: _Files, wants: list[str], files_read: list[str], runners: list[str], venv: tuple[str, ...]
) -> Setup:
    pip = ("{venv}/bin/python", "-I", "-m", "pip", "install", "--no-input", "--disable-pip-version-check")
    lists = [part for name in files_read for part in ("-r", name)]
    hashed = "--hash" in files.text(*files_read)  # a file with hashes refuses company
    orders = [lists, wants + runners] if hashed else [wants + lists + runners]
    return Setup(
        kind="pip",
        commands=(venv, *((*pip, *order) for order in orders if order)),
        inputs=(*_PYTHON_INPUTS, *_read_too(files, files_read)),
        reason="a venv with " + " ".join([*wants, *files_read, *runners]),
    )


def _requirements(files: _Files) -> tuple[list[str], list[str]]:
    """What to install by name, and requirement files to read."""
    extras, groups = _for_tests(files.extras, files.groups)
    wants = []
    if {"project", "build-system"} & files.pyproject.keys() or "setup.py" in files.names:
        wants += ["-e", f".[{','.join(extras)}]" if extras else "."]
    for group in groups:
        wants += _group(files.groups, group, ())
    names = [name for name in files.matching(*_PYTHON_INPUTS) if name.endswith(".txt") and "constraints" not in name]
    kept = [name for name in names if _purpose(name) == "" or _FOR_TESTS.fullmatch(_purpose(name))]
    return wants, kept


def _purpose(name: str) -> str:
    """What a requirements file is for: "test" in requirements-test.txt, requirements/test.txt and such."""
    rest = re.sub(r"requirements|\.txt$", "", name).strip("-_./")
    return "" if rest in ("base", "main") else rest


def _for_tests(*tables: Mapping[str, Any]) -> list[list[str]]:
    """The names in each table of extras or dependency groups that testing needs."""
    return [[name for name in table if _FOR_TESTS.fullmatch(name)] for table in tables]


def _group(groups: Mapping[str, Any], name: str, seen: tuple[str, ...]) -> list[str]:
    wants: list[str] = []
    items = groups.get(name) if name not in seen else None
    for item in items if isinstance(items, list) else []:
        other = item.get("include-group", "") if isinstance(item, dict) else ""
        wants += _group(groups, other, (*seen, name)) if other else [item] if isinstance(item, str) else []
    return wants


def _read_too(files: _Files, names: Sequence[str]) -> list[str]:
    """What requirement files and dynamic metadata point to."""
    text = files.text(*names)
    found = re.findall(r"^\s*(?:-r|-c|--requirement|--constraint)[\s=]+(\S+)", text, re.MULTILINE)
    for folder in re.findall(r"^\s*(?:-e\s+|--editable[\s=]+)(?:file:)?(\.?[\w./-]+)", text, re.MULTILINE):
        found += [f"{folder}/{name}" for name in ("pyproject.toml", "setup.py", "setup.cfg")]
    for source in _at(files.pyproject, "tool", "setuptools", "dynamic").values():
        named = source.get("file", []) if isinstance(source, dict) else []
        found += [str(name) for name in (named if isinstance(named, list) else [named])]
    return sorted({re.sub(r"^(\./)+", "", name) for name in found})


def _node_setup(files: _Files) -> Setup | None:
    lock = next((name for name in _NODE_LOCKS if name in files.names), "")
    needs = any(_at(files.package, kind) for kind in ("dependencies", "devDependencies", "optionalDependencies"))
    if (not lock and not needs) or any(name.startswith("node_modules/") for name in files.names):
        return None  # tracked modules come with the tree
    command = _NODE_LOCKS.get(lock, ("npm", "install", "--no-package-lock", "--no-audit", "--no-fund"))
    folders = [name.removesuffix("package.json") for name in files.names if name.endswith("/package.json")]
    spread = sorted(folders) if "workspaces" in files.package or lock == "pnpm-lock.yaml" else []
    return Setup(
        kind=command[0],
        commands=(command,),
        inputs=(*_NODE_INPUTS, *(f"{folder}package.json" for folder in spread)),
        keeps=("node_modules", *(f"{folder}node_modules" for folder in spread)),
        reason=f"{lock} is there" if lock else "package.json has dependencies and no lock file",
    )


def _tools(gates: Iterable[Gate]) -> list[str]:
    """The known tools that gates run."""
    text = "\n".join(map(_text, gates))
    return [tool for tool in _RULED_BY if re.search(rf"(?<![\w./=-]){tool}(?![\w.=-])", text)]


def _named(files: _Files, texts: Iterable[str]) -> set[str]:
    """The repository's files that gates run: whoever edits those edits the gate. Tests are judged otherwise."""
    words = {re.sub(r"^(\./)+", "", word) for text in texts for word in re.split(r"[\s'\"`;&|()<>=]+", _code(text))}
    return {name for name in words & files.names if not re.search(r"(^|/)test_|[._](test|spec)\.\w+$", name)}


def _text(gate: Gate) -> str:
    return _code(gate.script) or " ".join(gate.command)


def _code(script: str) -> str:
    return "\n".join(line for line in script.splitlines() if line.strip() and not line.lstrip().startswith("#"))


def _matches(name: str, globs: Iterable[str]) -> bool:
    return any(fnmatchcase(name, glob) and name.count("/") == glob.count("/") for glob in globs)


def _at(table: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    for key in path:
        found = table.get(key)
        table = found if isinstance(found, dict) else {}
    return table


def digest(*parts: str) -> str:
    """One digest of all parts, in their order."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()
