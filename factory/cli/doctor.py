"""What is missing on this machine or wrong in this repository; looks only, and names what mends it."""

import os
from argparse import Namespace
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import anyio

from factory import conventions, git, settings
from factory.agents import find_agents
from factory.cli import place, say
from factory.errors import FactoryError
from factory.stores import views

OK, NOTE, BAD = "ok", "note", "bad"
_STYLES = {OK: "green", NOTE: "yellow", BAD: "red"}


def doctor(_: Namespace) -> int:
    """Looks for what is missing or wrong, and names what mends it. Exit code 1: something has to be mended.

    factory doctor
    """
    findings = list(_findings(Path(place.repository())))
    for grade, what in findings:
        print(say.paint(f"{grade:<5}", _STYLES[grade]), say.clean(what))
    return 1 if any(grade == BAD for grade, _ in findings) else 0


def _findings(top: Path) -> Iterator[tuple[str, str]]:
    agent = trunk = ""
    try:
        chosen = settings.load(top / "factory.toml", os.environ)
        agent, trunk = chosen.agent, chosen.trunk
    except FactoryError as error:
        yield BAD, str(error)
    try:
        trunk = trunk or views.remembered_trunk(str(top))
        found = anyio.run(partial(git.examine, top, os.environ, trunk=trunk))
        yield OK, f"git repository, trunk is {found.branch}"
    except FactoryError as error:
        yield BAD, str(error)
    own = {path.relative_to(top).as_posix(): path.read_text() for path in top.glob("conventions/runtimes/*.toml")}
    ruling = conventions.overlay(own, conventions.read_shipped())
    agents = find_agents(ruling, configured=agent, path=os.environ.get("PATH", ""), root=top)
    yield from ((OK, f"agent {name} is installed") for name in agents.installed)
    yield from ((BAD if name == agent else NOTE, why) for name, why in agents.missing.items())
    if not agents.installed:
        yield NOTE, "no agent is installed: only units with `run:` can be done"
    try:
        state = place.daemon(str(top))["state"]
        yield (
            (NOTE, "the daemon is stopped; start it: factoryd start") if state == "stopped" else (OK, f"daemon {state}")
        )
    except FactoryError as error:
        yield BAD, str(error)
