"""Whether an agent works here: its program, version, login, and a unit in a scratch repository.

Invariant: this check writes nothing in the repository, and deletes the scratch line afterwards.
"""

import os
import re
import shlex
import shutil
import signal
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Literal

import anyio

from factory.agents.runtime import Runtime, environment, find
from factory.child import process
from factory.cli import life, place, say, scratch
from factory.dispatch.agents import the_runtime
from factory.ground import conventions, settings_file
from factory.ground.errors import FactoryError
from factory.ground.places import home, places
from factory.store import rows, unit_rows, unit_views
from factory.store.states import UnitState

Grade = Literal["ok", "note", "bad"]
Looked = Literal["program", "version", "login", "smoke"]
OK: Grade = "ok"
NOTE: Grade = "note"
BAD: Grade = "bad"
STYLES = {OK: "green", NOTE: "yellow", BAD: "red"}
MINUTES, MOST_S = 3, 240  # minutes for the agent, seconds for the whole check
UNIT: Looked = "smoke"
ENDS = (UnitState.LANDED, UnitState.HELD, UnitState.WAITING, UnitState.CANCELLED)
_GATE = "#!/bin/sh\ntest ! -e hello.txt || grep -qi hello hello.txt\n"
_TASK = f"""---
agent: %s
attempts: 1
minutes: {MINUTES}
accept: ["grep -qi hello hello.txt"]
---
# Say hello

Write the file hello.txt here, with one line in it: hello

Nothing else is to be done.
"""


class Check(rows.Row):
    """One thing that was checked."""

    check: Looked
    """What was checked: `smoke` is a unit that the agent has to land."""

    grade: Grade
    """`bad`: it has to be repaired before this agent works here."""

    says: str
    """What was found."""

    fix: str
    """How to repair it; empty if nothing has to be repaired."""

    last_words: str
    """The last output of the program or agent."""


class AgentCheck(rows.Row):
    """What `factory doctor --agent NAME --json` prints."""

    schema: Literal[1]
    """The version of this format."""

    agent: str
    """The name of the runtime."""

    ok: bool
    """Whether nothing is bad."""

    checks: Sequence[Check]
    """What was checked, in that order; the first bad program ends the check."""


def check_agent(args: Namespace) -> int:
    """Check the agent and report line by line; return exit code 1 if something needs a repair."""
    told = []
    good = True
    for each in _look(Path(place.repository()), args.agent, dict(os.environ)):
        told.append(each)
        good = good and each.grade != BAD
        if not args.json:
            print("\n".join(_lines(each)), flush=True)
    if args.json:
        row = AgentCheck(schema=rows.VERSION, agent=args.agent, ok=good, checks=told)
        print(say.as_json(row))
    return int(not good)


def _found(check: Looked, grade: Grade, says: str, fix: str = "", last_words: str = "") -> Check:
    return Check(check=check, grade=grade, says=says, fix=fix, last_words=last_words)


def _lines(each: Check) -> Iterator[str]:
    grade = say.paint(f"{each.grade:<5}", STYLES[each.grade])
    yield f"{grade} {each.check}: {say.clean(each.says)}"
    for text in say.clean(each.last_words).strip().splitlines()[-10:]:
        yield f"      | {text}"
    if each.fix:
        yield f"      to fix it: {say.clean(each.fix)}"


def _look(top: Path, name: str, environ: Mapping[str, str]) -> Iterator[Check]:
    settings_file.load(top / "factory.toml", environ)  # refused as a daemon would refuse it
    texts, folder = conventions.read_own(top)
    mine = (f"{folder}/runtimes/", f"{folder}/prompts/")
    own = {path: text for path, text in texts.items() if path.startswith(mine)}
    runtime = the_runtime(name, conventions.overlay(own, conventions.read_shipped(), folder))
    first = runtime.program
    program = find(first, path=environ.get("PATH", ""), root=top)
    if program is None:
        where = "does not exist, or is not executable" if "/" in first else "is not on PATH"
        yield _found(
            "program", BAD, f"{first} {where}", runtime.doctor.install or f"install {first}"
        )
        return
    yield _found("program", OK, str(program))
    if runtime.doctor.known_good:
        yield _version(runtime, program, environ)
    login = ""
    if runtime.doctor.logged_in:
        seen = _login(runtime, environ)
        yield seen
        login = seen.fix
    if "/" in first and not Path(first).is_absolute():
        own[first] = ""  # the path is inside the repository
    own[f"{folder}/gates/10-hello.sh"] = _GATE
    with tempfile.TemporaryDirectory(
        prefix="factory-doctor-", ignore_cleanup_errors=True
    ) as folder:
        yield _smoke(Path(folder) / "scratch", runtime, top, own, environ, login)


def _version(runtime: Runtime, program: Path, environ: Mapping[str, str]) -> Check:
    known, install = runtime.doctor.known_good, runtime.doctor.install
    argv = [str(program), *runtime.doctor.version]
    done = anyio.run(partial(process.run, argv, env=environment(runtime, environ, {}), seconds=30))
    said = (done.out + done.err).decode(errors="replace")
    found = re.search(r"\d+(\.\d+)+", said)
    if done.code or not found:
        return _found(
            "version", BAD, f"{shlex.join(argv)} printed none (exit {done.code})", install, said
        )
    from packaging.version import Version

    if Version(found[0]) == Version(known):
        return _found("version", OK, found[0])
    if Version(found[0]) > Version(known):
        return _found(
            "version",
            NOTE,
            f"{found[0]} is newer than the one that factoryd was tested with, {known}",
        )
    return _found(
        "version",
        NOTE,
        f"{found[0]} is older than the one that factoryd was tested with, {known}",
        install,
    )


def _login(runtime: Runtime, environ: Mapping[str, str]) -> Check:
    """Report any sign of a login. A missing sign is no error: there may be other ways to log in."""

    def there(sign: str) -> bool:
        if "/" in sign:
            return (home(environ) / sign).exists()
        return any(fnmatchcase(name, sign) for name, value in environ.items() if value)

    seen = {sign: f"~/{sign}" if "/" in sign else sign for sign in runtime.doctor.logged_in}
    if found := next(filter(there, seen), ""):
        return _found("login", OK, seen[found])
    return _found(
        "login", NOTE, f"none was found: no {', '.join(seen.values())}", runtime.doctor.login
    )


def _smoke(
    root: Path,
    runtime: Runtime,
    top: Path,
    own: Mapping[str, str],
    environ: Mapping[str, str],
    login: str,
) -> Check:
    """Run one unit on a scratch line; `login`: how to log in, if no sign of a login was found."""
    _make(root, top, own)
    begun, environ = time.monotonic(), {**environ, "FACTORY__TRUNK": "main"}
    where = places(root, root / ".git", environ)
    try:
        pid = life.bring_up(str(root), environ, life.command(str(root)))
        try:
            (root / "inbox" / f"{UNIT}.md").write_text(_TASK % runtime.name)
            unit = _ended(str(root), begun + MOST_S)
        finally:
            life.leave(pid, signal.SIGINT, seconds=60)
    finally:
        shutil.rmtree(where.work, ignore_errors=True)
    if unit and unit.state == UnitState.LANDED:
        return _green(unit, time.monotonic() - begun)
    return _red(unit, runtime, login)


def _green(unit: unit_rows.Unit, seconds: float) -> Check:
    used = unit.attempts[-1]
    told = [f"a unit landed in {say.lasted(seconds)}"]
    if used.tokens.input:
        told.append(f"{used.tokens.input} tokens in, {used.tokens.output} out")
    if used.cost_usd:
        told.append(f"${used.cost_usd:.4f}")
    return _found(UNIT, OK, ", ".join(told))


def _red(unit: unit_rows.Unit | None, runtime: Runtime, login: str) -> Check:
    attempt = unit.attempts[-1] if unit and unit.attempts else None
    rest = unit.why if unit else ""
    reason = attempt.reason if attempt and attempt.reason else "it has not ended"
    detail = attempt.detail if attempt else ""
    why = detail or rest or f"nothing happened in {MOST_S} s"
    alone = shlex.join(
        part for part in runtime.command if isinstance(part, str) and part != "{resume}"
    )
    # Some programs do not say that they need a login: they wait for it, or use unknown words.
    look = f"run it in an empty repository and read its messages: {say.clip(alone, 200)}"
    if login:
        look = f"{login}; or {look}"
    rests = f"factoryd pauses it until it may continue; {rest}"
    fix = {"auth": runtime.doctor.login, "limit": rests}.get(reason) or look
    return _found(
        UNIT, BAD, f"a unit did not land: {reason}: {why}", fix, attempt.said if attempt else ""
    )


def _ended(root: str, deadline: float) -> unit_rows.Unit | None:
    """Return the unit when it has ended, or its state at the deadline."""
    unit = None
    while time.monotonic() < deadline and not (unit and unit.state in ENDS):
        time.sleep(0.1)
        with suppress(FactoryError), place.store(root) as con:
            unit = unit_views.show(con, UNIT)
    return unit


def _make(root: Path, top: Path, own: Mapping[str, str]) -> None:
    """Make a repository with one commit: the agent's own files, and the settings in force here."""
    for name, text in {**own, "README": "A scratch repository.\n"}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if text:
            (root / name).write_text(text)
        else:
            (root / name).symlink_to(top / name)
    with suppress(FileNotFoundError):
        shutil.copyfile(top / "factory.toml", root / "factory.toml")
    scratch.commit_all(root, "Begin")
