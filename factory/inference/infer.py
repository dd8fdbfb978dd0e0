"""Which gates rule here and how an environment is made, read from the files of one commit.

Invariant: pure; the same files give the same rules, and every file that had a say, or would have one if it appeared
(a `pytest.ini` overrules pyproject.toml), is in `sources`.
"""

import hashlib
import json
import re
import shlex
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import translate
from pathlib import PurePosixPath
from types import NoneType
from typing import Any

from factory.ground.errors import ConfigError, did_you_mean
from factory.ground.names import CONVENTIONS, HIDDEN

GATES, SETUP = "conventions/gates/", "conventions/workspace/setup.sh"  # of the visible folder
_EXPLICIT = tuple(
    f"{name}/gates/" for name in (CONVENTIONS, HIDDEN[CONVENTIONS])
)  # a gate of a file is read from there

# What decides how a tool judges, present or not; a module of the runner's name at the root would run in its place.
_RULED_BY: Mapping[str, tuple[str, ...]] = {
    "pytest": (
        *(
            "pytest.toml",
            ".pytest.toml",
            "pytest.ini",
            ".pytest.ini",
            "pyproject.toml",
            "tox.ini",
            "setup.cfg",
        ),
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
    "cargo": (
        "Cargo.toml",
        ".cargo/config.toml",
        ".cargo/config",
        "rust-toolchain.toml",
        "rust-toolchain",
    ),
}
LOCKS = ("uv.lock",)  # lock files that are looked into: what they lock, and no more
LOCKED = '^name = "[^"]+"'  # a line of them
_PYTHON_TOOLS = ("pytest", "tox", "ruff", "mypy")
_PYTHON_INPUTS = (
    *(
        "pyproject.toml",
        "setup.py",
        "setup.cfg",
        "requirements*.txt",
        "*-requirements.txt",
        "requirements/*.txt",
    ),
    *("constraints*.txt", ".python-version", "uv.lock", "uv.toml"),
)
_NPM_LOCKS = ("package-lock.json", "npm-shrinkwrap.json")
_OTHER_LOCKS = ("pnpm-lock.yaml", "yarn.lock", "bun.lock", "bun.lockb")
_NODE_INPUTS = ("package.json", ".npmrc", *_NPM_LOCKS)
_SETUP_INPUTS = (*_PYTHON_INPUTS, *_NODE_INPUTS, *_OTHER_LOCKS)
_DEPENDENCIES = ("node_modules", ".venv")
_LIFECYCLE = (
    "preinstall",
    "install",
    "postinstall",
    "prepublish",
    "preprepare",
    "prepare",
    "postprepare",
)
_VENV = ("{python}", "-I", "-m", "venv", "{venv}")
_FOR_TESTS = (
    "(tests?|testing|dev|develop|development|checks?|lint|linting|typing|types|typecheck|ci)"
)
_PURPOSE = rf"({_FOR_TESTS}|base|main)"
_REQUIREMENTS = re.compile(rf"requirements([-_./]?{_PURPOSE})?\.txt|{_PURPOSE}-requirements\.txt")
_TEST_FILE = re.compile(r"(^|/)(test_[^/]*|[^/]*_test)\.py$")
_GATE_FILE = re.compile(r"(\d+)-([\w.-]*\w)\.(sh|toml)")
_GATE_KEYS: dict[str, Any] = {"command": None, "timeout_s": 0.0, "flaky_reruns": None}
_MOST_SECONDS, _MOST_RERUNS = 604_800, 10  # of one gate: a week, as in factory.toml
_GATE_FORM = 'the form is: command = "make test" or ["make", "test"]; optional: timeout_s = 600, flaky_reruns = 1'
_REWRITES = re.compile(r"^[ \t]*#[ \t]*rewrites:[ \t]*(\S.*)$", re.MULTILINE)
_MYPY_AIM = re.compile(r"^\[mypy\](?:\n(?!\[).*)*?\n(files|packages|modules)\s*=", re.MULTILINE)
_UNITTEST = """\
import sys, unittest
done = unittest.main(module=None, argv=["unittest", "discover", {}], exit=False).result
sys.exit(0 if done.testsRun and done.wasSuccessful() else 1)"""  # before 3.12 no test at all counts as success


@dataclass(frozen=True, slots=True)
class Gate:
    """A judge of a clean checkout: exit 0 is green. Same group in parallel, lower groups first."""

    name: str
    group: int
    command: tuple[str, ...] = ()
    reason: str = ""  # the gate's file, or why it was inferred
    said: str = ""  # the command as a person would type it, where it differs
    script: str = ""  # the text of a *.sh gate, written outside the bench before it runs
    timeout_s: float = 0.0  # 0: as configured, or measured
    flaky_reruns: int | None = None  # None: as configured
    rewrites: tuple[str, ...] = ()  # globs of tracked files that it may change: they are put back

    @property
    def digest(self) -> str:
        """Digest of everything that rules."""
        return digest(self.name, self.script, *self.command, *self.rewrites)

    @property
    def inferred(self) -> bool:
        """Whether no file of the repository's asks for it by name."""
        return not self.reason.startswith(_EXPLICIT)

    @property
    def shown(self) -> str:
        """The command that reproduces it in a checkout."""
        return self.said or (f"sh {self.reason}" if self.script else shlex.join(self.command))


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How an environment is made. In commands, `{venv}` is its venv and `{python}` the Python to make that with."""

    kind: str = "none"  # script, uv, pip, npm, several joined by +
    commands: tuple[tuple[str, ...], ...] = ()
    script: str = ""  # runs after the commands
    inputs: tuple[
        str, ...
    ] = ()  # globs of what it reads: an environment serves while their content is unchanged
    keeps: tuple[str, ...] = ()  # what it makes inside the tree
    rebuild: tuple[
        tuple[str, ...], ...
    ] = ()  # builds once more what a tree builds, on dependencies that are there
    made_from: tuple[str, ...] = ()  # globs of what that build reads; none: the whole tree
    reason: str = "nothing to prepare was found"

    @property
    def digest(self) -> str:
        """Digest of everything that rules."""
        commands = map(shlex.join, (*self.commands, *self.rebuild))
        return digest(self.kind, self.script, *commands, *self.inputs, *self.keeps, *self.made_from)

    @property
    def dependencies(self) -> tuple[str, ...]:
        """Where it installs dependencies inside the tree: they serve while `inputs` are unchanged."""
        always = _DEPENDENCIES if self.kind == "script" else ()
        return tuple(dict.fromkeys((*always, *filter(_is_dependencies, self.keeps))))

    @property
    def builds(self) -> tuple[str, ...]:
        """What else it says to make inside the tree: built from each tree, and never carried to another."""
        return tuple(path for path in self.keeps if not _is_dependencies(path))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What one commit says about judging; `sources` are the files that a change must not touch unseen."""

    gates: tuple[Gate, ...] = ()
    setup: Setup = Setup()
    sources: frozenset[str] = frozenset()
    unread: frozenset[str] = (
        frozenset()
    )  # files that were to be looked into, and are too large for it

    def sources_among(self, changed: Iterable[str]) -> frozenset[str]:
        """`sources`, and those of the changed paths that an inferred setup would read, new ones too."""
        inferred = self.setup.kind not in ("none", "script")
        return self.sources.union(
            _matching(changed, *_SETUP_INPUTS, *self.setup.inputs) if inferred else ()
        )


def wanted(listing: Sequence[str], folder: str = CONVENTIONS) -> list[str]:
    """The files of a commit whose content `rules_of` needs; `folder`: the name of the one with the conventions."""
    gates, setup = _named(folder)
    ruling = (name for names in _RULED_BY.values() for name in names)
    tests = [name for name in listing if _TEST_FILE.search(name)]
    return sorted({*_matching(listing, f"{gates}*", setup, *_PYTHON_INPUTS, *ruling), *tests[:20]})


def rules_of(
    listing: Sequence[str],
    contents: Mapping[str, str],
    folder: str = CONVENTIONS,
    *,
    larger: Collection[str] = (),
) -> Rules:
    """The gates and the setup of a commit; raise ConfigError for a gate or setup file that is wrong.

    `folder`: the name of the one with the conventions. `larger`: files that were not read, for
    their size.
    """
    files = _Files(listing, contents, folder, larger)
    gates = _explicit(files) or tuple(
        [*_python_gates(files), *_node_gates(files)] or _make_gates(files)
    )
    texts = [*map(_text, gates)]
    tools = [
        tool
        for tool in _RULED_BY
        if re.search(rf"(?<![\w./=-]){tool}(?![\w.=-])", "\n".join(texts))
    ]
    setup = _script_setup(files) if files.setup in files.names else _inferred_setup(files, tools)
    said = {
        word
        for text in (*texts, _code(setup.script))
        for word in re.split(r"[\s'\"`;&|()<>=]+", text)
    }
    # Whoever edits a file that a gate runs edits the gate; tests are judged otherwise.
    run = {
        name
        for name in files.names & _bare(said)
        if not re.search(r"(^|/)test_|[._](test|spec)\.\w+$", name)
    }
    sources = {name for name in files.names if name.startswith(files.gates) or name == files.setup}
    sources |= {name for tool in tools for name in _RULED_BY[tool]} | run
    if setup.kind not in ("none", "script"):
        sources |= set(files.matching(*setup.inputs))
    return Rules(
        gates=gates, setup=setup, sources=frozenset(sources), unread=frozenset(files.unread)
    )


def _named(folder: str) -> tuple[str, str]:
    """Where gates, and where the setup script, lie in the folder with the conventions."""
    return f"{folder}/gates/", f"{folder}/workspace/setup.sh"


class _Files:
    """A commit's names, and the content of those that were wanted."""

    def __init__(
        self,
        listing: Sequence[str],
        contents: Mapping[str, str],
        folder: str,
        larger: Collection[str],
    ) -> None:
        self._larger, self.unread = frozenset(larger), set[str]()
        self.gates, self.setup = _named(folder)
        self.names = frozenset(listing)
        self.contents = contents
        self.tests = sorted(filter(_TEST_FILE.search, self.names))
        self.pyproject = _parsed(tomllib.loads, self.text("pyproject.toml"))
        # Where another client's lock file lies alone, npm would install something else: nothing is inferred.
        others = self.names.intersection(_OTHER_LOCKS) and not self.names.intersection(_NPM_LOCKS)
        self.package = {} if others else _parsed(json.loads, self.text("package.json"))

    def text(self, *names: str) -> str:
        """What these files say, one after the other; those that could not be read are noted."""
        self.unread.update(self._larger.intersection(names))
        return self.sample(*names)

    def sample(self, *names: str) -> str:
        """What those of these files say that could be read."""
        return "\n".join(self.contents.get(name, "") for name in names)

    def matching(self, *globs: str) -> list[str]:
        return _matching(self.names, *globs)

    def chosen(self, *table: str) -> list[str]:
        """The names in a table of extras or dependency groups that testing needs."""
        return [name for name in _at(self.pyproject, *table) if re.fullmatch(_FOR_TESTS, name)]

    def configured(self, tool: str) -> str:
        """Where a Python tool is configured, or nothing."""
        if tool in _at(self.pyproject, "tool"):
            return f"[tool.{tool}] in pyproject.toml"
        own = [
            name
            for name in _RULED_BY[tool]
            if re.fullmatch(rf"\.?{tool}\.(ini|toml)", name) and name in self.names
        ]
        section = re.compile(rf"^\[(tool:)?{tool}\]", re.MULTILINE)
        return next(
            iter(
                own + [name for name in ("setup.cfg", "tox.ini") if section.search(self.text(name))]
            ),
            "",
        )


# ── gates ──


def _explicit(files: _Files) -> tuple[Gate, ...]:
    names = [
        name
        for name in files.matching(f"{files.gates}*")
        if not name.endswith((".md", ".txt", ".gitkeep"))
    ]
    return tuple(
        sorted(
            (_gate_of(name, files.text(name), files.gates) for name in names),
            key=lambda gate: (gate.group, gate.name),
        )
    )


def _gate_of(path: str, text: str, gates: str) -> Gate:
    form = _GATE_FILE.fullmatch(path.removeprefix(gates))
    if not form:
        raise ConfigError(
            f"{path} is not run: a gate is called NN-name.sh or NN-name.toml, e.g. {gates}20-test.sh"
        )
    name, group = f"{form[1]}-{form[2]}", int(form[1])
    rewrites = tuple(_rewrites(path, text))
    if form[3] == "toml":
        return replace(_toml_gate(name, group, path, text), rewrites=rewrites)
    if not _code(text):
        raise ConfigError(
            f"{path} has no command and would pass everything. Write one, or remove the file."
        )
    return Gate(name, group, (), path, script=text, rewrites=rewrites)


def _rewrites(path: str, text: str) -> Iterator[str]:
    """The files that a gate's header lets it change."""
    for line in _REWRITES.findall(text):
        for glob in line.split():
            parts = PurePosixPath(glob).parts
            if glob.startswith("/") or ".." in parts or not glob.strip("*?./"):
                raise ConfigError(
                    f"{path}: `# rewrites: {glob}` leads out of the tree, or names all of it. Name the files that this "
                    "gate has to change, e.g. # rewrites: Cargo.lock"
                )
            yield glob


def _toml_gate(name: str, group: int, path: str, text: str) -> Gate:
    try:
        told = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    for key in told.keys() - _GATE_KEYS.keys():
        raise ConfigError(
            f"{path}: unknown key {key!r}{did_you_mean(key, _GATE_KEYS)}; {_GATE_FORM}"
        )
    command, timeout, reruns = (_GATE_KEYS | told).values()
    if isinstance(command, str) and command.strip():
        command = ["sh", "-c", command]
    runs = (
        isinstance(command, list)
        and all(isinstance(part, str) for part in command)
        and any(command[:1])
    )
    typed = type(timeout) in (int, float) and type(reruns) in (int, NoneType)
    fits = (
        typed and 0 <= timeout <= _MOST_SECONDS and 0 <= (reruns or 0) <= _MOST_RERUNS
    )  # nan is not
    if not runs or not fits:
        raise ConfigError(f"{path}: {_GATE_FORM}")
    return Gate(name, group, tuple(command), path, timeout_s=float(timeout), flaky_reruns=reruns)


def _python_gates(files: _Files) -> Iterator[Gate]:
    if why := files.configured("ruff"):
        yield Gate(
            "ruff", 10, ("ruff", "check", "--no-fix", "."), why
        )  # whatever `fix` is configured
    if why := files.configured("mypy"):
        aimed = {"files", "packages", "modules"} & _at(files.pyproject, "tool", "mypy").keys()
        named = aimed or _MYPY_AIM.search(files.text("mypy.ini", ".mypy.ini", "setup.cfg"))
        yield Gate("mypy", 10, ("mypy",) if named else ("mypy", "."), why)
    why, first = files.configured("pytest"), next(iter(files.tests), "")
    if why or (first and _uses_pytest(files)):
        yield Gate("pytest", 20, ("python", "-m", "pytest"), why or f"test files ({first} …)")
    elif first:
        start = first.split("/")[0] if "/" in first else "."
        where = ["-s", start, *(["-t", "."] if f"{start}/__init__.py" in files.names else [])]
        command = ("python", "-c", _UNITTEST.format(", ".join(f'"{part}"' for part in where)))
        said = " ".join(["python -m unittest discover", *where])
        yield Gate("unittest", 20, command, f"unittest cases ({first} …)", said)


def _uses_pytest(files: _Files) -> bool:
    """Whether tests are written for pytest, as far as they and what is installed for them say."""
    if any(name.endswith("conftest.py") for name in files.names):
        return True
    tests = files.tests[:20]
    every = (*files.matching(*_PYTHON_INPUTS, "tox.ini"), *tests)
    if re.search(r"\bpytest\b", files.sample(*every)):
        return True
    files.text(*every)  # what could not be read might have said so
    return "unittest" not in files.text(*tests)


def _node_gates(files: _Files) -> Iterator[Gate]:
    scripts = _at(files.package, "scripts")
    if scripts.get("lint"):
        yield Gate("lint", 10, ("npm", "run", "lint"), "package.json, scripts.lint")
    if scripts.get("test") and "no test specified" not in str(scripts["test"]):
        yield Gate("test", 20, ("npm", "test"), "package.json, scripts.test")


def _make_gates(files: _Files) -> list[Gate]:
    name = next((name for name in _RULED_BY["make"] if name in files.names), "")
    targets = sorted(re.findall(r"^(check|test)\s*::?(?!=)", files.text(name), re.MULTILINE))
    return [
        Gate(target, 20, ("make", target), f"{name}, target {target}") for target in targets[:1]
    ]


# ── setup ──


def _script_setup(files: _Files) -> Setup:
    script = files.text(files.setup)
    told = dict(re.findall(r"^#\s*(inputs|keeps|made-from):\s*(.+)$", script, re.MULTILINE))
    every = (*_PYTHON_INPUTS, *_NODE_INPUTS, *_OTHER_LOCKS, "go.*", "Cargo.*")
    inputs = tuple(told["inputs"].split()) if "inputs" in told else every
    keeps = tuple(told.get("keeps", " ".join(_DEPENDENCIES)).split())
    made_from = tuple(told.get("made-from", "").split())
    for path in (*inputs, *keeps, *made_from):
        parts = PurePosixPath(path).parts
        if (
            not parts
            or path[0] == "/"
            or any(part == ".." or ("**" in part and part != "**") for part in parts)
        ):
            raise ConfigError(
                f"{files.setup}: {path} leads out of the tree, or is no glob. Name what lies inside of it."
            )
    venv = (_VENV,) if files.matching(*_PYTHON_INPUTS) else ()
    setup = Setup(
        kind="script", commands=venv, script=script, inputs=inputs, keeps=keeps, reason=files.setup
    )
    return replace(setup, made_from=made_from)


def _is_dependencies(path: str) -> bool:
    return PurePosixPath(path).name in _DEPENDENCIES


def _inferred_setup(files: _Files, tools: Sequence[str]) -> Setup:
    runners = [tool for tool in _PYTHON_TOOLS if tool in tools]
    wants, lists = _requirements(files)
    setup = Setup()
    if "uv.lock" in files.names:
        setup = _uv_setup(files, runners)
    elif wants or lists or runners:
        setup = _pip_setup(files, wants, lists, runners)
    elif (
        "unittest" in tools
    ):  # a venv of its own all the same: the python on PATH may know an editable install
        bare = (*_VENV, "--without-pip")
        setup = Setup(
            commands=(bare,), inputs=(".python-version",), reason="Python, no requirements"
        )
    return _with_node(files, setup)


def _uv_setup(files: _Files, runners: Sequence[str]) -> Setup:
    locked = re.findall(r'^name = "([^"]+)"', files.text("uv.lock"), re.MULTILINE)
    more = [tool for tool in runners if tool not in locked]
    chosen = [
        part
        for name in files.chosen("project", "optional-dependencies")
        for part in ("--extra", name)
    ]
    chosen += [part for name in files.chosen("dependency-groups") for part in ("--group", name)]
    name = _at(files.pyproject, "project").get("name")
    # Its cache would give an earlier build of the project, made from another tree.
    own = ("--reinstall-package", name) if isinstance(name, str) else ()
    sync = ("uv", "sync", "--locked", "--inexact", *chosen, *own)
    commands = (
        _VENV,
        ("sh", "-c", "command -v uv || python -I -m pip install uv"),
        sync,
        *([("uv", "pip", "install", *more)] if more else ()),
    )
    return Setup(
        kind="uv",
        commands=commands,
        inputs=_PYTHON_INPUTS,
        rebuild=(sync,),
        reason="uv.lock is there",
    )


def _pip_setup(files: _Files, wants: list[str], lists: list[str], runners: list[str]) -> Setup:
    pip = (
        "{venv}/bin/python",
        "-I",
        "-m",
        "pip",
        "install",
        "--no-input",
        "--disable-pip-version-check",
    )
    read = [part for name in lists for part in ("-r", name)]
    hashed = "--hash" in files.text(*lists)  # a file with hashes refuses company
    orders = [read, wants + runners] if hashed else [wants + read + runners]
    installs = tuple((*pip, *order) for order in orders if order)
    return Setup(
        kind="pip",
        commands=(_VENV, *installs),
        inputs=(*_PYTHON_INPUTS, *_read_too(files, lists)),
        rebuild=installs,  # which finds everything installed but what is editable
        reason="a venv with " + " ".join([*wants, *lists, *runners]),
    )


def _requirements(files: _Files) -> tuple[list[str], list[str]]:
    """What to install by name, and requirement files to read."""
    wants = []
    if {"project", "build-system"} & files.pyproject.keys() or "setup.py" in files.names:
        extras = ",".join(files.chosen("project", "optional-dependencies"))
        wants += ["-e", f".[{extras}]" if extras else "."]
    for group in files.chosen("dependency-groups"):
        wants += _group(_at(files.pyproject, "dependency-groups"), group, ())
    return wants, sorted(filter(_REQUIREMENTS.fullmatch, files.names))


def _group(groups: Mapping[str, Any], name: str, seen: tuple[str, ...]) -> list[str]:
    """A dependency group's requirements, those of the groups that it includes among them."""
    wants: list[str] = []
    items = groups.get(name) if name not in seen else None
    for item in items if isinstance(items, list) else []:
        other = item.get("include-group", "") if isinstance(item, dict) else ""
        wants += (
            _group(groups, other, (*seen, name))
            if other
            else [item]
            if isinstance(item, str)
            else []
        )
    return wants


def _read_too(files: _Files, lists: Sequence[str]) -> list[str]:
    """What requirement files and dynamic metadata point to."""
    text = files.text(*lists)
    found = re.findall(
        r"^[ \t]*(?:-[rc]|--requirement|--constraint)[\s=]+(\S+)", text, re.MULTILINE
    )
    for folder in re.findall(
        r"^[ \t]*(?:-e|--editable)[\s=]+(?:file:)?(\.?[\w./-]+)", text, re.MULTILINE
    ):
        found += [f"{folder}/{name}" for name in ("pyproject.toml", "setup.py", "setup.cfg")]
    for source in _at(files.pyproject, "tool", "setuptools", "dynamic").values():
        named = source.get("file", []) if isinstance(source, dict) else []
        found += [str(name) for name in (named if isinstance(named, list) else [named])]
    return sorted(_bare(found))


def _with_node(files: _Files, setup: Setup) -> Setup:
    lock = next((name for name in _NPM_LOCKS if name in files.names), "")
    needs = any(
        _at(files.package, kind)
        for kind in ("dependencies", "devDependencies", "optionalDependencies")
    )
    needs = needs or "prepare" in _at(files.package, "scripts")
    if (not lock and not needs) or any(name.startswith("node_modules/") for name in files.names):
        return setup  # tracked modules come with the tree
    install = ("ci",) if lock else ("install", "--no-package-lock")
    folders = [
        name.removesuffix("package.json") for name in files.names if name.endswith("/package.json")
    ]
    spread = sorted(folders) if "workspaces" in files.package else []
    why = f"{lock} is there" if lock else "package.json has dependencies and no lock file"
    return Setup(
        rebuild=(*setup.rebuild, *_lifecycle(files)),
        kind="npm" if setup.kind == "none" else f"{setup.kind}+npm",
        commands=(*setup.commands, ("npm", *install, "--no-audit", "--no-fund")),
        inputs=(*setup.inputs, *_NODE_INPUTS, *(f"{folder}package.json" for folder in spread)),
        keeps=("node_modules", *(f"{folder}node_modules" for folder in spread)),
        reason=f"{setup.reason}; {why}" if setup.commands else why,
    )


def _lifecycle(files: _Files) -> Iterator[tuple[str, ...]]:
    """What npm runs of the project's own scripts when it installs."""
    every = (
        ("--workspaces", "--include-workspace-root", "--if-present")
        if "workspaces" in files.package
        else ()
    )
    scripts = _at(files.package, "scripts")
    for name in _LIFECYCLE:
        if every or name in scripts:
            yield (
                "npm",
                "run",
                "--ignore-scripts",
                *every,
                name,
            )  # and not what has its name with pre or post


def _bare(paths: Iterable[str]) -> set[str]:
    return {re.sub(r"^(\./)+", "", path) for path in paths}


def _text(gate: Gate) -> str:
    return _code(gate.script) or " ".join(gate.command)


def _code(script: str) -> str:
    return "\n".join(
        line for line in script.splitlines() if line.strip() and not line.lstrip().startswith("#")
    )


def _matching(names: Iterable[str], *globs: str) -> list[str]:
    """The names that a glob fits, where `*` stays in its folder; in one pass, since a repository may be large."""
    fits = re.compile("|".join(translate(glob).replace(".*", "[^/]*") for glob in globs))
    return sorted(filter(fits.match, names))


def _parsed(load: Callable[[str], Any], text: str) -> dict[str, Any]:
    try:
        found = load(text)
    except (ValueError, RecursionError):
        return {}  # what reads it next says so better
    return found if isinstance(found, dict) else {}


def _at(table: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    for key in path:
        found = table.get(key)
        table = found if isinstance(found, dict) else {}
    return table


def digest(*parts: str) -> str:
    """One digest of all parts, in their order."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()
