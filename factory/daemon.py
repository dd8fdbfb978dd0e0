"""The daemon: runs the loops of one factory in one task group, and stops them in order.

`factoryd start` runs `python -m factory.daemon ROOT`. Signals: TERM drains for a minute, then puts
unfinished units back in the queue. A second TERM, or INT, puts the units back at once. USR1 drains
without a time limit. HUP leaves the agents running for the next daemon.
"""

import json
import os
import secrets
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import TaskGroup, TaskStatus

from factory import __version__
from factory.assembly import HOME, Floor, assemble, the_places, the_repository
from factory.child import process
from factory.desk import SCAN_SECONDS, Desk, hide
from factory.ground import bounded, faults
from factory.ground.daemon_state import DRAIN_SECONDS, DaemonState, Stopping, now
from factory.ground.errors import (
    Deposed,
    FactoryError,
    GitError,
    StoreError,
    first_of,
)
from factory.ground.lock import Lock, locked
from factory.ground.log import TICK_BROKE, Log, log
from factory.ground.names import ALL, CONVENTIONS, HIDDEN, INBOX
from factory.ground.places import Places, check_writable
from factory.ground.times import stamp
from factory.ground.unlocked import once_unlocked
from factory.ground.watch import Watch
from factory.reading import Signature, read_outset
from factory.repair.catch_up import CatchUp
from factory.repair.rebuild import Rebuild
from factory.repair.rescue import Rescue
from factory.repair.takeover import take_over
from factory.repo.examine import Repository, exclude
from factory.repo.trunk import make
from factory.repo.underway import CLAIM_SECONDS
from factory.store.facts_at import identity_at
from factory.store.high_water import HighWater
from factory.store.journal import Event
from factory.store.records import Fact, Hook
from factory.store.sqlite import SqliteStore

STORE_S = 60.0  # seconds that a start waits for a store that another program holds
START_GIT_S = 20.0  # time limit in seconds of a git command before the daemon is up
# The same limit while the daemon stops: first if it hands units back, then if it leaves agents
# to the next daemon.
STOP_GIT_S = 10.0
LEAVE_GIT_S = 20.0


async def serve(root: Path, environ: Mapping[str, str]) -> None:
    """Run the factory of the repository at `root`; raise FactoryError if it cannot start."""
    outset = await read_outset(root, environ)
    repository = await the_repository(root, environ, outset.settings, locating=outset.locate)
    where = await the_places(repository, environ)
    with locked(where.lock, where.root) as lock:
        furnish(where)
        with _logging(where.log) as opened:
            state = DaemonState(settings=outset.settings, places=where, environ=environ)
            await _serve(state, repository, opened, lock, seen=outset.signature)


async def _serve(
    state: DaemonState, repository: Repository, opened: Log, lock: Lock, *, seen: Signature
) -> None:
    where = state.places
    # Opened first: if the start dies here, nothing shows that this factory has worked.
    store = SqliteStore(where.store, new=not where.worked)
    try:
        # We have the lock. If a file system gives it to two daemons, the newer one wins.
        await once_unlocked(lambda: store.own(secrets.token_hex(8), now=now()), seconds=STORE_S)
        # End what an earlier daemon left running, before this daemon reuses anything.
        taken_over = await take_over(store, where, identity_at=identity_at, now=now())
        own = await make(repository, where.git, state.environ)
        await own.seize()
        floor = assemble(store, state, repository, own)
        floor.log = opened
        await floor.sandbox.look()
        floor.sandbox.check(state.settings.sandbox.mode)
        hide(floor)
        await _run(floor, Desk(floor, start=taken_over.lines, seen=seen), lock)
    finally:
        with suppress(StoreError):
            HighWater(where.high_water).note_seq(store.last_seq())
        store.close()
        if where.pid.exists() and bounded.head(where.pid, 64).decode() == _pid():
            with faults.step("pid.remove"):
                where.pid.unlink()


@faults.during("folders.make")
def furnish(where: Places) -> None:
    """Make the folders; raise RepositoryError if that fails."""
    check_writable(where)
    for folder in where.folders:
        folder.mkdir(parents=True, exist_ok=True)
    for folder in (where.home, where.work):
        folder.chmod(0o700)  # prompts, outputs and the store may hold secrets
    inbox = where.inbox.name
    if inbox != INBOX and INBOX not in where.names.theirs:
        _take_away(where.root / INBOX)
    theirs = [f"/{INBOX}/"] if INBOX in where.names.theirs else []
    exclude(where.common_dir, (HOME, f"/{inbox}/"), never=theirs)


def _take_away(folder: Path) -> None:
    """Remove an empty inbox that an earlier start made and this start does not use."""
    with suppress(OSError):  # the folder is not empty
        (folder / "rejected").rmdir()
    with suppress(OSError):
        folder.rmdir()


async def _run(floor: Floor, desk: Desk, lock: Lock) -> None:
    state = floor.state
    paused = floor.store.get(Fact, "paused")
    state.paused = bool(paused and json.loads(paused.value))
    _tell_daemon(floor, "running")
    commands = floor.trunk.own.commands
    commands.tell = desk.tell_commands
    desk.tell_commands()
    with commands.hurried(START_GIT_S):
        await _reconcile(floor, desk)
    async with anyio.create_task_group() as group:
        with commands.hurried(START_GIT_S):
            await floor.state.guarded("queue", floor.queue.look_at_trunk, group, now())
        await desk.open()
        watch = Watch(state.requests.send)
        watch.start()
        git_watch = Watch(partial(_git_changed, state))
        git_watch.start()
        try:
            desk.watch = _watch(floor, watch, git_watch)
            # Before the pid is written, because a reader may send a signal at once.
            await group.start(_signals, floor, group)
            group.start_soon(desk.run)
            group.start_soon(floor.queue.run, group)
            group.start_soon(floor.pool.run, group)
            group.start_soon(floor.keeper.run)
            group.start_soon(floor.standstill.run)
            group.start_soon(_end_unclaimed, floor)
            desk.tell()  # `factoryd start` shows it
            with faults.step("pid.write"):
                state.places.pid.write_text(_pid())
            await _until_stopped(floor, lock)
            if state.stopping is Stopping.HAND_BACK:
                await _end_rest(floor)
            group.cancel_scope.cancel()
        finally:
            _hurry(floor)
            watch.stop()
            git_watch.stop()
            with suppress(StoreError):  # the disk is full; the free lock also shows it
                _tell_daemon(floor, "stopped")


async def _reconcile(floor: Floor, desk: Desk) -> None:
    """Make the records agree with the world, before any loop runs."""
    store = floor.store
    where = floor.state.places
    rebuild = Rebuild(store=store, where=where, trunk=floor.trunk, workspaces=floor.workspaces)
    catching_up = CatchUp(store=store, where=where, rebuild=rebuild, watch=floor.queue.watch)

    async def catch_up(at: datetime) -> None:
        desk.start += await catching_up.run(at)

    try:
        await catch_up(now())
    except GitError:  # until it succeeds, no unit starts, because trunk is unknown
        log.exception(TICK_BROKE, loop="start")
        floor.queue.before_trunk = catch_up
    rescue = Rescue(
        store=store, gates=floor.gates, landings=floor.queue.landings, outcomes=floor.outcomes
    )
    await rescue.run(now())


async def _end_unclaimed(floor: Floor) -> None:
    """End gates and setups of an earlier daemon that no unit needs any more."""
    await anyio.sleep(CLAIM_SECONDS)
    while await floor.state.guarded("leftovers", _end_leftovers, floor) is None:
        pass  # it failed; `guarded` waited a moment, so try again


async def _end_leftovers(floor: Floor) -> bool:
    await floor.underway.end_unclaimed()
    floor.benches.look_again()
    return True


def _git_changed(state: DaemonState) -> None:
    state.queue.send()
    state.leaving.send()  # this wakes the check of the lock


def _watch(floor: Floor, watch: Watch, git_watch: Watch) -> list[str]:
    """Watch the files that a person changes; return what is wrong with the watch."""
    where = floor.state.places
    wrong = [
        watch.folder(where.inbox, lambda name: True),
        watch.folder(where.home, lambda name: name == "wake"),
        watch.folder(where.root, lambda name: name == "factory.toml" or name in ALL),
    ]
    for folder in _convention_folders(where.root):
        wrong.append(watch.folder(folder, lambda name: True))
    shared = {"packed-refs", where.lock.name}
    wrong.append(git_watch.folder(where.common_dir, lambda name: name in shared))
    branch = where.common_dir / "refs" / "heads" / floor.trunk.branch
    tables = where.common_dir / "reftable"
    refs = tables if tables.is_dir() else branch.parent
    if refs.is_dir():
        moves = {branch.name, "tables.list"}
        wrong.append(git_watch.folder(refs, lambda name: name in moves))
    return [each for each in wrong if each]


def _convention_folders(root: Path) -> list[Path]:
    shown = root.glob(f"{CONVENTIONS}/*/")
    hidden = root.glob(f"{HIDDEN[CONVENTIONS]}/*/")
    return sorted([*shown, *hidden])


# ── stopping ──


async def _signals(floor: Floor, group: TaskGroup, *, task_status: TaskStatus[None]) -> None:
    state = floor.state
    with anyio.open_signal_receiver(
        signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP
    ) as received:
        task_status.started()
        async for number in received:
            state.stopping = _stopping(number, state.stopping)
            if state.stopping is not Stopping.DRAIN:
                _hurry(floor)
                state.wake_all()
                continue
            with suppress(StoreError):
                _tell_daemon(floor, "draining")
            if number == signal.SIGTERM:
                group.start_soon(_lose_patience, floor)
            state.wake_all()


def _stopping(number: int, before: Stopping) -> Stopping:
    """Return how the daemon stops after this signal; a second SIGTERM is `stop --now`."""
    if number == signal.SIGHUP:
        return Stopping.LEAVE
    if number == signal.SIGINT:
        return Stopping.HAND_BACK
    if number == signal.SIGTERM and before is not Stopping.NO:
        return Stopping.HAND_BACK
    return Stopping.DRAIN


async def _lose_patience(floor: Floor) -> None:
    state = floor.state
    await anyio.sleep(DRAIN_SECONDS)
    if state.stopping is Stopping.DRAIN:
        state.stopping = Stopping.HAND_BACK
        _hurry(floor)
        state.wake_all()


def _hurry(floor: Floor) -> None:
    """Give git commands little time while the daemon stops; the next start completes their work."""
    leaving = floor.state.stopping is Stopping.LEAVE
    floor.trunk.own.commands.hurry(LEAVE_GIT_S if leaving else STOP_GIT_S)


async def _until_stopped(floor: Floor, lock: Lock) -> None:
    """Return when the daemon may stop: after HUP, when drained, or when its store or root is gone.

    Raises Deposed if another process has the lock.
    """
    state = floor.state
    while floor.store.is_there():
        if not lock.is_ours():
            held = f"Another process holds {state.places.lock}"
            raise Deposed(f"{held}: this daemon stops, its agents run on.")
        match state.stopping:
            case Stopping.LEAVE:
                return
            case Stopping.NO:
                await state.leaving.wait(SCAN_SECONDS)
            case _:
                if not _at_work(floor):
                    return
                await state.leaving.wait(0.2)


def _at_work(floor: Floor) -> bool:
    """Return whether the daemon still waits for a worker."""
    full = {f"worker {hook.worker}" for hook in floor.store.select(Hook) if hook.unit}
    if floor.state.stopping is Stopping.HAND_BACK:
        # If an ended attempt cannot be kept (a full disk), it stays on its hook.
        full -= floor.state.broken.keys()
    return bool(full)


async def _end_rest(floor: Floor) -> None:
    """End agents of runs that failed (full disk, locked store); the next start continues them."""
    for hook in floor.store.select(Hook):
        if hook.unit:
            with faults.step("agent.end"):
                await process.end(floor.state.places.run_dir(hook.unit, hook.attempt))


# ── reporting ──


def _tell_daemon(floor: Floor, state: str) -> None:
    known = {
        "state": state,
        "pid": os.getpid(),
        "since": stamp(now()),
        "version": __version__,
        # The path is relative, so that it is also right in a copy of the repository.
        "lock": os.path.relpath(floor.state.places.lock, floor.state.places.root),
    }
    fact = Fact(name="daemon", value=json.dumps(known))
    event = Event.DAEMON_STOPPED if state == "stopped" else Event.DAEMON_STARTED
    floor.store.write(event, fact, now=now(), state=state)


# ── the process ──


def _pid() -> str:
    return f"{os.getpid()}\n"


@contextmanager
def _logging(path: Path) -> Iterator[Log]:
    opened = Log(path)
    try:
        yield opened
    finally:
        opened.close()


def main(argv: list[str] | None = None, run: Callable[..., Any] = anyio.run) -> int:
    """Run the daemon; return its exit code."""
    root = Path((argv or sys.argv[1:])[0])
    try:
        run(serve, root, dict(os.environ))
    except FactoryError as error:
        print(error, file=sys.stderr)  # noqa: T201 - `factoryd start` reads the daemon's last line
        return error.exit_code
    except (Deposed, BaseExceptionGroup) as error:
        if isinstance(error, BaseExceptionGroup) and error.subgroup(Deposed) is None:
            raise
        print(first_of(error), file=sys.stderr)  # noqa: T201
        return Deposed.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
