"""The parent process of one supervised command. It is small and outlives the daemon.

Invariant: when exit.json appears, no process that the command started is alive (Linux). On other
systems it means: no process of the command's group is alive, and no process that has the run's
marker in its environment.

It runs as `python -I -S` with only the standard library, and imports nothing expensive before it
has started the command. SIGTERM makes it stop the command with increasing force; SIGINT makes it
kill the command at once.
"""
# Importing pathlib would cost 4 ms before every start, and typing 11 ms.
# ruff: noqa: PTH105, PTH123

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # saves the 5 ms of `signal`
import marshal
import os
import sys
import time

from factory.child import proc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_PR_SET_CHILD_SUBREAPER = 36
# numbers of a system call without a name in libc
_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219}
_KEYCTL_JOIN_SESSION_KEYRING = 1
_SWEEP_SECONDS = 5.0
_ROOM = 4096  # bytes of start.json and exit.json, filled with blanks
_CHUNK = 1 << 20  # the size of a pipe, so that one read empties it
_NEVER = float("inf")
# The confiner reports on this descriptor that the command started. The command does not get the
# descriptor.
_REPORT = 3
_STARTED = {"bwrap": b'"exit-code"', "sandbox-exec": b"started"}
# sandbox-exec does not report the start, so a shell inside it does, and then becomes the command.
_REPORTS = f'{{ echo started >&{_REPORT}; }} 2>/dev/null; exec "$@" {_REPORT}>&-'
_NOTHING_TO_START = "bwrap: execvp "  # bwrap's message if there was nothing to start


def main() -> None:
    """Run the command that stdin specifies; argv[1] is its run directory."""
    try:
        _supervise(sys.argv[1])
    finally:
        _sweep()  # runs even if the shim itself failed
        os._exit(0)  # all cleanup is done, and the daemon waits for this end


def has_started(confiner: str, report: bytes) -> bool:
    """Return whether the confiner reports that the command started; True without a confiner."""
    return _STARTED.get(confiner, b"") in report


def _supervise(run_dir: str) -> None:
    with open(0, "rb", closefd=False) as stdin:
        spec = marshal.load(stdin)
    _become_subreaper()
    began = time.monotonic()
    pid = os.getpid()
    start = {
        "pid": pid,
        "started": proc.started(pid),
        "boot": proc.boot(),
        "grace_s": spec["grace_s"],
        "run_dir": run_dir,  # so that a copy of the file in another folder does not count
        "nonce": spec["nonce"],
        "seconds": spec["seconds"],
    }
    # Reserve the room for exit.json now, so that a full disk cannot prevent it.
    _fill(run_dir, "exit.json")
    _write(run_dir, "start.json", start)
    end = _see_through(run_dir, spec)
    end["at"] = time.time()
    end["seconds"] = time.monotonic() - began
    end["nonce"] = spec["nonce"]
    _write(run_dir, "exit.json", end)


def _see_through(run_dir: str, spec: dict[str, Any]) -> dict[str, object]:
    """Start the command and wait for its end; return how it ended."""
    try:
        leader, output, report = _spawn(spec)
    except OSError as error:
        reason = f"{error.strerror}: {error.filename or spec['argv'][0]}"
    except ValueError as error:
        reason = str(error)
    else:
        return _Run(spec, leader, _Log(run_dir, spec["cap_bytes"] // 2, output)).end(report)
    return {"cause": "unstartable", "detail": reason[:600]}


class _Run:
    """A running command: its output, its limits and the steps that end the command."""

    def __init__(self, spec: dict[str, Any], leader: int, log: _Log) -> None:
        from factory.child.usage import Usage

        self._spec = spec
        self._leader = leader
        self._log = log
        self._confiner = _confiner(spec["within"])
        self._usage = Usage(spec)
        self._over = ""  # the resource of which the command used too much
        # the exit status of the command's first process, once it has ended
        self._status: int | None = None
        self._cause = "exited"
        self._due = _NEVER  # the time of the next step
        if spec["seconds"]:
            self._due = time.monotonic() + spec["seconds"]

    def end(self, report: int) -> dict[str, object]:
        """Wait for the command's end; return how it ended. `report`: the confiner's pipe."""
        self._listen()
        while self._status is None:
            self._turn()
            if time.monotonic() >= self._due:
                self._climb()
            if self._cause == "exited" and time.monotonic() >= self._usage.due:
                self._hold_limits()
        if not proc.PROC:
            _send(os.killpg, self._leader, signal.SIGKILL)
        left = _sweep()
        # An escaped process may still hold the pipe, so read only what the pipe contains now.
        self._log.pump()
        code = os.waitstatus_to_exitcode(self._status)
        if self._cause == "exited" and not self._has_started(report):
            return {**self._refusal(), "left": left}
        detail = self._over or self._log.lost
        end: dict[str, object] = {"cause": self._cause, "left": left, "detail": detail}
        if code >= 0:
            end["code"] = code
        else:
            end["signal"] = -code
        return end

    def _has_started(self, report: int) -> bool:
        os.set_blocking(report, False)
        try:
            said = os.read(report, _CHUNK)
        except BlockingIOError:
            said = b""
        return has_started(self._confiner, said)

    def _refusal(self) -> dict[str, object]:
        """Return the result of a run that did not start: the output is the confiner's message."""
        why = self._log.only_line()
        if why.startswith(_NOTHING_TO_START):  # for example, a script's interpreter is missing
            return {"cause": "unstartable", "detail": why.removeprefix(_NOTHING_TO_START)}
        if not why:
            why = f"{self._confiner} ended before it had started anything"
        return {"cause": "unconfined", "detail": why}

    def _listen(self) -> None:
        import select

        _widen(self._log.pipe)
        woken, wakes = os.pipe()
        for fd in (woken, wakes, self._log.pipe):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._stop("stopped"))
        signal.signal(signal.SIGINT, lambda *_: self._kill())
        # The signals were blocked since before this process began, so none was lost.
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        self._poll = select.poll()
        self._poll.register(woken, select.POLLIN)
        self._poll.register(self._log.pipe, select.POLLIN)
        self._reap()

    def _turn(self) -> None:
        """Wait for output, a signal, the end of a child or the next deadline, and handle it."""
        due = min(self._due, self._usage.due)
        milliseconds = None
        if due != _NEVER:
            milliseconds = int(max(0.0, due - time.monotonic()) * 1000) + 1
        for fd, _ in self._poll.poll(milliseconds):
            if fd != self._log.pipe:
                os.read(fd, _CHUNK)
            elif not self._log.pump():
                self._poll.unregister(fd)
        self._reap()

    def _reap(self) -> None:
        self._status = _reap()[0].get(self._leader, self._status)

    def _hold_limits(self) -> None:
        self._over = self._usage.look()
        if self._over:
            self._cause = "overran"
            self._kill()

    def _climb(self) -> None:
        if self._cause == "exited":
            self._stop("timeout")
        else:  # the grace is over
            self._kill()

    def _stop(self, cause: str) -> None:
        if self._status is not None or self._cause != "exited":
            return
        self._cause = cause
        self._due = time.monotonic() + self._spec["grace_s"]
        if self._confiner == "bwrap":
            _signal_inner(self._leader, self._spec["stop_signal"])
        else:
            _send(os.killpg, self._leader, self._spec["stop_signal"])

    def _kill(self) -> None:
        if self._status is not None:
            return
        if self._cause == "exited":
            self._cause = "stopped"
        self._due = _NEVER
        _send(os.killpg, self._leader, signal.SIGKILL)


class _Log:
    """Keeps the last 2 x `half` bytes from a pipe: output.log, and older ones in output.1.log."""

    def __init__(self, run_dir: str, half: int, pipe: int) -> None:
        self.pipe = pipe
        self.lost = ""  # why output was lost
        self._path = f"{run_dir}/output.log"
        self._older = f"{run_dir}/output.1.log"
        self._half = half
        self._open()

    def pump(self) -> bool:
        """Read what is in the pipe; return False when no process can write to the pipe any more."""
        try:
            chunk = os.read(self.pipe, _CHUNK)
        except BlockingIOError:
            return True
        for start in range(0, len(chunk), self._half):
            self._add(chunk[start : start + self._half])
        return bool(chunk)

    def only_line(self) -> str:
        """Return the output if it is one short line; else ""."""
        with open(self._path, "rb") as file:
            said = file.read(1000).decode(errors="replace").strip()
        return said if self._size < 1000 and "\n" not in said else ""

    def _add(self, chunk: bytes) -> None:
        try:
            if self._size and self._size + len(chunk) > self._half:
                os.close(self._fd)
                os.replace(self._path, self._older)
                self._open()
            while chunk:
                done = os.write(self._fd, chunk)
                self._size += done
                chunk = chunk[done:]
        except OSError as error:  # a full disk must neither block the command nor end it
            self.lost = f"output was lost: {error.strerror}"

    def _open(self) -> None:
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._size = 0


def _become_subreaper() -> None:
    _call("prctl", _PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _leave_keyring() -> None:
    """Join a new keyring. Otherwise the command could use the keys of the user's session."""
    keyctl = _KEYCTL.get(os.uname().machine)
    if keyctl:
        _call("syscall", keyctl, _KEYCTL_JOIN_SESSION_KEYRING, 0)


def _call(function: str, *args: int) -> None:
    if sys.platform != "linux":
        return
    from _ctypes import call_function, dlopen, dlsym  # importing ctypes itself would cost 3 ms

    this_program = dlopen(None, 0)  # type: ignore[arg-type]
    call_function(dlsym(this_program, function), args)


def _limit(disk: int) -> None:
    """Limit the size of each file, and disable core dumps."""
    if not disk:
        return
    import resource

    for kind, most in ((resource.RLIMIT_FSIZE, disk), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(kind)[1]
        if hard != resource.RLIM_INFINITY:
            most = min(most, hard)
        resource.setrlimit(kind, (most, most))


def _check(program: str, path: str) -> None:
    """Raise FileNotFoundError if the program or its interpreter does not exist.

    A confiner or a shell would report a missing program in a way that looks like a program that
    started.
    """
    from errno import ENOENT

    for folder in [""] if "/" in program else path.split(":"):
        found = os.path.join(folder, program)  # noqa: PTH118
        if os.path.lexists(found):
            if os.path.lexists(_interpreter(found) or found):
                return
            break
    raise FileNotFoundError(ENOENT, os.strerror(ENOENT), program)


def _interpreter(program: str) -> str:
    """Return the interpreter of a script; "" for any other program or an unreadable file."""
    if not os.path.isfile(program):  # noqa: PTH113 - opening a pipe would block
        return ""
    try:
        fd = os.open(program, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return ""
    first = os.read(fd, 256).partition(b"\n")[0]
    os.close(fd)
    if not first.startswith(b"#!"):
        return ""
    words = first[2:].split()
    return os.fsdecode(words[0]) if words else ""


def _confiner(within: tuple[str, ...]) -> str:
    return os.path.basename(within[0]) if within else ""  # noqa: PTH119


def _reporting(within: tuple[str, ...]) -> list[str]:
    """Return the words that confine a command, and that report its start."""
    confiner = _confiner(within)
    if confiner == "bwrap":
        return [within[0], "--json-status-fd", str(_REPORT), *within[1:]]
    if confiner == "sandbox-exec":
        return [*within, "/bin/sh", "-c", _REPORTS, "sh"]
    return list(within)


def _spawn(spec: dict[str, Any]) -> tuple[int, int, int]:
    """Start the command; return its pid, the pipe of its output and the confiner's report pipe."""
    os.chdir(spec["cwd"])
    argv = [*_reporting(spec["within"]), *spec["argv"]]
    if spec["within"]:
        _check(spec["argv"][0], spec["env"].get("PATH", os.defpath))
        _leave_keyring()
    _limit(spec["disk"])
    _open_stdin(spec["stdin"])
    # posix_spawnp would search the PATH of this process and not the PATH of the new environment.
    os.environ.pop("PATH", None)
    if "PATH" in spec["env"]:
        os.environ["PATH"] = spec["env"]["PATH"]
    output, into_output = os.pipe()
    report, into_report = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, into_output, 1), (os.POSIX_SPAWN_DUP2, into_output, 2)]
    if spec["within"]:
        actions.append((os.POSIX_SPAWN_DUP2, into_report, _REPORT))
    leader = os.posix_spawnp(
        argv[0],
        argv,
        spec["env"],
        file_actions=actions,
        setsid=True,
        setsigmask=[],
        setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
    )
    os.close(into_output)
    os.close(into_report)
    return leader, output, report


def _open_stdin(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    os.dup2(fd, 0)
    if fd > 0:
        os.close(fd)


def _widen(pipe: int) -> None:
    """Make the pipe as large as the system allows a user.

    If a program writes without blocking and then exits, output that does not fit is lost.
    """
    import fcntl

    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _CHUNK)
    # the system does not support this, or the user's pipes are too large together
    except (AttributeError, OSError):
        return


def _reap() -> tuple[dict[int, int], bool]:
    """Return the status of each ended child or orphan, and whether any child is alive."""
    ended: dict[int, int] = {}
    try:
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return ended, True
            ended[pid] = status
    except ChildProcessError:
        return ended, False


def _sweep() -> int:
    """End every child; return the number of children that could not be ended."""
    until = time.monotonic() + _SWEEP_SECONDS
    while True:
        lives = _reap()[1]
        if proc.PROC:
            left = _children() if lives else []
        else:
            left = proc.marked(f"{proc.MARKER}={sys.argv[1]}")
            lives = bool(left)
        if not lives:
            return 0
        if time.monotonic() >= until:
            return len(left)
        for pid in left:
            _send(os.kill, pid, signal.SIGKILL)
        time.sleep(0.01)


def _children() -> list[int]:
    """Return the direct children. Until they are reaped, no other process gets their pids.

    When a child ends, its own children become children of the shim.
    """
    me = os.getpid()
    return [pid for pid in proc.pids() if proc.parent(pid) == me]


def _signal_inner(leader: int, number: int) -> None:
    """Signal the group without its confiner, whose end would kill all the others at once."""
    for pid in proc.pids():
        try:
            handle = os.pidfd_open(pid)
        except OSError:
            continue
        try:
            if pid != leader and _is_inner(pid, str(leader)):
                signal.pidfd_send_signal(handle, number)
        except OSError:
            continue  # the process has just ended
        finally:
            os.close(handle)


def _is_inner(pid: int, group: str) -> bool:
    """Return whether a process is in the group and is not a child of its leader."""
    fields = proc.stat(pid)
    return bool(fields) and fields[2] == group and fields[1] != group


def _send(send: Callable[[int, int], None], target: int, number: int) -> None:
    try:
        send(target, number)
    except (ProcessLookupError, PermissionError):
        return


def _json(facts: dict[str, object]) -> str:
    # Not json: it imports re and enum, which costs 10 ms, more than the rest of this program.
    try:
        from _json import encode_basestring_ascii as quoted
    except ImportError:
        from json import dumps as quoted
    members = []
    for name, value in facts.items():
        # values of other types are numbers
        said = quoted(value) if isinstance(value, str) else repr(value)
        members.append(f"{quoted(name)}: {said}")
    return f"{{{', '.join(members)}}}"


def _write(run_dir: str, name: str, facts: dict[str, object]) -> None:
    # The file is not synced, so it may be incomplete after a power cut. Then the run counts as
    # lost.
    _fill(run_dir, name, _json(facts))
    os.replace(f"{run_dir}/{name}.new", f"{run_dir}/{name}")


def _fill(run_dir: str, name: str, text: str = "") -> None:
    # The file is not truncated, because that would free the reserved room.
    fd = os.open(f"{run_dir}/{name}.new", os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(fd, text.encode().ljust(_ROOM))
    os.close(fd)
