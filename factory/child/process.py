"""Starts processes: short commands of the daemon, and supervised commands under the shim.

Invariant: no other module starts a process. A process runs in its own session with a complete
environment. factoryd signals it only while no other process can have its pid (identity.py).
"""

import json
import marshal
import math
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired
from typing import IO, Any, Literal

import anyio
from anyio import from_thread, to_thread

from factory.child import identity, proc
from factory.child.identity import Identity, identity_of
from factory.ground import bounded
from factory.ground.age import age_of
from factory.ground.pipes import Into, Pipes

SHORT_SECONDS = 60.0  # the limit of a short command if its caller gives no limit
TICK_SECONDS = 1.0  # between two checks of a short command's limit
# after SIGTERM, a short command has this long to remove its locks before SIGKILL
TIDY_SECONDS = 2.0
# If a run takes so much longer than its limit and its grace, its shim counts as hung.
OVERDUE_SECONDS = 30.0
LADDER_SECONDS = 5.0  # a shim counts as hung if it takes so much longer than the grace
_SHIM = f"""import sys; sys.path.append({str(Path(__file__).parents[2])!r})
from factory.child.shim import main; main()"""

Cause = Literal["exited", "timeout", "stopped", "overran", "lost", "unstartable", "unconfined"]
Stream = int | IO[bytes]
INTO = Into()


@dataclass(frozen=True, slots=True)
class Output:
    """A short command's output and exit code. A negative code is the signal that ended it."""

    code: int
    out: bytes
    err: bytes
    over: bool = False  # the command took too long, so factoryd ended it
    much: bool = False  # the command printed too much, so factoryd ended it
    left: bool = False  # factoryd could not end the command: it may still run


@dataclass(frozen=True, slots=True)
class Watch:
    """How a caller watches a short command while it runs."""

    started: Callable[[int], None]  # gets the pid once the command has started
    # returns the seconds left; called once a second, in the event loop's thread
    left: Callable[[], float]


async def run(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str],
    stdin: bytes | IO[bytes] = b"",
    seconds: float | Watch = SHORT_SECONDS,
    into: Into = INTO,
) -> Output:
    """Run a short command to its end in a thread. A cancelled caller still waits for the end.

    The function ends the command's process group after `seconds`, when the watch has no seconds
    left, or when the command prints more than `into` allows. Raises FileNotFoundError if the
    command does not exist.
    """
    began = time.monotonic()

    def left() -> float:
        if isinstance(seconds, Watch):
            return from_thread.run_sync(seconds.left)
        return began + seconds - time.monotonic()

    def work() -> Output:
        child = Popen(
            argv,
            cwd=cwd,
            env=env,
            stdin=PIPE if isinstance(stdin, bytes) else stdin,
            stdout=into.file or PIPE,
            stderr=PIPE,
            start_new_session=True,
        )
        sent = stdin if isinstance(stdin, bytes) else b""
        pipes = Pipes(child.stdin, child.stdout, child.stderr, sent=sent, most=into.most)
        try:
            if isinstance(seconds, Watch):
                seconds.started(child.pid)
            return _finish(child, pipes, into, left)
        except BaseException:
            _break_off(child, pipes)
            raise
        finally:
            pipes.close()

    return await to_thread.run_sync(work)


def _finish(child: "Popen[bytes]", pipes: Pipes, into: Into, left: Callable[[], float]) -> Output:
    """Read and write the command's pipes until it ends, or until a limit ends it."""
    while True:
        seconds = left()
        if seconds <= 0:
            return replace(_break_off(child, pipes), over=True)
        tick = min(seconds, TICK_SECONDS)
        if pipes.exchange(tick) and _has_ended(child, tick):
            return Output(child.returncode, pipes.out, pipes.err, much=into.is_over())
        if pipes.much or into.is_over():
            return replace(_break_off(child, pipes), much=True)


def _has_ended(child: "Popen[bytes]", seconds: float) -> bool:
    """Return whether the process ends within `seconds`."""
    with suppress(TimeoutExpired):
        child.wait(seconds)
        return True
    return False


def _break_off(child: "Popen[bytes]", pipes: Pipes) -> Output:
    """End a short command's group: first with SIGTERM, so git removes its locks, then SIGKILL.

    It does not wait for a process that left the group but still has the pipes open.
    """
    for number, seconds in ((signal.SIGTERM, TIDY_SECONDS), (signal.SIGKILL, LADDER_SECONDS)):
        _end_group(child, number)
        if pipes.exchange(seconds) and _has_ended(child, seconds):
            break
    left = child.poll() is None
    if left:
        child.returncode = -signal.SIGKILL  # so that Popen does not warn when it is deleted
    return Output(child.returncode, pipes.out, pipes.err, left=left)


def _end_group(child: "Popen[bytes]", number: signal.Signals) -> None:
    """Signal a group. Its leader is not reaped, so no other group can have the same number."""
    if child.returncode is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, number)


def end_left_behind(pid: int, word: str) -> bool:
    """Kill the process group of an earlier daemon's short command; return whether it was found.

    The start time of the command is not known. `word` identifies the command: an argument that no
    other command has.
    """
    with suppress(ProcessLookupError, PermissionError):
        if word in proc.arguments(pid) and os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
            return True
    return False


def detach(argv: Sequence[str], cwd: Path, env: Mapping[str, str], output: Path) -> int:
    """Start a process that outlives this one and writes to a file; return its pid."""
    with output.open("wb") as file:
        return _let_go(argv, cwd=cwd, env=env, stdin=DEVNULL, output=file)


def _let_go(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str],
    stdin: Stream,
    output: Stream,
) -> int:
    child = Popen(
        argv, cwd=cwd, env=env, stdin=stdin, stdout=output, stderr=output, start_new_session=True
    )
    child.returncode = 0  # so that Popen neither reaps the process nor warns when it is deleted
    return child.pid


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits for a command and all its descendants together; 0 means no limit."""

    memory: int = 0  # bytes of memory that is not shared with others (Linux)
    processes: int = 0  # number of processes, without threads (Linux)
    cpu: float = 0  # seconds of CPU time since the start (Linux)
    disk: int = 0  # bytes in `folders`, and also in any single file
    folders: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to run under the shim, and its limits.

    The shim writes start.json, output.log and exit.json into `run_dir`; before that, `start`
    removes these files of an older run.
    """

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str]  # complete: the command gets no other variables
    run_dir: Path  # `start` creates the folder if it is missing
    stdin: Path | None = None  # the file for the command's standard input; None: /dev/null
    seconds: float = 0  # wall-clock limit; 0: no limit
    stop_signal: str = "TERM"
    grace_s: float = 5
    cap_bytes: int = 32 << 20  # how much of the newest output is kept
    within: tuple[str, ...] = ()  # the confiner's words, which come before the command
    limits: Limits = Limits()
    nonce: str = ""  # the run's mark in start.json and exit.json


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a supervised command ended."""

    cause: Cause
    code: int | None = None  # None: `signal` ended the command, or the code is unknown
    signal: int = 0
    at: datetime
    seconds: float = 0.0
    left: int = 0  # number of processes that factoryd could not end; do not use their folders again
    detail: str = ""


class Child:
    """A command under its shim. This daemon or an earlier daemon started the shim."""

    def __init__(
        self,
        who: Identity,
        run_dir: Path,
        *,
        grace_s: float,
        ours: bool,
        nonce: str = "",
        seconds: float = 0,
    ) -> None:
        self.identity = who
        self.run_dir = run_dir
        self._nonce = nonce
        self._grace_s = grace_s
        self._reapable = ours
        self._due = math.inf
        if seconds:  # after this time, the shim ends the command, unless the shim hangs
            self._due = time.monotonic() + seconds + grace_s + OVERDUE_SECONDS

    async def wait(self) -> Exit:
        """Wait for the command's end. Several may wait. Cancelling a wait does not end the command.

        A hung shim enforces no limit, so factoryd kills it and everything that it started.
        """
        with anyio.move_on_after(max(0.0, self._due - time.monotonic())):
            return await self._end()
        with anyio.CancelScope(shield=True):  # a kill that has begun must finish
            ended = await self._by_force()
        return ended

    async def stop(self, grace_s: float | None = None) -> Exit:
        """End the command and its descendants: stop signal, then SIGKILL, then by force.

        `grace_s` can only shorten the command's own grace; 0 kills at once.
        """
        if grace_s is None or grace_s > self._grace_s:
            grace_s = self._grace_s
        for number, seconds in ((signal.SIGTERM, grace_s), (signal.SIGINT, LADDER_SECONDS)):
            if seconds:
                identity.send(self.identity, number)
                with anyio.move_on_after(seconds):
                    return await self._end()
        return await self._by_force()

    def cpu_seconds(self) -> float:
        """Return the CPU time of the command and its descendants (Linux only; else 0)."""
        return proc.cpu_seconds(proc.family([self.identity.pid]))

    async def _end(self) -> Exit:
        await identity.ended(self.identity)
        self._reap()
        return await _end_of(self.run_dir, self._nonce)

    async def _by_force(self) -> Exit:
        ended = await _lost(
            self.run_dir, "its shim hung, so factoryd killed it and everything that it had started"
        )
        self._reap()
        return ended

    def _reap(self) -> None:
        # Only once: afterwards another child may have the pid.
        if self._reapable:
            self._reapable = False
            identity.reap(self.identity.pid)


async def start(command: Command) -> Child:
    """Start a command under a shim that outlives this process; do not wait for its end.

    If the command cannot start, its Exit has the cause "unstartable". Raises OSError if the machine
    has no room for a process or a file.
    """
    await anyio.lowlevel.checkpoint()  # if the caller is already cancelled, start nothing
    command.run_dir.mkdir(parents=True, exist_ok=True)
    for name in ("start.json", "exit.json", "output.log", "output.1.log"):
        (command.run_dir / name).unlink(missing_ok=True)
    return Child(
        identity_of(_spawn_shim(command)),
        command.run_dir,
        grace_s=command.grace_s,
        seconds=command.seconds,
        ours=True,
        nonce=command.nonce,
    )


async def adopt(run_dir: Path, nonce: str = "") -> Child | Exit:
    """Return an earlier daemon's run: a Child if it is still alive, else the Exit.

    If the run has another nonce, it belongs to another attempt. Then end that run, and count the
    wanted run as lost.
    """
    begun = _begun(run_dir)
    if not begun:
        return await _end_of(run_dir, nonce)
    who = _recorded(begun)
    if begun.get("nonce", "") != nonce or not who.is_alive():
        identity.bury(who)
        return await _end_of(run_dir, nonce)
    seconds = float(begun.get("seconds", 0))
    if seconds:  # the limit counts from the start of the run
        age = age_of(who.started, since=run_dir / "start.json")
        seconds = max(TICK_SECONDS, seconds - age)
    return Child(
        who,
        run_dir,
        grace_s=float(begun["grace_s"]),
        seconds=seconds,
        # This daemon may itself have started the run, and then failed with an error.
        ours=proc.parent(who.pid) == os.getpid(),
        nonce=nonce,
    )


def nonce_of(run_dir: Path, *, anywhere: bool = False) -> str | None:
    """Return the nonce in the run's start.json; None without that file.

    A file that was copied from another folder does not count, unless `anywhere` is set.
    """
    begun = _read(run_dir / "start.json") if anywhere else _begun(run_dir)
    return str(begun.get("nonce", "")) if begun else None


def is_running(run_dir: Path) -> bool:
    """Return whether the shim of the run is alive."""
    begun = _begun(run_dir)
    return bool(begun) and _recorded(begun).is_alive()


async def end(run_dir: Path) -> bool:
    """End all processes of a run, even if its shim is dead; return whether all have ended."""
    begun = _begun(run_dir)
    if begun:
        # The shim is the best way, because it also finds processes that removed the marker.
        shim = _recorded(begun)
        identity.send(shim, signal.SIGINT)
        with anyio.move_on_after(LADDER_SECONDS):
            await identity.ended(shim)
    with anyio.move_on_after(LADDER_SECONDS):
        while True:
            left = _members(run_dir)
            if not left:
                return True
            for member in left:
                identity.send(member, signal.SIGKILL)
            await anyio.sleep(0.01)
    return False


def living(prefix: str) -> dict[Identity, str]:
    """Return the processes with an environment entry that begins with `prefix`, each with its rest.

    This works only on Linux.
    """
    sought = os.fsencode(prefix)
    found: dict[Identity, str] = {}
    for pid in proc.pids():
        for entry in proc.environment(pid):
            if entry.startswith(sought):
                found[identity_of(pid)] = os.fsdecode(entry.removeprefix(sought))
    return found


def runs_in(folder: Path) -> dict[Identity, Path]:
    """Return the processes of the runs below a folder, each with its run dir; only on Linux."""
    found = living(f"{proc.MARKER}={folder}/")
    return {who: folder / rest for who, rest in found.items()}


def _spawn_shim(command: Command) -> int:
    spec = {
        "argv": command.argv,
        "cwd": str(command.cwd),
        "env": {**command.env, proc.MARKER: str(command.run_dir)},
        "nonce": command.nonce,
        "stdin": str(command.stdin or os.devnull),
        "seconds": float(command.seconds),
        "stop_signal": int(signal.Signals[f"SIG{command.stop_signal}"]),
        "grace_s": float(command.grace_s),
        "cap_bytes": command.cap_bytes,
        "within": command.within,
        "memory": command.limits.memory,
        "processes": command.limits.processes,
        "cpu": float(command.limits.cpu),
        "disk": command.limits.disk,
        "folders": tuple(map(str, command.limits.folders)),
    }
    argv = [sys.executable, "-I", "-S", "-c", _SHIM, str(command.run_dir)]
    # The specification is a file without a name, because the environment may hold secret keys. The
    # shim inherits the blocked signals: an early stop does not kill it, but waits until it listens.
    with tempfile.TemporaryFile() as file, _blocked(signal.SIGTERM, signal.SIGINT):
        file.write(marshal.dumps(spec))
        file.seek(0)
        return _let_go(argv, env={proc.MARKER: str(command.run_dir)}, stdin=file, output=DEVNULL)


@contextmanager
def _blocked(*numbers: signal.Signals) -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _recorded(begun: Mapping[str, Any]) -> Identity:
    return Identity(int(begun["pid"]), str(begun["started"]), str(begun["boot"]))


def _members(run_dir: Path) -> list[Identity]:
    """Return the living processes that have the run's marker, and their descendants."""
    marked = proc.marked(f"{proc.MARKER}={run_dir}")
    members = map(identity_of, proc.family(marked))
    return [member for member in members if member.is_alive()]


def _begun(run_dir: Path) -> dict[str, Any]:
    """Return the start.json that the run's own shim wrote; {} if another program wrote it."""
    begun = _read(run_dir / "start.json")
    try:
        _recorded(begun)
        grace_s = float(begun["grace_s"])
        seconds = float(begun.get("seconds", 0))
    except (KeyError, TypeError, ValueError, OverflowError):
        return {}  # without a sandbox, an agent can write this file
    if not (math.isfinite(grace_s) and math.isfinite(seconds)):
        return {}
    is_own = begun.get("run_dir", str(run_dir)) == str(run_dir)
    return begun if is_own else {}


def _read(path: Path) -> dict[str, Any]:
    """Return the content of a file that the shim wrote; empty if it is missing or incomplete."""
    try:
        value = json.loads(bounded.whole(path, bounded.PARSED))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


async def _end_of(run_dir: Path, nonce: str = "") -> Exit:
    facts = _read(run_dir / "exit.json")
    if facts and facts.pop("nonce", "") != nonce:
        return await _lost(run_dir, "the files in its folder belong to another attempt")
    try:
        return Exit(**facts | {"at": datetime.fromtimestamp(facts["at"], UTC)})
    except (KeyError, TypeError, ValueError, OverflowError):
        return await _lost(
            run_dir, "it was killed together with its shim, or the machine went down"
        )


async def _lost(run_dir: Path, why: str) -> Exit:
    gone = await end(run_dir)
    return Exit(cause="lost", at=datetime.now(UTC), left=int(not gone), detail=why)
