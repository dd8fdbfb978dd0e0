"""The only spawner of processes: short commands of the daemon's own, and supervised ones under the shim.

Invariant: whatever is started here runs in its own session, with an environment given in full; and a process is
signalled only after it was identified by pid, start time and boot, never by pid alone.
"""

import errno
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

from factory.child import shim
from factory.ground import bounded
from factory.ground.age import age_of
from factory.ground.pipes import Into, Pipes

SHORT_SECONDS = 60.0  # that a short command may take where nobody says otherwise
TICK_SECONDS = 1.0  # between two looks at how long a short command may still take
TIDY_SECONDS = 2.0  # that one has to remove its locks before it is killed
POLL_SECONDS = 0.5  # between two looks, where no pidfd tells that a process has ended
OVERDUE_SECONDS = (
    30.0  # how much longer than limit and grace a run may take before its shim is taken for hung
)
LADDER_SECONDS = 5.0  # how long a shim may take beyond the grace before it is taken for hung
_SHIM = f"import sys; sys.path.append({str(Path(__file__).parents[2])!r})\nfrom factory.child.shim import main; main()"


def _pidfds_work() -> bool:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):  # another system, an old kernel, a filter around a container
        return False
    return True


PIDFD = _pidfds_work()
Cause = Literal["exited", "timeout", "stopped", "overran", "lost", "unstartable", "unconfined"]
Stream = int | IO[bytes]
Told = Callable[[int], None] | None
Left = Callable[[], float] | None
INTO = Into()


@dataclass(frozen=True, slots=True)
class Output:
    """What a short command printed, and its exit code (negative: the signal that ended it)."""

    code: int
    out: bytes
    err: bytes
    over: bool = False  # it took too long and was ended
    much: bool = False  # it printed more than it may, and was ended
    left: bool = False  # it could not be ended: it may still do something


async def run(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str],
    stdin: bytes | IO[bytes] = b"",
    started: Told = None,
    seconds: float = SHORT_SECONDS,
    left: Left = None,
    into: Into = INTO,
) -> Output:
    """Run a short command of the daemon's own (git) to its end, in a thread: a cancelled caller waits for it.

    `started` gets the pid as soon as there is one; after so many `seconds` its process group is ended. `left` says in
    their place how many are left: it is asked once a second, in the event loop's thread. A command that prints more
    than `into` takes is ended too. Raises FileNotFoundError where the command does not exist.
    """
    due = time.monotonic() + seconds

    def still() -> float:
        return from_thread.run_sync(left) if left else due - time.monotonic()

    def work() -> Output:
        given, sent = (PIPE, stdin) if isinstance(stdin, bytes) else (stdin, b"")
        to = into.file or PIPE
        child = Popen(
            argv, cwd=cwd, env=env, stdin=given, stdout=to, stderr=PIPE, start_new_session=True
        )
        pipes = Pipes(child.stdin, child.stdout, child.stderr, sent=sent, most=into.most)
        try:
            if started:
                started(child.pid)
            return _seen_through(child, pipes, into, still)
        except BaseException:
            _broken_off(child, pipes)
            raise
        finally:
            pipes.close()

    return await to_thread.run_sync(work)


def _seen_through(
    child: "Popen[bytes]", pipes: Pipes, into: Into, left: Callable[[], float]
) -> Output:
    while (seconds := left()) > 0:
        tick = min(seconds, TICK_SECONDS)
        if pipes.exchange(tick) and _has_ended(child, tick):
            break
        if pipes.much or into.is_over():
            return replace(_broken_off(child, pipes), much=True)
    else:
        return replace(_broken_off(child, pipes), over=True)
    return Output(child.returncode, pipes.out, pipes.err, much=into.is_over())


def _has_ended(child: "Popen[bytes]", seconds: float) -> bool:
    """Whether it ends within so many seconds."""
    with suppress(TimeoutExpired):
        child.wait(seconds)
        return True
    return False


def _broken_off(child: "Popen[bytes]", pipes: Pipes) -> Output:
    """End a short command and its process group: asked to, so that git removes its locks, then killed.

    What left the group, and holds its pipes, is not waited for.
    """
    for number, seconds in ((signal.SIGTERM, TIDY_SECONDS), (signal.SIGKILL, LADDER_SECONDS)):
        _end_group(child, number)
        if pipes.exchange(seconds) and _has_ended(child, seconds):
            break
    left = child.poll() is None
    if left:
        child.returncode = -signal.SIGKILL  # Popen must not complain when it is dropped
    return Output(child.returncode, pipes.out, pipes.err, left=left)


def _end_group(child: "Popen[bytes]", number: signal.Signals) -> None:
    """Signal a group whose leader was not reaped yet: so its number is nobody else's."""
    if child.returncode is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, number)


def end_left_behind(pid: int, word: str) -> bool:
    """Kill a short command that an earlier daemon started, with its group; no where `word` is not among its arguments.

    Its start time was never written down: an argument that nobody else's command has stands for it.
    """
    with suppress(ProcessLookupError, PermissionError):
        if word in _arguments(pid) and os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
            return True
    return False


def detach(argv: Sequence[str], cwd: Path, env: Mapping[str, str], output: Path) -> int:
    """Start a process that outlives this one, in its own session, its output in a file; return its pid."""
    with output.open("wb") as said:
        return _let_go(argv, cwd=cwd, env=env, stdin=DEVNULL, output=said)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a command and all that it started may use together, looked at every two seconds; 0: no limit."""

    memory: int = 0  # bytes that are theirs alone (Linux)
    processes: int = 0  # threads not counted (Linux)
    cpu: float = 0  # seconds of CPU time, together and since the start (Linux)
    disk: int = 0  # bytes in `folders`, and of any one file
    folders: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to run under the shim, and within which limits."""

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str]  # the complete environment
    run_dir: Path  # start.json, output.log and exit.json appear here; made where missing, what an older run left goes
    stdin: Path | None = None  # a file, else /dev/null
    seconds: float = 0  # wall limit; 0: none
    stop_signal: str = "TERM"
    grace_s: float = 5
    cap_bytes: int = 32 << 20  # of output kept, the newest
    within: tuple[str, ...] = ()  # what confines it, put before its own words
    limits: Limits = Limits()
    nonce: str = ""  # repeated in start.json and exit.json: whose run it is


@dataclass(frozen=True, slots=True)
class Identity:
    """A process, told apart from whoever gets its pid later."""

    pid: int
    started: str
    boot: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a supervised command ended."""

    cause: Cause
    code: int | None = None  # None: by `signal`, or not known
    signal: int = 0
    at: datetime
    seconds: float = 0.0
    left: int = 0  # processes that could not be ended: whatever they work on must not be used again
    detail: str = ""


class Child:
    """A command under its shim, whether this daemon started it or an earlier one."""

    def __init__(
        self,
        identity: Identity,
        run_dir: Path,
        *,
        grace_s: float,
        ours: bool,
        nonce: str = "",
        seconds: float = 0,
    ) -> None:
        self.identity, self.run_dir, self._nonce = identity, run_dir, nonce
        self._grace_s = grace_s
        self._reapable = ours
        # Its shim ends it after so long; only one that hangs does not.
        self._due = time.monotonic() + seconds + grace_s + OVERDUE_SECONDS if seconds else math.inf

    async def wait(self) -> Exit:
        """How it ended, once it has. Several may wait; a cancelled wait changes nothing.

        A shim that hangs, and so holds no limit, is killed with all that it started.
        """
        with anyio.move_on_after(max(0.0, self._due - time.monotonic())):
            return await self._end()
        with anyio.CancelScope(shield=True):  # begun, it is seen through
            ended = await self._by_force()
        return ended

    async def _end(self) -> Exit:
        await _ended(self.identity)
        self._reap()
        return await _end_of(self.run_dir, self._nonce)

    async def _by_force(self) -> Exit:
        ended = await _lost(
            self.run_dir, "its shim hung and was killed, with all that it had started"
        )
        self._reap()
        return ended

    async def stop(self, grace_s: float | None = None) -> Exit:
        """End it and all that it started: its stop signal, after the grace SIGKILL, and if the shim hangs, by force.

        `grace_s` shortens the command's own grace; 0 kills at once.
        """
        grace_s = self._grace_s if grace_s is None else min(grace_s, self._grace_s)
        for number, seconds in ((signal.SIGTERM, grace_s), (signal.SIGINT, LADDER_SECONDS)):
            if seconds:
                _signal(self.identity, number)
                with anyio.move_on_after(seconds):
                    return await self._end()
        return await self._by_force()

    def cpu_seconds(self) -> float:
        """CPU time that the command and its descendants have used; grows while anything works (Linux; elsewhere 0)."""
        return shim.cpu_seconds(shim.family([self.identity.pid]))

    def _reap(self) -> None:
        # Once only: afterwards the pid may be another child's.
        if self._reapable:
            self._reapable = False
            with suppress(ChildProcessError):
                os.waitpid(self.identity.pid, os.WNOHANG)


async def start(command: Command) -> Child:
    """Start a command under a shim of its own, which goes on when this process dies; does not wait for the command.

    Whatever is wrong with the command itself is an Exit of cause "unstartable".
    Raises OSError where the machine has no room for a process or a file.
    """
    await anyio.lowlevel.checkpoint()  # a cancelled caller starts nothing
    command.run_dir.mkdir(parents=True, exist_ok=True)
    for name in ("start.json", "exit.json", "output.log", "output.1.log"):
        (command.run_dir / name).unlink(missing_ok=True)
    identity = _identity(_spawn_shim(command))
    grace_s, seconds, nonce = command.grace_s, command.seconds, command.nonce
    return Child(
        identity, command.run_dir, grace_s=grace_s, seconds=seconds, ours=True, nonce=nonce
    )


async def adopt(run_dir: Path, nonce: str = "") -> Child | Exit:
    """What became of a run that an earlier daemon started: still alive, or its end.

    A run with another nonce is another attempt's: it is ended, and this one is lost.
    """
    begun = _begun(run_dir)
    is_ours = begun.get("nonce", "") == nonce
    if begun and is_ours and _alive(identity := _recorded(begun)):
        ours = (
            _parent(identity.pid) == os.getpid()
        )  # of this daemon's own, where a run was broken off
        grace_s, seconds = float(begun["grace_s"]), float(begun.get("seconds", 0))
        if seconds:  # its limit counts from its start
            seconds = max(
                TICK_SECONDS, seconds - age_of(identity.started, since=run_dir / "start.json")
            )
        return Child(identity, run_dir, grace_s=grace_s, seconds=seconds, ours=ours, nonce=nonce)
    if begun:
        _bury(_recorded(begun))
    return await _end_of(run_dir, nonce)


def nonce_of(run_dir: Path, *, anywhere: bool = False) -> str | None:
    """The nonce that the run's shim told; None where it has told nothing.

    Nor what a run in another folder told, of which this one holds a copy, unless it may have run `anywhere`.
    """
    begun = _read(run_dir / "start.json") if anywhere else _begun(run_dir)
    return str(begun.get("nonce", "")) if begun else None


def is_running(run_dir: Path) -> bool:
    """Whether the shim of that run is alive."""
    begun = _begun(run_dir)
    return bool(begun) and _alive(_recorded(begun))


async def end(run_dir: Path) -> bool:
    """End all that belongs to a run, even if its shim is dead; true when nothing of it is left."""
    if begun := _begun(run_dir):
        # The shim sweeps better than can be done from here: it also knows who shed the marker.
        _signal(_recorded(begun), signal.SIGINT)
        with anyio.move_on_after(LADDER_SECONDS):
            await _ended(_recorded(begun))
    with anyio.move_on_after(LADDER_SECONDS):
        while left := _members(run_dir):
            for member in left:
                _signal(member, signal.SIGKILL)
            await anyio.sleep(0.01)
        return True
    return False


def living(prefix: str) -> dict[Identity, str]:
    """The processes with an entry of their environment that begins so, each with the rest of it (Linux; else none)."""
    sought, found = os.fsencode(prefix), dict[Identity, str]()
    for pid in shim.pids():
        for entry in _environment(pid):
            if entry.startswith(sought):
                found[_identity(pid)] = os.fsdecode(entry.removeprefix(sought))
    return found


def _spawn_shim(command: Command) -> int:
    spec = {
        "argv": command.argv,
        "cwd": str(command.cwd),
        "env": {**command.env, shim.MARKER: str(command.run_dir)},
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
    # The specification has no name on disk, for its environment may hold keys.
    # Blocked signals are inherited: a stop that comes before the shim can listen waits for it instead of killing it.
    with tempfile.TemporaryFile() as file, _blocked(signal.SIGTERM, signal.SIGINT):
        file.write(marshal.dumps(spec))
        file.seek(0)
        return _let_go(argv, env={shim.MARKER: str(command.run_dir)}, stdin=file, output=DEVNULL)


@contextmanager
def _blocked(*numbers: signal.Signals) -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
    child.returncode = 0  # Popen must neither reap it nor complain when it is dropped
    return child.pid


def _identity(pid: int) -> Identity:
    return Identity(pid, shim.started(pid), shim.boot())


def _recorded(begun: Mapping[str, Any]) -> Identity:
    return Identity(int(begun["pid"]), str(begun["started"]), str(begun["boot"]))


def _alive(who: Identity) -> bool:
    return bool(who.started) and who == _identity(who.pid)


def _parent(pid: int) -> int:
    """The parent of a process; 0 where there is none, or no /proc to tell."""
    facts = shim.stat(pid)
    return int(facts[1]) if len(facts) > 1 else 0


def _bury(who: Identity) -> None:
    """Reap a child of this process that has ended and that nobody waits for."""
    facts = shim.stat(who.pid)
    if facts[:1] == ["Z"] and facts[19] == who.started and _parent(who.pid) == os.getpid():
        with suppress(ChildProcessError):
            os.waitpid(who.pid, os.WNOHANG)


@contextmanager
def _pidfd(who: Identity) -> Iterator[int]:
    """A handle that is surely of that process; raises ProcessLookupError where it has ended."""
    try:
        fd = os.pidfd_open(who.pid)
    except OSError as error:
        if error.errno in (
            errno.EINVAL,
            errno.ENOENT,
        ):  # older and newer kernels: by now some thread has that number
            raise ProcessLookupError from error
        raise
    try:
        if not _alive(who):  # after opening: from now on the pid in the handle cannot change hands
            raise ProcessLookupError
        yield fd
    finally:
        os.close(fd)


async def _ended(who: Identity) -> None:
    if PIDFD:
        with suppress(ProcessLookupError), _pidfd(who) as fd:
            await anyio.wait_readable(fd)
    else:
        while _alive(who):  # noqa: ASYNC110  nothing tells: that is why there is a fallback
            await anyio.sleep(POLL_SECONDS)


def _signal(who: Identity, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        if PIDFD:
            with _pidfd(who) as fd:
                signal.pidfd_send_signal(fd, number)
        elif _alive(who):
            os.kill(who.pid, number)


def _members(run_dir: Path) -> list[Identity]:
    """The living processes that carry the run's marker, and their descendants."""
    marker = f"{shim.MARKER}={run_dir}"
    marked = (
        [pid for pid in shim.pids() if marker.encode() in _environment(pid)]
        if shim.PROC
        else shim.marked(marker)
    )
    return [member for member in map(_identity, shim.family(marked)) if _alive(member)]


def _arguments(pid: int) -> list[str]:
    """The arguments of a process; none where there is no such process, or no /proc to tell them."""
    try:
        return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).split("\0")
    except OSError:
        return []


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _begun(run_dir: Path) -> dict[str, Any]:
    """What the shim of this run told at its start; empty for a file that is not its own."""
    begun = _read(run_dir / "start.json")
    try:
        _recorded(begun)
        is_whole = math.isfinite(float(begun["grace_s"])) and math.isfinite(
            float(begun.get("seconds", 0))
        )
    except (
        KeyError,
        TypeError,
        ValueError,
        OverflowError,
    ):  # an agent without a sandbox can write there
        return {}
    return begun if is_whole and begun.get("run_dir", str(run_dir)) == str(run_dir) else {}


def _read(path: Path) -> dict[str, Any]:
    """A file of the shim's; empty where there is none, or only half of one."""
    try:
        value = json.loads(bounded.whole(path, bounded.PARSED))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


async def _end_of(run_dir: Path, nonce: str = "") -> Exit:
    facts = _read(run_dir / "exit.json")
    if facts and facts.pop("nonce", "") != nonce:
        return await _lost(run_dir, "what lies in its folder belongs to another attempt")
    try:
        return Exit(**facts | {"at": datetime.fromtimestamp(facts["at"], UTC)})
    except (KeyError, TypeError, ValueError, OverflowError):
        return await _lost(
            run_dir, "it was killed together with what watched it, or the machine went down"
        )


async def _lost(run_dir: Path, why: str) -> Exit:
    gone = await end(run_dir)
    return Exit(cause="lost", at=datetime.now(UTC), left=int(not gone), detail=why)
