"""The daemon's life: a command starts it, waits until it is up, and makes it stop.

Invariant: before a command writes anything, it refuses what the daemon would refuse. It signals
only a process that has just held the lock.
"""

import os
import shlex
import signal
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

import anyio

from factory.child import proc, process
from factory.cli import place, say
from factory.cli.found import found_lines
from factory.ground import disk, settings_file
from factory.ground.daemon_state import DRAIN_SECONDS
from factory.ground.errors import (
    ConfigError,
    FactoryError,
    RefusedByState,
    RepositoryError,
    StoreError,
    UsageError,
)
from factory.ground.places import Places, check_writable
from factory.reading import INSTALLED
from factory.repo.locate import locate
from factory.repo.opened import opened
from factory.store import rows, views
from factory.store.facts_at import remembered_trunk

WAIT_S = 120.0
OTHER_S = 10.0
# signals that a person or a closed terminal sends
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Hints for a daemon that does not stop.
AT_ONCE = "to stop it at once: factoryd stop --now"
BY_FORCE = "to end it: kill -9 {pid}. The next start continues its work."


def start(args: Namespace) -> int:
    """Starts the daemon of this repository and prints the gates, setup and agents that it found."""
    top, environ = place.repository(), dict(os.environ)
    if args.workers is not None:
        environ["FACTORY__WORKERS"] = args.workers
        _check_workers(top, environ)
    if pid := _running(top):
        _already(top, pid, args.workers)
    else:
        _examine(top, environ)
        if args.foreground:
            _become_daemon(top, environ)
        _launch_or_find(top, environ, args.workers)
    if not (args.wait or sys.stdout.isatty()):
        return 0
    # Only now, because a start that does not wait must not load these modules.
    from factory.cli.follow import follow

    code = follow(top)
    return code if args.wait else 0


def _become_daemon(top: str, environ: Mapping[str, str]) -> NoReturn:
    print(
        f"factoryd runs here on {top}; to see its state: factory status. Ctrl-C stops it.",
        flush=True,
    )
    _say_which_inbox(top)
    os.chdir(INSTALLED)
    os.execve(sys.executable, command(top, program="factory.cli.foreground"), environ)


def _launch_or_find(top: str, environ: Mapping[str, str], workers: str | None) -> None:
    """Start the daemon, or say that another start has just started it; raise FactoryError."""
    try:
        launch(top, environ, command(top))
    except FactoryError as error:
        # If several starts run at the same time, one of them gets the lock. Its daemon may not have
        # reported yet that it runs.
        if error.exit_code != RefusedByState.exit_code or not (pid := _other(top)):
            raise
        _already(top, pid, workers)


def stop(args: Namespace) -> int:
    """Stops the daemon; if no daemon runs, ends the processes that a dead daemon left."""
    if args.drain and args.now:
        raise UsageError("--drain and --now exclude each other")
    top = place.root()
    if original := place.copied_from(top):
        print(
            f"the daemon is not running: this is a copy of {original}, "
            "whose daemon and agents were left alone"
        )
        return 0
    seen = place.daemon(top)
    if seen.pid is None:
        return _end_attempts(top)
    number, grace = signal.SIGTERM, DRAIN_SECONDS
    if args.drain:
        number, grace = signal.SIGUSR1, float("inf")
    elif args.now:
        number, grace = signal.SIGINT, 0.0
    tell = _countdown(top, grace)
    try:
        leave(
            seen.pid,
            number,
            seconds=grace + 60,
            tell=tell,
            otherwise=BY_FORCE if args.now else AT_ONCE,
        )
    except KeyboardInterrupt:
        print("\nstopping at once; unfinished units go back to the queue")
        leave(seen.pid, signal.SIGINT, seconds=60, tell=tell, otherwise=BY_FORCE)
    print("stopped")
    return 0


def _countdown(top: str, grace: float) -> Callable[[float], None]:
    """Print once a second what a stop waits for; without a terminal, print only changes."""
    end = time.monotonic() + grace
    told = ""

    def tell(at: float) -> None:
        nonlocal told
        text = _waits_for(top)
        if text and sys.stdout.isatty():
            left = "" if grace == float("inf") else f" · {max(0, end - at):.0f} s left"
            rest = f"{left} · Ctrl-C stops at once"
            room = (say.columns() or say.COLUMNS) - len(rest) - 1
            print(f"\r\x1b[K{say.clip(text, max(12, room))}{rest}", end="", flush=True)
        elif text not in ("", told):
            print(text, flush=True)
        elif told and sys.stdout.isatty():
            print("\r\x1b[K", end="")
        told = text

    return tell


def _waits_for(top: str) -> str:
    """Return the units that workers hold, and the slow git commands; empty if there are none."""
    try:
        with place.store(top) as con:
            workers = views.workers(con)
            slow = views.slow_commands(con)
    except StoreError:  # while it stops, the daemon closes the store
        return ""
    busy = [worker.unit for worker in workers if worker.unit]
    waits = []
    if busy:
        waits.append(f"waiting for {', '.join(busy)}")
    for sentence in slow:
        waits.append(f"waiting: {sentence}")
    return "; ".join(waits)


def restart(_: Namespace) -> int:
    """Replaces the daemon by a new one, which takes over its agents, gates and setups."""
    top = place.repository()
    seen = place.daemon(top)
    _examine(
        top,
        os.environ,
        # Check this first: if the new daemon would refuse to start, the old one keeps running.
    )
    if seen.pid is not None:
        leave(seen.pid, signal.SIGHUP, seconds=60)
    return launch(top, os.environ, command(top))


def launch(top: str, environ: Mapping[str, str], argv: Sequence[str]) -> int:
    """Start the daemon in the background and print that it is up; raise FactoryError."""
    print("\n".join(_greeting(top, bring_up(top, environ, argv))))
    return 0


def bring_up(top: str, environ: Mapping[str, str], argv: Sequence[str]) -> int:
    """Start the daemon; return its pid when it is up. A Ctrl-C before that stops it again."""
    output, mark = Path(place.within(top, "daemon.out")), Path(place.within(top, "daemon.pid"))
    output.parent.mkdir(exist_ok=True)
    pid = 0
    try:
        with interrupts_held():
            pid = process.detach(argv, INSTALLED, environ, output)
        _wait_until_up(pid, mark, output)
    except KeyboardInterrupt:
        print("interrupted: the daemon that was starting is stopped again", flush=True)
        leave(pid, signal.SIGINT, seconds=60)
        raise
    return pid


def _wait_until_up(pid: int, mark: Path, output: Path) -> None:
    deadline = time.monotonic() + WAIT_S
    while not (mark.exists() and mark.read_text().strip() == str(pid)):
        _refuse_dead(pid, output)
        if time.monotonic() > deadline:
            log = output.with_name("daemon.log")
            raise FactoryError(
                f"the daemon (pid {pid}) is not up after {WAIT_S:.0f} s.\n  see: {log}"
            )
        time.sleep(0.02)


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold back a Ctrl-C until after the block, because only then the pid is known."""
    came = list[int]()
    before = {}
    for number in ENDING:
        handler = signal.getsignal(number)
        if callable(handler):
            before[number] = handler
            signal.signal(number, lambda seen, _: came.append(seen))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def leave(
    pid: int,
    number: int,
    *,
    seconds: float,
    tell: Callable[[float], None] | None = None,
    otherwise: str = AT_ONCE,
) -> None:
    """Signal the daemon and wait until its process is gone; raise FactoryError after `seconds`.

    Calls `tell` about once a second with the monotonic time. `otherwise` is the hint in the error.
    """
    # The report "stopped" in the store is not enough, because the process holds the lock until its
    # end, and the lock blocks a start.
    begun = time.monotonic()
    due = begun + 0.5
    with suppress(ProcessLookupError):
        os.kill(pid, number)
        while (at := time.monotonic()) < begun + seconds:
            if tell and at >= due:
                tell(at)
                due = at + 1
            time.sleep(0.05)
            os.kill(pid, 0)
            if _is_zombie(pid):
                return
        raise FactoryError(
            f"the daemon (pid {pid}) has not ended after {seconds:.0f} s.\n"
            f"  {otherwise.format(pid=pid)}"
        )


def _examine(top: str, environ: Mapping[str, str]) -> None:
    """Refuse settings and repositories that no daemon can work with."""
    trunk = settings_file.load(Path(top) / "factory.toml", environ).trunk
    trunk = trunk or remembered_trunk(top)
    repository = anyio.run(partial(opened, Path(top), environ, trunk=trunk))
    # imported here: the help text does not need all these modules
    from factory.assembly import the_places

    ours = anyio.run(the_places, repository, environ)
    check_writable(ours)
    _check_work(top, ours)
    _check_lock(top, ours)


def _check_lock(top: str, ours: Places) -> None:
    """Raise RefusedByState if another checkout of the repository runs its daemon."""
    lock = ours.lock
    where = lock.read_text(errors="replace").strip() if lock.exists() else ""
    if where in ("", top) or not _shares(where, ours.common_dir):
        return
    if pid := _running(where):
        look = f"cd {where} && factory status"
        raise RefusedByState(
            f"the factory of this repository already runs, in {where} (pid {pid})\n"
            f"  to see its state: {look}"
        )


def _shares(where: str, common_dir: Path) -> bool:
    """Return whether the checkout has that git dir; the lock file of a copy names the original."""
    with suppress(RepositoryError, OSError):
        return locate(Path(where)).common_dir.samefile(common_dir)
    return False


def _check_work(top: str, where: Places) -> None:
    """Raise RefusedByState if units use another work folder, because their work would be lost."""
    if not where.store.exists():
        return
    with suppress(StoreError), place.store(top) as con:
        known = views.identity(con)
        was = known.work if known else ""
        if views.used_in(con):
            return  # the repository was moved or copied; the start handles that
        busy = [worker.unit for worker in views.workers(con) if worker.unit]
        if busy and was and Path(was).is_dir() and Path(was).resolve() != where.work.resolve():
            state = shlex.quote(str(Path(was).parents[1]))
            raise RefusedByState(
                f"{', '.join(busy)} ran in {was}, and with this HOME or XDG_STATE_HOME "
                f"factoryd would look for them in {where.work}.\n"
                f"  to continue there: XDG_STATE_HOME={state}, the same command again"
            )


def _is_zombie(pid: int) -> bool:
    """Return whether the process has ended and only waits for its parent, without any locks."""
    return proc.stat(pid)[:1] == ["Z"]


def _check_workers(top: str, environ: Mapping[str, str]) -> None:
    """Raise UsageError if the number of workers is invalid.

    Later code reports other errors in factory.toml.
    """
    try:
        settings_file.load(Path(top) / "factory.toml", environ)
    except ConfigError as error:
        if "FACTORY__WORKERS" in str(error):
            form = "it takes a whole number from 1 to 64, as in --workers 3"
            raise UsageError(f"--workers {environ['FACTORY__WORKERS']}: {form}") from error


def _running(top: str) -> int:
    """Return the daemon's pid, or 0; the daemon itself reports an unreadable store."""
    with suppress(StoreError):
        return place.daemon(top).pid or 0
    return 0


def _other(top: str) -> int:
    """Return the pid of the daemon that another start has just brought up, or 0."""
    deadline = time.monotonic() + OTHER_S
    while not (pid := _running(top)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return pid


def _already(top: str, pid: int, workers: str | None) -> None:
    print(f"already running (pid {pid})")
    _say_which_inbox(top)
    if workers is not None:
        print(
            f"--workers {workers} was not applied. "
            f"Write this into factory.toml: workers = {workers}"
        )


def _say_which_inbox(top: str) -> None:
    with suppress(StoreError), place.store(top) as con:
        for text in place.which_inbox(top, views.inbox(con)):
            print(text, flush=True)


def command(top: str, *, program: str = "factory.daemon") -> list[str]:
    """Return the command that runs the daemon of that repository."""
    return [sys.executable, "-m", program, top]


def _refuse_dead(pid: int, output: Path) -> None:
    with suppress(ChildProcessError):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            said = say.clean(output.read_text(errors="replace")).strip().splitlines()[-15:]
            said = said or [disk.complaint(str(output.parent)) or "it printed nothing"]
            failure = FactoryError("the daemon did not start:\n  " + "\n  ".join(said))
            failure.exit_code = max(1, os.waitstatus_to_exitcode(status))
            raise failure


def _greeting(top: str, pid: int) -> Iterator[str]:
    with place.store(top) as con:
        trunk = views.trunk(con)
        yield f"factoryd is running (pid {pid}) on {trunk.branch} {(trunk.commit or '')[:10]}"
        yield from found_lines(views.inferred(con), short=True)
        for warning in views.warnings(con):
            yield say.paint(f"  ! {say.line(warning)}", "yellow")
        if why := views.names_why(con):
            yield f"  {say.line(why)}"
        inbox = views.inbox(con)
    yield f"  drop task files into {top}/{inbox}/; to see its state: factory status"
    yield from place.which_inbox(top, inbox)


def _end_attempts(top: str) -> int:
    """End everything that a dead daemon left running."""
    with place.store(top) as con:
        hung = [worker for worker in views.workers(con) if worker.unit]
        # The processes still have the path at which they were started.
        roots = list(dict.fromkeys([top, views.used_in(con) or top]))
    for worker in hung:
        for root in roots:
            _end_attempt(root, worker)
    judged = 0
    for root in roots:
        judged += _end_judgings(root)
    ended = f"; ended attempts that it left: {len(hung)}" if hung else ""
    ended += f"; ended gates and setups that it left: {judged}" if judged else ""
    print(f"the daemon is not running{ended}")
    return 0


def _end_attempt(root: str, worker: rows.Worker) -> None:
    folder = place.run_dir(root, worker.unit or "", worker.attempt or 0)
    if not anyio.run(process.end, Path(folder)):
        raise FactoryError(
            f"attempt {worker.attempt} of {worker.unit} still runs and could not be ended."
        )


def _end_judgings(root: str) -> int:
    """End the gates and setups that run for this checkout; return their number."""
    from factory.repo.underway import unended

    ended = 0
    for run in unended(Path(place.within(root, "judged"))):
        if not process.is_running(run):
            continue
        ended += 1
        if not anyio.run(process.end, run):
            raise FactoryError(f"the gate or setup of {run} still runs and could not be ended.")
    return ended
