"""Infers gates from tox and nox, which make their own environments inside the tree."""

import re
from collections.abc import Iterator, Sequence

from factory.inference import python_setup
from factory.inference.ci import scripts
from factory.inference.files import PYTHON_INPUTS, Files, at
from factory.inference.rules import CHECKS, TESTS, Gate, Setup

FILES = ("tox.ini", "noxfile.py")
RULED_BY = {"nox": ("noxfile.py",)}
_ENV_LIST = re.compile(r"^env_?list\s*=\s*((?:.*\n)(?:[ \t]+.*\n)*)", re.MULTILINE)
_BRACES = re.compile(r"\{([^{}]*)\}")
_SESSION = re.compile(r"^@(?:nox\.)?session\b(?:.*\n)+?def (\w+)\(", re.MULTILINE)
_VERSION = re.compile(r"^(py)?-?3[.\d]*(?=-|$)")
# An environment of development versions of other packages: their changes are not this project's.
_MOVING = re.compile(r"(main|master|devel|trunk|nightly|edge|latest)$|-dev$")
_CHECKING = ("lint", "types", "format")
MOST_ENVIRONMENTS = 6


def gates(files: Files) -> Iterator[Gate]:
    """Yield a gate for each environment of tox, or session of nox, that checks or tests."""
    for program, names, origin in (
        ("tox", _tox_environments(files), "tox.ini"),
        ("nox", _nox_sessions(files), "noxfile.py"),
    ):
        found = list(_gates_of(program, names, origin))[:MOST_ENVIRONMENTS]
        if any(gate.group == TESTS for gate in found):
            yield from found
            return


def _gates_of(program: str, names: Sequence[str], origin: str) -> Iterator[Gate]:
    """Yield the gates of environments; `py`, which has the tests, is the first."""
    for name in sorted(names, key=lambda name: name != "py"):
        kind = scripts.kind_by_name(name)
        if kind == "test" or kind in _CHECKING:
            option = ("run", "-e") if program == "tox" else ("-s",)
            group = TESTS if kind == "test" else CHECKS
            yield Gate(f"{program}-{name}", group, (program, *option, name), origin)


def setup(files: Files, gates: Sequence[Gate]) -> Setup:
    """Return the setup that makes the environments of these gates."""
    program = gates[0].command[0]
    names = [gate.command[-1] for gate in gates]
    requirement = python_setup.pinned(files, program)
    if program == "tox":
        prepare: tuple[str, ...] = ("{venv}/bin/tox", "run", "--notest", "-e", ",".join(names))
    else:
        options = ("--install-only", "--reuse-existing-virtualenvs", "-s")
        prepare = ("{venv}/bin/nox", *options, *names)
    return Setup(
        kind="pip",
        commands=(
            python_setup.VENV,
            *python_setup.client_commands(program, requirement),
            prepare,
        ),
        inputs=(*PYTHON_INPUTS, "tox.ini", "noxfile.py", "requirements/*.in"),
        keeps=(f".{program}",),
        rebuild=(prepare,),
        reason=f"{program} makes the environments",
    )


def _tox_environments(files: Files) -> list[str]:
    """Return the environments that tox runs by default, with one Python: the default one."""
    if "tox.ini" not in files.names:
        return []
    listed = at(files.pyproject, "tool", "tox").get("env_list")
    names = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
    found = _ENV_LIST.search(files.text("tox.ini"))
    if found:
        names = [name.strip() for name in re.split(r"[,\n](?![^{]*\})", found[1])]
    chosen: dict[str, None] = {}
    for name in names:
        for each in _unfolded(name):
            # `py` stands for the Python that runs tox.
            if _MOVING.search(each):
                continue
            chosen[_VERSION.sub("py", each)] = None
    chosen.pop("", None)
    return list(chosen)


def _unfolded(name: str) -> list[str]:
    """Return the names that `py{39,310}-a` stands for."""
    braces = _BRACES.search(name)
    if not braces:
        return [name]
    found = []
    for value in braces[1].split(",")[:20]:
        found += _unfolded(name.replace(braces[0], value.strip(), 1))
    return found[:50]


def _nox_sessions(files: Files) -> list[str]:
    return _SESSION.findall(files.text("noxfile.py"))
