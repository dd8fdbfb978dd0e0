"""Infers how to make the environment of a Python project.

The client that made the lock file installs: uv, Poetry, PDM or Pipenv; otherwise pip.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from factory.ground.yaml_tree import items, table, text
from factory.inference.files import PYTHON_INPUTS, Files, at, bare
from factory.inference.rules import Setup

# Tools that CI may start although no step installs them: an action does, or `pipx run`.
TOOLS = frozenset(
    "pytest tox nox ruff mypy black isort flake8 pylint codespell pre-commit pyright basedpyright"
    " check-manifest interrogate bandit vulture yamllint djlint doc8 coverage nose2 deptry"
    " validate-pyproject".split()
)
UV = ("sh", "-c", "command -v uv || python -I -m pip install uv")
PRE_COMMIT = ".pre-commit-config.yaml"
VENV = ("{python}", "-I", "-m", "venv", "{venv}")
_INSTALLED = ("pytest", "tox", "ruff", "mypy")  # tools that setup must install in the environment
PIP_INSTALL = (
    "{venv}/bin/python",
    "-I",
    "-m",
    "pip",
    "install",
    "--no-input",
    "--disable-pip-version-check",
)
_CLIENT_OF = {"poetry.lock": "poetry", "pdm.lock": "pdm", "Pipfile.lock": "pipenv"}
_INSTALL_BY: Mapping[str, tuple[str, ...]] = {
    "poetry": ("poetry", "install", "--no-interaction"),
    "pdm": ("pdm", "sync", "--dev"),
    "pipenv": ("pipenv", "sync", "--dev"),
}
_EXTRA_OF_SETUP_PY = re.compile(r"""["'](\w+)["']\s*:\s*\[""")
_FOR_TESTS = re.compile(
    "(tests?|testing|dev|develop|development|checks?|lint|linting|typing|types|typecheck|ci)"
)
_PURPOSE = rf"({_FOR_TESTS.pattern}|base|main)"
_REQUIREMENTS = re.compile(rf"requirements([-_./]?{_PURPOSE})?\.txt|{_PURPOSE}-requirements\.txt")
_OTHER_LISTS = re.compile(r"^[ \t]*(?:-[rc]|--requirement|--constraint)[\s=]+(\S+)", re.MULTILINE)
_EDITABLES = re.compile(r"^[ \t]*(?:-e|--editable)[\s=]+(?:file:)?(\.?[\w./-]+)", re.MULTILINE)


def setup(files: Files, tools: Collection[str]) -> Setup:
    """Return how to make an environment that contains these tools."""
    runners = [tool for tool in _INSTALLED if tool in tools]
    if "uv.lock" in files.names:
        return _uv_setup(files, runners)
    client = _client(files)
    if client:
        return _client_setup(files, client, runners)
    named = _named_requirements(files)
    lists = sorted(filter(_REQUIREMENTS.fullmatch, files.names))
    if named or lists or runners:
        return _pip_setup(files, named, lists, runners)
    if "unittest" in tools:
        # The Python on PATH may have an editable install of the project, so tests get an empty
        # venv.
        venv = (*VENV, "--without-pip")
        return Setup(
            commands=(venv,), inputs=(".python-version",), reason="Python, no requirements"
        )
    return Setup()


def _uv_setup(files: Files, runners: Sequence[str]) -> Setup:
    sync = ["uv", "sync", "--locked", "--inexact"]
    for extra in _for_tests(files, "project", "optional-dependencies"):
        sync += ["--extra", extra]
    for group in _for_tests(files, "dependency-groups"):
        sync += ["--group", group]
    sync += reinstalled(files)
    commands = [
        VENV,
        UV,
        tuple(sync),
    ]
    locked = files.text("uv.lock").splitlines()
    more = [tool for tool in runners if f'name = "{tool}"' not in locked]
    if more:
        commands.append(("uv", "pip", "install", *more))
    return Setup(
        kind="uv",
        commands=tuple(commands),
        inputs=PYTHON_INPUTS,
        rebuild=(tuple(sync),),
        reason="uv.lock is there",
    )


def client_commands(name: str, *requirements: str) -> list[tuple[str, ...]]:
    """Return the commands that install a client apart from the packages of the project.

    `requirements`: what to install instead of the newest release. tox and nox need pluggy and
    packaging, and a project of that name must not be tested as an installed copy.
    """
    home = f"{{venv}}/tools/{name}"
    install = requirements or (name,)
    return [
        ("{python}", "-I", "-m", "venv", home),
        (f"{home}/bin/python", "-I", "-m", "pip", "install", "--no-input", *install),
        ("ln", "-sf", f"{home}/bin/{name}", f"{{venv}}/bin/{name}"),
    ]


def _client(files: Files) -> str:
    """Return the client that manages the project, or "" for pip."""
    if "poetry.lock" in files.names or "poetry" in at(files.pyproject, "tool"):
        return "poetry"
    return next((name for lock, name in _CLIENT_OF.items() if lock in files.names), "")


def _client_setup(files: Files, client: str, runners: Sequence[str]) -> Setup:
    install = _INSTALL_BY[client]
    if client == "poetry":
        optional = []
        for group, about in at(files.pyproject, "tool", "poetry", "group").items():
            is_optional = isinstance(about, dict) and about.get("optional") is True
            if is_optional and _FOR_TESTS.fullmatch(group):
                optional.append(group)
        if optional:
            install = (*install, "--with", ",".join(optional))
        for extra in _for_tests(files, "tool", "poetry", "extras"):
            install = (*install, "--extras", extra)
    missing = [tool for tool in runners if not may_bring(files, tool)]
    commands = [VENV, *client_commands(client), install]
    if missing:
        commands.append((*PIP_INSTALL, *missing))
    return Setup(
        kind="pip",
        commands=tuple(commands),
        inputs=(*PYTHON_INPUTS, *_CLIENT_OF, "poetry.toml", "pdm.toml", "Pipfile"),
        rebuild=(install,),
        reason=f"{client} manages the project",
    )


def reinstalled(files: Files) -> list[str]:
    """Return the options that make uv build the project itself again.

    uv's cache may contain an earlier build of the project, made from another tree.
    """
    project = at(files.pyproject, "project").get("name")
    return ["--reinstall-package", project] if isinstance(project, str) else []


def may_bring(files: Files, tool: str) -> bool:
    """Whether the project's own lists of requirements name the tool."""
    return bool(re.search(rf"(?<![\w-]){re.escape(tool)}(?![\w-])", files.manifests))


def pinned(files: Files, tool: str) -> str:
    """Return the requirement of a tool with the version that the project uses.

    The version of pre-commit's hook counts first, then that of a requirement, then the newest.
    """
    for repo in items(files.yaml(PRE_COMMIT).get("repos")):
        url = text(table(repo).get("repo"))
        if re.search(rf"(/|/mirrors-|/pre-commit-){re.escape(tool)}(-pre-commit)?(\.git)?$", url):
            version = text(table(repo).get("rev")).lstrip("v")
            if re.fullmatch(r"\d[\w.]*", version):
                return f"{tool}=={version}"
    # A requirement with a marker is for another version of Python.
    found = re.search(
        rf"(?<![\w-]){re.escape(tool)}(\s*[=~<>!]=?\s*[\d.][\w.*]*)(?!\S*\s*;)",
        files.manifests,
    )
    return f"{tool}{found[1].replace(' ', '')}" if found else tool


def _pip_setup(
    files: Files, named: Sequence[str], lists: Sequence[str], runners: Sequence[str]
) -> Setup:
    read: list[str] = []
    for name in lists:
        read += ["-r", name]
    installs = [[*named, *read, *runners]]
    if "--hash" in files.text(*lists):
        # If one package has a hash, pip requires hashes for all packages of the command.
        installs = [read, [*named, *runners]]
    commands = [(*PIP_INSTALL, *install) for install in installs if install]
    return Setup(
        kind="pip",
        commands=(VENV, *commands),
        inputs=(*PYTHON_INPUTS, *_read_too(files, lists)),
        # installs only editable packages, because all other packages exist
        rebuild=tuple(commands),
        reason="a venv with " + " ".join([*named, *lists, *runners]),
    )


def _named_requirements(files: Files) -> list[str]:
    """Return the arguments that make pip install the project and its dependency groups."""
    named = []
    is_project = "project" in files.pyproject or "build-system" in files.pyproject
    if is_project or "setup.py" in files.names:
        extras = ",".join(_extras(files))
        named += ["-e", f".[{extras}]" if extras else "."]
    groups = at(files.pyproject, "dependency-groups")
    for group in _for_tests(files, "dependency-groups"):
        named += _group(groups, group, ())
    return named


def _extras(files: Files) -> list[str]:
    """Return the extras of the project that tests need."""
    found = _for_tests(files, "project", "optional-dependencies")
    found += filter(_FOR_TESTS.fullmatch, _extras_of_setup_cfg(files.text("setup.cfg")))
    _, _, after = files.text("setup.py").partition("extras_require")
    found += filter(_FOR_TESTS.fullmatch, _EXTRA_OF_SETUP_PY.findall(after))
    return list(dict.fromkeys(found))


def _extras_of_setup_cfg(text: str) -> list[str]:
    if "extras_require" not in text:
        return []
    import configparser  # here, because few projects need it

    config = configparser.RawConfigParser(strict=False)
    try:
        config.read_string(text)
        return config.options("options.extras_require")
    except configparser.Error:
        return []


def _for_tests(files: Files, *table: str) -> list[str]:
    """Return the names of those extras or dependency groups in a table that tests need."""
    return list(filter(_FOR_TESTS.fullmatch, at(files.pyproject, *table)))


def _group(groups: Mapping[str, Any], name: str, seen: tuple[str, ...]) -> list[str]:
    """Return the requirements of a dependency group, including those of nested groups."""
    items = groups.get(name)
    if name in seen or not isinstance(items, list):
        return []
    found: list[str] = []
    for item in items:
        included = item.get("include-group") if isinstance(item, dict) else None
        if isinstance(included, str):
            found += _group(groups, included, (*seen, name))
        elif isinstance(item, str):
            found.append(item)
    return found


def _read_too(files: Files, lists: Sequence[str]) -> list[str]:
    """Return the files named by requirement files or by dynamic metadata; these are read too."""
    text = files.text(*lists)
    found: list[str] = _OTHER_LISTS.findall(text)
    for folder in _EDITABLES.findall(text):
        found += [f"{folder}/pyproject.toml", f"{folder}/setup.py", f"{folder}/setup.cfg"]
    for source in at(files.pyproject, "tool", "setuptools", "dynamic").values():
        named = source.get("file", []) if isinstance(source, dict) else []
        found += map(str, named if isinstance(named, list) else [named])
    return sorted(set(map(bare, found)))
