"""Makes a repository for a trial from the files in a folder.

Invariant: nothing in the user's git configuration affects it.
"""

import os
import shlex
from functools import partial
from pathlib import Path

import anyio

from factory.child import process
from factory.cli import say
from factory.ground.errors import FactoryError
from factory.repo.git import FACTORY
from factory.repo.git_dir import clean_environment

_WHO = ("-c", f"user.name={FACTORY.name}", "-c", f"user.email={FACTORY.email}")
_PLAIN = (
    *("-c", "commit.gpgSign=false"),
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.excludesFile=/dev/null"),
    *("-c", "core.autocrlf=false"),
)


def commit_all(root: Path, subject: str) -> None:
    """Make the folder a repository with one commit of all its files; raise FactoryError."""
    _git(root, "init", "-q", "--template=", "-b", "main")
    _git(root, "add", "-A")
    _git(root, "commit", "-q", "-m", subject)


def _git(root: Path, *argv: str) -> None:
    command = ["git", *_PLAIN, *_WHO, *argv]
    environ = clean_environment(os.environ)
    try:
        done = anyio.run(partial(process.run, command, cwd=root, env=environ))
    except FileNotFoundError as error:
        raise FactoryError(
            "git is not installed, or not on PATH. factoryd needs git 2.41 or newer."
        ) from error
    if done.code:
        why = say.line(done.err.decode(errors="replace"))
        raise FactoryError(f"{shlex.join(command)} failed in a scratch folder: {why}")
