"""Which environments tox and nox run, in the spelling that every later step understands.

CI often names them in a variable, or lets a plugin choose them by the version of Python.
"""

import re
import shlex
from collections.abc import Sequence
from dataclasses import replace

from factory.inference.ci.shell import Command
from factory.inference.ci.starters import before_dashes, unwrapped
from factory.inference.ci.steps import Step
from factory.inference.ci.tools import Kind

# Programs → the variables that name environments, and the option that does the same.
_VARIABLES = {"tox": ("TOXENV", "TOX_ENV"), "nox": ("NOXSESSION",)}
_OPTION = {"tox": "-e", "nox": "-s"}
_CHOOSING = re.compile(r"^(-[esfmk]|--session|--sessions|--tags)(=|$)|^-[es]\w")
_PLUGIN = re.compile(r"\btox-gh(-actions)?\b")
# The runner has an environment of its own, so the venv's Python has no such module.
_AS_MODULE = re.compile(r"^\s*python[\d.]*\s+-[A-Za-z]*m\s+(?=tox\b|nox\b)")
_INSTALLED_PACKAGE = re.compile(r"\s+--installpkg[= ]\s*\S+")


def named(command: Command) -> Command:
    """Return the command with its environments as an option, and with a package of its own.

    `--installpkg` names a package that another job of CI built; tox builds one from the tree.
    """
    bare = unwrapped(command.words)
    program = bare[0] if bare else ""
    if program not in _OPTION:
        return command
    code = _AS_MODULE.sub("", _INSTALLED_PACKAGE.sub("", command.code))
    env = dict(command.env)
    chosen = [env.pop(name) for name in _VARIABLES[program] if name in env]
    is_named = any(map(_CHOOSING.match, before_dashes(bare[1:])))
    if not is_named and chosen and chosen[0]:
        before, dashes, after = code.partition(" -- ")
        code = f"{before} {_OPTION[program]} {shlex.quote(chosen[0])}{dashes}{after}"
    words = command.words if code == command.code else tuple(shlex.split(code, comments=True))
    return replace(command, code=code, words=words, env=tuple(env.items()))


def with_plugin(steps: Sequence[Step], manifest: str) -> list[Step]:
    """Return the steps with the variable that lets tox-gh choose the environments.

    `manifest`: the text of tox.ini, which may name the plugin too.
    """
    installed = any(_PLUGIN.search(step.code) for step in steps if step.kind is Kind.INSTALL)
    if not installed and not _PLUGIN.search(manifest):
        return list(steps)
    found: list[Step] = []
    for step in steps:
        bare = unwrapped(step.words)
        chooses = any(map(_CHOOSING.match, before_dashes(bare[1:])))
        if bare[:1] == ("tox",) and not chooses:
            step = replace(step, env=(*step.env, ("GITHUB_ACTIONS", "true")))
        found.append(step)
    return found
