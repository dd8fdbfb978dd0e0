"""Small real git repositories for tests, made in an environment that knows nothing of this machine."""

import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from factory.child import proc

PERSON = "Ada Tester"
EMAIL = "ada@example.invalid"


def environment(home: Path | None = None) -> dict[str, str]:
    """A complete environment for git: fixed identity and dates, neither global nor system configuration."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home or "/nonexistent"),
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_AUTHOR_NAME": PERSON,
        "GIT_AUTHOR_EMAIL": EMAIL,
        "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z",
        "GIT_COMMITTER_NAME": PERSON,
        "GIT_COMMITTER_EMAIL": EMAIL,
        "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z",
    }


def git(path: Path, *args: str, ok: bool = True) -> str:
    """What a git command in `path` prints, stripped of the last newline; `ok=False` lets it fail."""
    done = subprocess.run(
        ["git", *args],
        cwd=path,
        env=environment(),
        check=False,
        capture_output=True,
        text=True,
        errors="surrogateescape",
    )
    assert done.returncode == 0 or not ok, f"git {' '.join(args)}: {done.stderr}"
    return done.stdout.rstrip("\n")


def write(path: Path, files: Mapping[str, str]) -> None:
    """Write files (text as it is, folders made) below `path`."""
    for name, text in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text, newline="")


def commit(path: Path, files: Mapping[str, str], message: str = "change") -> str:
    """Write files, commit everything in the working tree, and return the commit's id."""
    write(path, files)
    git(path, "add", "-A")
    git(path, "commit", "-q", "--allow-empty", "-m", message)
    return git(path, "rev-parse", "HEAD")


def make_repo(path: Path, files: Mapping[str, str], branch: str = "main", *options: str) -> Path:
    """A repository with one commit that holds `files`; `options` are further arguments of `git init`."""
    path.mkdir(parents=True, exist_ok=True)
    git(path, "init", "-q", "-b", branch, *options)
    git(path, "config", "user.name", PERSON)
    git(path, "config", "user.email", EMAIL)
    commit(path, files, "start")
    return path


def shows_arguments(started: subprocess.Popen[bytes]) -> None:
    """Wait until a process shows its arguments to others: for an instant after exec it has none."""
    while proc.PROC and proc.arguments(started.pid) == [""]:
        time.sleep(0.001)
