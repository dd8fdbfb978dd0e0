"""Looks for what is missing or stray, and names the command that mends it. Exit code 1: something has to be mended.

factory doctor
"""

import os
import platform
from argparse import Namespace
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import anyio

from factory import conventions, git, runtime, settings
from factory.cli import place, say
from factory.errors import ConfigError, FactoryError
from factory.stores import views

OK, NOTE, BAD = "ok", "note", "bad"
_STYLES = {OK: "green", NOTE: "yellow", BAD: "red"}

Finding = tuple[str, str, str]  # how bad, what, what mends it


def run(_: Namespace) -> int:
    """Print the findings."""
    top = place.repository()
    worst = OK
    for grade, what, mend in _findings(Path(top)):
        worst = BAD if grade == BAD else worst
        print(
            f"{say.paint(f'{grade:<5}', _STYLES[grade])} {say.clean(what)}" + (f"\n      mend: {mend}" if mend else "")
        )
    return 1 if worst == BAD else 0


def _findings(top: Path) -> Iterator[Finding]:
    yield OK, f"python {platform.python_version()}", ""
    agent, trunk = "", ""
    try:
        loaded = settings.load(top / "factory.toml", os.environ)
        agent, trunk = loaded.agent, loaded.trunk
        yield OK, "factory.toml" + ("" if (top / "factory.toml").exists() else " (none: defaults)"), ""
    except ConfigError as error:
        yield BAD, str(error), "edit factory.toml; what may stand there: factoryd init in an empty folder"
    yield _repository(top, trunk)
    yield from _runtimes(top, agent)
    yield from _daemon(top)


def _repository(top: Path, trunk: str) -> Finding:
    try:
        found = anyio.run(partial(git.examine, top, os.environ, trunk=trunk))
    except FactoryError as error:
        return BAD, str(error), ""
    return OK, f"git repository, {found.branch} at {found.commit[:10]}", ""


def _runtimes(top: Path, agent: str) -> Iterator[Finding]:
    own = {path.relative_to(top).as_posix(): path.read_text() for path in top.glob("conventions/runtimes/*.toml")}
    installed = 0
    for name, file in conventions.overlay(own, conventions.read_shipped()).runtimes.items():
        try:
            command = str(runtime.parse_runtime(name, file.text, where=file.where).command[0])
        except ConfigError as error:
            yield BAD, str(error), f"edit {file.where}"
            continue
        if found := runtime.find(command, path=os.environ.get("PATH", ""), root=top):
            installed += 1
            yield OK, f"agent {name}: {found}", ""
        else:
            grade = BAD if name == agent else NOTE
            yield grade, f"agent {name}: no command {command} on PATH", f"install {command}, if you want to use it"
    if not installed:
        yield (
            NOTE,
            "no agent is installed: only units with `run:` can be done",
            "npm install -g @anthropic-ai/claude-code",
        )


def _daemon(top: Path) -> Iterator[Finding]:
    if not (top / ".factory").is_dir():
        yield NOTE, "no factory has been started here", "factoryd start"
        return
    try:
        with place.store(str(top)) as con:
            seen = views.status(con, views.now_text())
    except FactoryError as error:
        yield BAD, str(error), ""
        return
    state = seen["daemon"]["state"]
    yield (
        (NOTE, "the daemon is stopped", "factoryd start") if state == "stopped" else (OK, f"the daemon is {state}", "")
    )
    if state != "stopped":
        return
    if (top / ".factory/daemon.pid").exists():
        yield NOTE, "the last daemon did not end in order: its pid file is still there", "factoryd start (it tidies up)"
    for worker in seen["workers"]:
        folder = Path(place.run_dir(str(top), worker["unit"] or "", worker["attempt"] or 0))
        if worker["unit"] and (folder / "start.json").exists() and not (folder / "exit.json").exists():
            what = f"attempt {worker['attempt']} of {worker['unit']} may still run without a daemon"
            yield NOTE, what, "factoryd start (takes it over), or factoryd stop (ends it)"
