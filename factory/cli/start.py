"""Starts the factory of this repository; says what it inferred, for none of it need be configured.

factoryd start
factoryd start --workers 5
factoryd start --foreground    for systemd and containers
"""

import os
import sys
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import anyio

import factory
from factory import git, process, settings
from factory.cli import place, say
from factory.cli.config import inferred_lines
from factory.errors import FactoryError, UsageError
from factory.stores import views

ARGUMENTS = {
    "--foreground": "stay in this terminal",
    "--workers N": "units at the same time, in place of factory.toml's",
}
WAIT_S = 120.0


def run(args: Namespace) -> int:
    """Start it unless it runs."""
    top, environ = place.repository(), dict(os.environ)
    if args.workers is not None:
        if not args.workers.isdigit():
            raise UsageError(f"--workers takes a number, not {args.workers!r}")
        environ["FACTORY__WORKERS"] = args.workers
    seen = place.daemon(top)
    if seen["state"] != "stopped":
        print(f"already running (pid {seen['pid']})")
        return 0
    _examine(top, environ)
    if args.foreground:
        os.chdir(_home())
        os.execve(sys.executable, _command(top), environ)
    return launch(top, environ)


def launch(top: str, environ: Mapping[str, str], argv: Sequence[str] = ()) -> int:
    """Start the daemon (`argv`: another program in its place) in the background; return when it is up or gave up."""
    output = Path(place.within(top, "daemon.out"))
    output.parent.mkdir(exist_ok=True)
    pid = process.detach(argv or _command(top), _home(), environ, output)
    deadline = time.monotonic() + WAIT_S
    while not _up(top, pid):
        _refuse_dead(pid, output)
        if time.monotonic() > deadline:
            raise FactoryError(
                f"the daemon (pid {pid}) is not up after {WAIT_S:.0f} s.\n  see: {output.with_name('daemon.log')}"
            )
        time.sleep(0.02)
    print("\n".join(_greeting(top, pid)))
    return 0


def _examine(top: str, environ: Mapping[str, str]) -> None:
    """Let what the daemon would refuse be refused here, before anything is written."""
    trunk = settings.load(Path(top) / "factory.toml", environ).trunk
    anyio.run(partial(git.examine, Path(top), environ, trunk=trunk))


def _command(top: str) -> list[str]:
    return [sys.executable, "-m", "factory.daemon", top]


def _home() -> Path:
    # `-m` looks in the working folder first, and a repository may well have a package named factory.
    return Path(factory.__file__).parents[1]


def _up(top: str, pid: int) -> bool:
    try:
        return Path(place.within(top, "daemon.pid")).read_text().strip() == str(pid)
    except FileNotFoundError:
        return False


def _refuse_dead(pid: int, output: Path) -> None:
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
    if ended:
        said = say.clean(output.read_text(errors="replace")).strip().splitlines()[-15:]
        failure = FactoryError("the daemon did not start:\n  " + "\n  ".join(said or ["it said nothing"]))
        failure.exit_code = max(1, os.waitstatus_to_exitcode(status))
        raise failure


def _greeting(top: str, pid: int) -> list[str]:
    with place.store(top) as con:
        trunk = views.fact(con, "trunk") or {}
        lines = [f"factoryd is running (pid {pid}) on {trunk.get('branch')} {(trunk.get('commit') or '')[:10]}"]
        lines += inferred_lines(views.fact(con, "inferred") or {})
        lines += [say.paint(f"  ! {say.line(warning)}", "yellow") for warning in views.fact(con, "warnings") or []]
    return [*lines, f"  drop task files into {top}/inbox/ and look in with: factory status"]
