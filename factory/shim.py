"""The parent of one supervised command: a small process that outlives the daemon.

Invariant: when exit.json appears, nothing that the command started is alive (Linux; elsewhere: nothing of its group).

Runs as `python -I -S`, standard library only. What the command need not wait for is imported after it has been
started: json, signal and select cost more than the interpreter's own start.

Signals: SIGTERM starts the stop ladder, SIGINT is its last rung.
"""
# pathlib would cost 4 ms before every start, typing 11.
# ruff: noqa: PTH105, PTH110, PTH123, PTH208

from __future__ import annotations

import marshal
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MARKER = "FACTORY_RUN"  # in the environment of all that a run starts: its run directory
PROC = os.path.exists("/proc/self/stat")
_PR_SET_CHILD_SUBREAPER = 36
_SWEEP_SECONDS = 5.0
_CHUNK = 1 << 16
_KILL = 9


def main() -> None:
    """Run what the specification on stdin says, argv[1] being its run directory."""
    try:
        _supervise(sys.argv[1])
    finally:
        os._exit(0)  # nothing is left to tidy, and the daemon waits for this end


def _supervise(run_dir: str) -> None:
    with open(0, "rb", closefd=False) as stdin:
        spec = marshal.load(stdin)
    _become_subreaper()
    # Not synced: a power cut ends the run as well, and a torn file then reads as lost.
    pid = os.getpid()
    who = f'{{"pid": {pid}, "started": "{started(pid)}", "boot": "{boot()}", "grace_s": {spec["grace_s"]}}}'
    _replace(run_dir, "start.json", who, sync=False)
    began = time.monotonic()
    try:
        leader, output = _spawn(spec)
    except (OSError, ValueError) as error:
        reason = f"{error.strerror}: {error.filename or spec['argv'][0]}" if isinstance(error, OSError) else str(error)
        _finish(run_dir, began, cause="unstartable", detail=reason[:600])
        return
    try:
        _Run(run_dir, spec, leader, output, began).watch()
    except Exception as error:  # noqa: BLE001  around an agent: the daemon must learn of it, and it sees no traceback
        swept, left = _sweep(lambda: time.sleep(0.02))
        _finish(run_dir, began, cause="lost", swept=swept, left=left, detail=f"the shim failed: {error!r}")


def stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third (state) on; empty where there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().decode(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def started(pid: int) -> str:
    """When the process started, as its system tells it; "" where there is no such process, or (ps) no living one."""
    if PROC:
        fields = stat(pid)
        return fields[19] if fields else ""
    with os.popen(f"LC_ALL=C ps -o state= -o lstart= -p {int(pid)}") as ps:
        state, _, start = ps.read().strip().partition(" ")
    return "" if state.startswith("Z") else start.strip()


def boot() -> str:
    """Which boot of the machine this is; "" where start times are absolute."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""


def children(parent: int) -> list[int]:
    """The processes whose parent is `parent`."""
    return [pid for pid in pids() if stat(pid)[1:2] == [str(parent)]]


def pids() -> list[int]:
    """All processes of the machine."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()] if PROC else []


class _Run:
    """The command while it runs: its output, its limit and the ladder that ends it."""

    def __init__(self, run_dir: str, spec: dict[str, Any], leader: int, output: int, began: float) -> None:
        self._run_dir, self._spec, self._leader, self._output, self._began = run_dir, spec, leader, output, began
        self._log = _Log(run_dir, spec["cap_bytes"] // 2)
        self._status: int | None = None  # the leader's, once it has ended
        self._cause = "exited"
        self._due = began + spec["seconds"] if spec["seconds"] else None  # when the next rung of the ladder is

    def watch(self) -> None:
        self._listen()
        while self._status is None:
            self._turn(self._patience_ms())
            if self._due is not None and time.monotonic() >= self._due:
                self._climb("timeout")
        seconds = time.monotonic() - self._began
        if not PROC:
            _send(os.killpg, self._leader, _KILL)
        swept, left = _sweep(lambda: self._turn(20))
        self._pump()  # what escaped may still hold the pipe: what is in it now is all that is waited for
        code = os.waitstatus_to_exitcode(self._status)
        told: dict[str, object] = {"code": code} if code >= 0 else {"signal": -code}
        told |= {"seconds": seconds, "swept": swept, "left": left}
        _finish(self._run_dir, self._began, cause=self._cause, detail=self._log.lost, **told)

    def _listen(self) -> None:
        import select
        import signal

        self._heard, told = os.pipe()
        for fd in (self._heard, told, self._output):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._stop())
        signal.signal(signal.SIGINT, lambda *_: self._kill("stopped"))
        signal.pthread_sigmask(signal.SIG_SETMASK, [])  # blocked since before this process began: none was missed
        self._poll = select.poll()
        self._poll.register(self._heard, select.POLLIN)
        self._poll.register(self._output, select.POLLIN)
        self._reap()

    def _turn(self, patience_ms: int | None) -> None:
        for fd, _ in self._poll.poll(patience_ms):
            if fd == self._heard:
                os.read(self._heard, _CHUNK)
            else:
                self._pump()
        self._reap()

    def _patience_ms(self) -> int | None:
        return None if self._due is None else max(0, int((self._due - time.monotonic()) * 1000) + 1)

    def _pump(self) -> None:
        # Bounded, for a flood must not keep the deadlines from being looked at.
        for _ in range(16):
            if self._output < 0:
                return
            try:
                chunk = os.read(self._output, _CHUNK)
            except BlockingIOError:
                return
            if chunk:
                self._log.write(chunk)
            else:
                self._poll.unregister(self._output)
                os.close(self._output)
                self._output = -1

    def _reap(self) -> None:
        self._status = _reap()[0].get(self._leader, self._status)

    def _stop(self) -> None:
        if self._cause == "exited":
            self._climb("stopped")

    def _climb(self, cause: str) -> None:
        if self._cause != "exited":  # the grace is over
            self._kill(cause)
        elif self._status is None:
            self._cause = cause
            self._due = time.monotonic() + self._spec["grace_s"]
            _send(os.killpg, self._leader, self._spec["stop_signal"])

    def _kill(self, cause: str) -> None:
        if self._status is None:
            self._cause = cause if self._cause == "exited" else self._cause
            self._due = None
            _send(os.killpg, self._leader, _KILL)


class _Log:
    """output.log, of which only the last 2 x `half` bytes are kept: the older part is output.1.log."""

    def __init__(self, run_dir: str, half: int) -> None:
        self._path, self._older, self._half = f"{run_dir}/output.log", f"{run_dir}/output.1.log", max(half, 1)
        self._fd, self._size = -1, 0
        self.lost = ""  # why output was lost
        self.write(b"")

    def write(self, chunk: bytes) -> None:
        try:
            self._write(chunk)
        except OSError as error:  # a full disk must neither block the command nor end it
            self.lost = f"output was lost: {error.strerror}"

    def _write(self, chunk: bytes) -> None:
        if self._size and self._size + len(chunk) > self._half:
            os.close(self._fd)
            self._fd = -1
            os.replace(self._path, self._older)
        if self._fd < 0:
            self._fd, self._size = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 0
        while chunk:
            done = os.write(self._fd, chunk)
            self._size += done
            chunk = chunk[done:]


def _become_subreaper() -> None:
    if sys.platform != "linux":
        return
    from _ctypes import call_function, dlopen, dlsym  # ctypes itself: 3 ms more

    this_program = dlopen(None, 0)  # type: ignore[arg-type]
    call_function(dlsym(this_program, "prctl"), (_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))


def _spawn(spec: dict[str, Any]) -> tuple[int, int]:
    os.chdir(spec["cwd"])
    stdin = os.open(spec["stdin"], os.O_RDONLY)
    os.dup2(stdin, 0)
    if stdin > 0:
        os.close(stdin)
    # posix_spawnp looks through this process's PATH, not through that of the environment it passes on.
    os.environ.pop("PATH", None)
    os.environ.update({name: value for name, value in spec["env"].items() if name == "PATH"})
    output, told = os.pipe()
    leader = os.posix_spawnp(
        spec["argv"][0],
        spec["argv"],
        spec["env"],
        file_actions=[(os.POSIX_SPAWN_DUP2, told, 1), (os.POSIX_SPAWN_DUP2, told, 2)],
        setsid=True,
        setsigmask=[],
        setsigdef=[number for number in range(1, 32) if number not in spec["unchangeable"]],
    )
    os.close(told)
    return leader, output


def _reap() -> tuple[dict[int, int], bool]:
    """The status of each child that has ended, orphans of the command among them; and whether any lives."""
    ended: dict[int, int] = {}
    try:
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            ended[found[0]] = found[1]
    except ChildProcessError:
        return ended, False
    return ended, True


def _sweep(rest: Callable[[], None]) -> tuple[int, int]:
    """End every child; return how many there were, and how many would not go."""
    # Only direct children are killed: until reaped, their pids cannot change hands. Theirs become ours in turn.
    killed: set[int] = set()
    until = time.monotonic() + _SWEEP_SECONDS
    while _reap()[1]:
        left = children(os.getpid())
        if time.monotonic() >= until:
            return len(killed), len(left)
        for pid in left:
            killed.add(pid)
            _send(os.kill, pid, _KILL)
        rest()
    return len(killed), 0


def _send(send: Callable[[int, int], None], target: int, number: int) -> None:
    try:
        send(target, number)
    except (ProcessLookupError, PermissionError):
        return


def _finish(run_dir: str, began: float, **facts: object) -> None:
    import json

    known = {"code": None, "signal": 0, "seconds": time.monotonic() - began, "swept": 0, "left": 0, "detail": ""}
    _replace(run_dir, "exit.json", json.dumps(known | {"at": time.time()} | facts), sync=True)


def _replace(run_dir: str, name: str, text: str, *, sync: bool) -> None:
    path = f"{run_dir}/{name}"
    with open(f"{path}.new", "w") as file:
        file.write(text)
        file.flush()
        if sync:
            os.fsync(file.fileno())
    os.replace(f"{path}.new", path)
    if sync:
        folder = os.open(run_dir, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
