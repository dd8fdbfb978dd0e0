"""Turns the installing steps of CI into a setup.

Invariant: Python packages go into the venv of a place, never into the tree or the machine. The
project itself is installed from the tree, so that gates test the tree.
"""

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from factory.inference import node, python_setup
from factory.inference.ci import gates
from factory.inference.ci.gates import HATCH_HOME
from factory.inference.ci.plan import Plan
from factory.inference.ci.shell import parts_of
from factory.inference.ci.starters import before_dashes, is_python, unwrapped
from factory.inference.ci.steps import Job, Step
from factory.inference.ci.tools import Kind
from factory.inference.files import LOCK_OF, Files, bare
from factory.inference.rules import Setup

_CLIENTS = ("poetry", "pdm", "pipenv", "hatch")
_NODE = (*LOCK_OF, "npx", "bunx", "node", "corepack")
# Words of `pip install` that the venv makes useless; pip itself, because the venv has one; and
# `-e`, because the project is always installed so.
_OF_NO_USE = frozenset(
    "--user --system -U --upgrade --break-system-packages --quiet -q pip -e --editable".split()
)
_OF_OTHER_PLACE = ("--python", "-p", "--target", "--prefix", "--cache-dir")
_LISTS = ("-r", "--requirement", "-c", "--constraint")
# The project itself, or a package in a folder of it.
_LOCAL = re.compile(r"\.{1,2}(/[\w./-]*)?(\[[\w, -]*\])?|[\w-]+/(\[[\w, -]*\])?")
_BESIDE_RUNNERS = "uv|virtualenv|setuptools|wheel|build|twine|coverage|coveralls|codecov|six"
_OF_GATES = ("PYTEST_ADDOPTS", "FORCE_COLOR", "COVERAGE_FILE", "NOX_SESSION")
_IN_PARALLEL = ("-p", "--parallel")
_OPTIONS_OF_TOX = (
    *_IN_PARALLEL,
    *("run", "run-parallel", "r", "p", "-v", "-vv", "--", "--notest"),
)
_BUILT = re.compile(r"\.(whl|tar\.gz)$|^dist/")
_UV_SYNC_IGNORED = ("--exact", "--no-install-project", "-q", "--quiet")
_UV_LOCKED = ("--locked", "--frozen")
# Options of `uv run` that choose what the environment contains.
_UV_VALUED = ("--group", "--extra", "--package", "--only-group", "--no-group")
_UV_PLAIN = (
    *_UV_LOCKED,
    "--all-extras",
    "--all-groups",
    "--no-default-groups",
    "--no-dev",
    "--dev",
)
_UV_OTHER_VALUES = ("--python", "-p", "--directory", "--env-file", "--resolution")


def setup(jobs: Iterable[Job], files: Files) -> Setup:
    """Return the setup that makes what the gates of these jobs need."""
    judging = [job for job in jobs if any(map(gates.judges, job.steps))]
    plan = Plan()
    python_used = False
    for job in judging:
        for step in job.steps:
            if step.kind is Kind.INSTALL:
                _install(plan, step, files)
    for job in judging:
        for step in filter(gates.judges, job.steps):
            _need(plan, step, files)
            python_used = python_used or _is_python(step)
    read_from = sorted({job.path for job in judging})
    return plan.setup(files, read_from, python_used=python_used)


def _is_python(step: Step) -> bool:
    first = step.words[:1]
    return bool(first) and (is_python(first[0]) or first[0] in python_setup.TOOLS)


# ── steps that install ──


def _install(plan: Plan, step: Step, files: Files) -> None:
    """Add what an installing step does."""
    words = unwrapped(step.words)
    if not words and any(each[:1] == ("npm",) for each in parts_of(step.code)):
        words = ("npm", "install")  # `test -e node_modules || npm install`
    plan.origins[step.origin] = None
    program = words[0] if words else ""
    installer = _INSTALLERS.get(program)
    if installer:
        installer(plan, step, words[1:], files)
    elif program in _NODE and f"{step.folder}/package.json" in files.names:
        client = program if program in node.RULED_BY else "npm"
        plan.packages(node.in_folder(files, step.folder, client))
    elif program in _NODE:
        plan.kinds["node"] = None  # how to install is read from the lock file
    elif program not in ("go", "cargo") or words[1:2] == ("install",):
        # Gates have caches of their own, and download the modules of Go and Rust themselves.
        plan.add("script", *_shell(step, step.code), builds=program not in ("go", "cargo"))


def _pip(plan: Plan, step: Step, words: Sequence[str], files: Files) -> None:
    """Add an installation by pip, pipx or uv."""
    if words[:1] != ("install",):
        return
    arguments: list[str] = []
    is_local = False
    rest = _of_use(words[1:])
    for word in rest:
        if word in _CLIENTS or word == "uv":
            plan.client(word)
        elif word in _LISTS:
            name = bare(_under(step.folder, next(rest, "")))
            plan.inputs[name] = None
            arguments += [word, name]
        elif _LOCAL.fullmatch(word) or _BUILT.search(word):
            is_local = True
            path = "." if _BUILT.search(word) else word
            arguments += ["-e", _under(step.folder, path)]
        else:
            arguments.append(word)
    packages = [word for word in arguments if not word.startswith("-")]
    runner = _runner(packages)
    if runner:
        plan.client(runner, *packages)
    elif packages:
        _install_packages(plan, step, arguments, is_local)


def _install_packages(plan: Plan, step: Step, arguments: Sequence[str], is_local: bool) -> None:
    if re.search(r"[$*`]", " ".join(arguments)):  # only a shell can expand these words
        code = "python -m pip install " + " ".join(arguments)
        plan.add("pip", *_shell(step, code), builds=is_local)
    else:
        plan.pip(*arguments, builds=is_local)


def _runner(packages: Sequence[str]) -> str:
    """Return the runner that these packages are for: tox or nox; "" if they are for more."""
    names = [re.split(r"[\[<>=~!; ]", package)[0] for package in packages]
    for runner in ("tox", "nox"):
        family = re.compile(rf"{runner}(-\w+)*|{_BESIDE_RUNNERS}")
        if runner in names and all(map(family.fullmatch, names)):
            return runner
    return ""


def _of_use(words: Iterable[str]) -> Iterator[str]:
    """Yield the words of `pip install` without those that the venv makes useless."""
    rest = iter(words)
    for word in rest:
        if word in _OF_OTHER_PLACE:
            next(rest, "")
        elif word not in _OF_NO_USE:
            yield word


def _uv(plan: Plan, step: Step, words: Sequence[str], files: Files) -> None:
    if words[:1] == ("sync",):
        _uv_sync(plan, [word for word in words[1:] if word not in _UV_SYNC_IGNORED], files)


def _uv_sync(plan: Plan, options: Sequence[str], files: Files) -> None:
    if "uv.lock" not in files.names:
        options = [word for word in options if word not in _UV_LOCKED]
    plan.client("uv")
    reinstalled = python_setup.reinstalled(files)
    plan.add("uv", "uv", "sync", "--inexact", *options, *reinstalled, builds=True)


def _by_client(plan: Plan, step: Step, words: Sequence[str], files: Files) -> None:
    plan.client(step.words[0])
    plan.add("pip", *_shell(step, step.code), builds=True)


_Installer = Callable[[Plan, Step, Sequence[str], Files], None]
_INSTALLERS: Mapping[str, _Installer] = {
    "pip": _pip,
    "pipx": _pip,
    "uv-tool": _pip,
    "uv-pip": _pip,
    "uv": _uv,
    "poetry": _by_client,
    "pdm": _by_client,
    "pipenv": _by_client,
}


# ── what judging steps need ──


def _need(plan: Plan, step: Step, files: Files) -> None:
    """Add what a judging step needs, if no step installs it."""
    words = step.words
    if words[:2] == ("uv", "run"):
        _uv_run(plan, words[2:], files)
    elif words[:1] and words[0] in _CLIENTS:
        plan.client(words[0])
    inner = unwrapped(words)
    name = inner[0] if inner else ""
    if words[:1] in (("uvx",), ("pipx",)):
        _tool(plan, name, _fetched(words))
    elif name in python_setup.TOOLS and not _is_installed(plan, name, files):
        _tool(plan, name, [python_setup.pinned(files, name)])
    if name in _NODE:
        plan.kinds["node"] = None
    is_script = name in _NODE  # `yarn coverage`
    if "coverage" in words and not is_script and not _is_installed(plan, "coverage", files):
        plan.pip("coverage")
    _need_environments(plan, name, before_dashes(inner[1:]), step.env)


def _tool(plan: Plan, name: str, requirements: Sequence[str]) -> None:
    if name in ("tox", "nox"):
        plan.client(name, *requirements)
    else:
        plan.pip(*requirements)


def _need_environments(
    plan: Plan, name: str, options: tuple[str, ...], env: Sequence[tuple[str, str]]
) -> None:
    """Add the environments that tox, nox or hatch make themselves."""
    assigned = [f"{key}={value}" for key, value in env if key not in _OF_GATES]
    start = ("env", *assigned) if assigned else ()
    if name == "tox":
        environments = _choice_of_tox(options)
        plan.keeps[".tox"] = None
        plan.add("pip", *start, "{venv}/bin/tox", "run", "--notest", *environments, builds=True)
    elif name == "hatch":
        environment = "hatch-test" if options[:1] == ("test",) else _environment(options)
        plan.add("pip", "sh", "-e", "-c", f"{HATCH_HOME} hatch env create {environment}".strip())
    elif name == "nox":
        plan.keeps[".nox"] = None
        reuse = ("--install-only", "--reuse-existing-virtualenvs")
        plan.add("pip", *start, "{venv}/bin/nox", *reuse, *options, builds=True)


def _choice_of_tox(options: Sequence[str]) -> list[str]:
    """Return the options of tox that choose environments."""
    found = []
    for before, word in zip(("", *options), options, strict=False):
        is_count = before in _IN_PARALLEL and re.fullmatch(r"auto|all|\d+", word)
        if word not in _OPTIONS_OF_TOX and not is_count:
            found.append(word)
    return found


def _environment(options: Sequence[str]) -> str:
    """Return the environment that `hatch run ENV:SCRIPT` names, or ""."""
    named = [word for word in options if re.fullmatch(r"[\w.-]+:[\w.:-]+", word)]
    return named[0].partition(":")[0] if named else ""


def _uv_run(plan: Plan, words: Sequence[str], files: Files) -> None:
    """Add the environment in which `uv run` would start its program."""
    kept: list[str] = []
    extra: list[str] = []
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            break
        if word in _UV_VALUED:
            kept += [word, next(rest, "")]
        elif word in _UV_PLAIN:
            kept.append(word)
        elif word == "--with":
            extra.append(next(rest, ""))
        elif word in _UV_OTHER_VALUES:
            next(rest, "")
    _uv_sync(plan, kept, files)
    if extra:
        plan.add("uv", "uv", "pip", "install", *extra)


def _fetched(words: Sequence[str]) -> list[str]:
    """Return the requirements of a program that a step fetches: `uvx tox@4` → `tox==4`."""
    found: list[str] = []
    source = ""
    rest = iter(words[1:])
    for word in rest:
        if word == "--with":
            found.append(next(rest, ""))
        elif word in ("--from", "--spec"):
            source = next(rest, "")
        elif word in ("--python", "-p"):
            next(rest, "")
        elif word != "run" and not word.startswith("-"):
            name, _, version = (source or word).partition("@")
            found.append(f"{name}=={version}" if version not in ("", "latest") else name)
            break
    return found


def _is_installed(plan: Plan, tool: str, files: Files) -> bool:
    """Whether a step installs the tool, or requirements that name it."""
    brings = python_setup.may_bring(files, tool)
    if tool in plan.clients or (brings and not plan.clients.keys() <= {"tox", "nox"}):
        return True
    for command in plan.commands:
        names = {re.split(r"[=<>~\[;!]", word)[0] for word in command}
        if tool in names or (brings and {"-e", "-r"} & names):
            return True
    return False


# ── words and code ──


def _under(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder and not name.startswith("/") else name


def _shell(step: Step, code: str) -> tuple[str, ...]:
    lines = []
    for name, value in dict(step.env).items():
        lines.append(f"export {name}={shlex.quote(value)}")
    if step.folder:
        lines.append(f"cd {shlex.quote(step.folder)}")
    return (step.shell or "sh", "-e", "-c", gates.with_places("\n".join([*lines, code])))
