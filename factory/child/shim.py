"""The parent of one supervised command: a small process that outlives the daemon.

Invariant: when exit.json appears, nothing that the command started is alive (Linux; elsewhere: nothing of its group,
nor what still has the run's marker in its environment).

Runs as `python -I -S`, standard library only, and imports what is dear only once the command has been started.
SIGTERM starts the stop ladder, SIGINT is its last rung.
"""
# pathlib would cost 4 ms before every start, typing 11.
# ruff: noqa: PTH105, PTH110, PTH123, PTH208

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # without the enums of `signal`: 5 ms
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
_KEYCTL, _KEYCTL_JOIN_SESSION_KEYRING = (
    {"x86_64": 250, "aarch64": 219, "riscv64": 219},
    1,
)  # libc has no name for it
_SWEEP_SECONDS = 5.0
_LOOK_SECONDS = 2.0  # between two looks at what the command uses
_ROOM = 4096  # bytes of start.json and exit.json, blanks at the end
_CHUNK = 1 << 20  # a whole pipe: what is in one is read at once
_NEVER = float("inf")
_TOLD = 3  # the descriptor on which what confines a command tells that it started it: the command never has it
_TOLD_BY = {"bwrap": b'"exit-code"', "sandbox-exec": b"started"}
# sandbox-exec becomes the command and tells nothing: a shell inside tells it, and becomes the command.
_TELLS = f'{{ echo started >&{_TOLD}; }} 2>/dev/null; exec "$@" {_TOLD}>&-'
_NOTHING_TO_START = "bwrap: execvp "  # how bwrap says so


def main() -> None:
    """Run what the specification on stdin says, argv[1] being its run directory."""
    try:
        _supervise(sys.argv[1])
    finally:
        _sweep()  # also where the shim itself failed
        os._exit(0)  # nothing is left to tidy, and the daemon waits for this end


def _supervise(run_dir: str) -> None:
    with open(0, "rb", closefd=False) as stdin:
        spec = marshal.load(stdin)
    _become_subreaper()
    pid, began = os.getpid(), time.monotonic()
    mine = {
        "run_dir": run_dir,
        "nonce": spec["nonce"],
        "seconds": spec["seconds"],
    }  # no copy's elsewhere
    who = {"pid": pid, "started": started(pid), "boot": boot(), "grace_s": spec["grace_s"], **mine}
    _fill(
        run_dir, "exit.json"
    )  # its room is taken now: a full disk must not make the end a lost one
    _write(run_dir, "start.json", _object(who))
    try:
        leader, output, told = _spawn(spec)
    except (OSError, ValueError) as error:
        reason = (
            f"{error.strerror}: {error.filename or spec['argv'][0]}"
            if isinstance(error, OSError)
            else str(error)
        )
        facts: dict[str, object] = {"cause": "unstartable", "detail": reason[:600]}
    else:
        facts = _Run(run_dir, spec, leader, output, told).facts()
    facts |= {"at": time.time(), "seconds": time.monotonic() - began, "nonce": spec["nonce"]}
    _write(run_dir, "exit.json", _object(facts))


def stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third (state) on; empty where there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().decode(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def started(pid: int) -> str:
    """When the process started, as its system tells it; "" where no such process lives."""
    if PROC:
        state, *_, start = stat(pid)[:20] or ("Z", "")
    else:
        state, _, start = "".join(_ps(f"-p {int(pid)}", "state", "lstart")).strip().partition(" ")
    return "" if state.startswith("Z") else start.strip()


def boot() -> str:
    """Which boot of the machine this is; "" where start times are absolute."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""


def pids() -> list[int]:
    """All processes of the machine."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()] if PROC else []


def marked(entry: str) -> list[int]:
    """Other processes with that entry in their environment, as `ps` tells where there is no /proc."""
    found = []
    for line in _ps("-axEww" if sys.platform == "darwin" else "axeww", "pid", "command"):
        pid, _, said = line.strip().partition(" ")
        if f" {entry} " in f"{said} " and pid != str(os.getpid()):
            # The environment is told behind the words of the command, which may hold the entry for another reason.
            words = "".join(_ps(f"-ww -p {pid}", "command")).strip()
            around = said[len(words) :] if words and said.startswith(words) else ""
            found += [int(pid)] if f" {entry} " in f"{around} " else []
    return found


def _ps(which: str, *columns: str) -> list[str]:
    # By absolute names, for PATH is the command's by now; and without the marker of this process. Each column by
    # itself: all behind the first = is its header, to POSIX and to the ps of FreeBSD.
    asked = " ".join(f"-o {column}=" for column in columns)
    with os.popen(f"exec /usr/bin/env -i LC_ALL=C /bin/ps {which} {asked}") as ps:
        return ps.read().splitlines()


def family(roots: list[int]) -> list[int]:
    """`roots` and their descendants."""
    below: dict[int, list[int]] = {}
    for pid in pids() if roots else ():
        if fields := stat(pid):
            below.setdefault(int(fields[1]), []).append(pid)
    found = list(dict.fromkeys(roots))
    for pid in found:  # grows while it is walked
        found += [child for child in below.get(pid, ()) if child not in found]
    return found


def cpu_seconds(of: list[int]) -> float:
    """CPU time that these processes have used, and those of their children that they have seen end."""
    ticks = sum(int(ticks) for pid in of for ticks in stat(pid)[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def has_started(confiner: str, told: bytes) -> bool:
    """Whether a command ran, as the program that confines it has told; without such a program it did."""
    return _TOLD_BY.get(confiner, b"") in told


class _Run:
    """The command while it runs: its output, its limit and the ladder that ends it."""

    def __init__(
        self, run_dir: str, spec: dict[str, Any], leader: int, output: int, told: int
    ) -> None:
        self._spec, self._leader, self._output, self._told = spec, leader, output, told
        self._log = _Log(run_dir, spec["cap_bytes"] // 2)
        self._within = os.path.basename(spec["within"][0]) if spec["within"] else ""  # noqa: PTH119
        self._use, self._over = _Use(spec), ""
        self._status: int | None = None  # the leader's, once it has ended
        self._cause = "exited"
        self._due = (
            time.monotonic() + spec["seconds"] if spec["seconds"] else _NEVER
        )  # the next rung of the ladder

    def facts(self) -> dict[str, object]:
        """See it through to its end; how that was."""
        self._listen()
        while self._status is None:
            self._turn()
            if time.monotonic() >= self._due:
                self._climb()
            if (
                self._cause == "exited"
                and time.monotonic() >= self._use.due
                and (over := self._use.look())
            ):
                self._cause, self._over = "overran", over
                self._kill()
        if not PROC:
            _send(os.killpg, self._leader, signal.SIGKILL)
        left = _sweep()
        self._pump()  # what escaped may still hold the pipe: what is in it now is all that is waited for
        code = os.waitstatus_to_exitcode(self._status)
        if self._cause == "exited" and not self._has_started():
            return {**self._refusal(), "left": left}
        told = {"code": code} if code >= 0 else {"signal": -code}
        return {"cause": self._cause, "left": left, "detail": self._over or self._log.lost, **told}

    def _has_started(self) -> bool:
        """Whether the command ran at all: what confines it tells so where the command cannot write."""
        os.set_blocking(self._told, False)
        try:
            told = os.read(self._told, _CHUNK)
        except BlockingIOError:
            told = b""
        return has_started(self._within, told)

    def _refusal(self) -> dict[str, object]:
        """How it ended where nothing was started, so that the output is what confines it said."""
        why = self._log.only_line()
        if why.startswith(_NOTHING_TO_START):  # such as a script whose interpreter is not there
            return {"cause": "unstartable", "detail": why.removeprefix(_NOTHING_TO_START)}
        said = why or f"{self._within} ended before it had started anything"
        return {"cause": "unconfined", "detail": said}

    def _listen(self) -> None:
        import select

        _widen(self._output)
        self._heard, told = os.pipe()
        for fd in (self._heard, told, self._output):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._stop("stopped"))
        signal.signal(signal.SIGINT, lambda *_: self._kill())
        signal.pthread_sigmask(
            signal.SIG_SETMASK, []
        )  # blocked since before this process began: none was missed
        self._poll = select.poll()
        self._poll.register(self._heard, select.POLLIN)
        self._poll.register(self._output, select.POLLIN)
        self._reap()

    def _turn(self) -> None:
        patience = max(0.0, min(self._due, self._use.due) - time.monotonic())
        for fd, _ in self._poll.poll(None if patience == _NEVER else int(patience * 1000) + 1):
            if fd == self._heard:
                os.read(self._heard, _CHUNK)
            elif not self._pump():
                self._poll.unregister(self._output)
        self._reap()

    def _pump(self) -> bool:
        """Take what the pipe holds; false once nobody can write into it any more."""
        try:
            chunk = os.read(self._output, _CHUNK)
        except BlockingIOError:
            return True
        self._log.write(chunk)
        return bool(chunk)

    def _reap(self) -> None:
        self._status = _reap()[0].get(self._leader, self._status)

    def _climb(self) -> None:
        if self._cause == "exited":
            self._stop("timeout")
        else:  # the grace is over
            self._kill()

    def _stop(self, cause: str) -> None:
        if self._status is None and self._cause == "exited":
            self._cause, self._due = cause, time.monotonic() + self._spec["grace_s"]
            if self._within == "bwrap":
                _tell_inner(self._leader, self._spec["stop_signal"])
            else:
                _send(os.killpg, self._leader, self._spec["stop_signal"])

    def _kill(self) -> None:
        if self._status is None:
            self._cause = "stopped" if self._cause == "exited" else self._cause
            self._due = _NEVER
            _send(os.killpg, self._leader, signal.SIGKILL)


class _Use:
    """What the command and all that it started use, against its limits."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec, self._disk_due = spec, time.monotonic() + _LOOK_SECONDS
        limited = spec["memory"] or spec["processes"] or spec["disk"] or spec["cpu"]
        self.due = self._disk_due if limited else _NEVER  # when to look next

    def look(self) -> str:
        """What it uses too much of; empty while there is nothing."""
        over, limits = self._processes(), self._spec
        if not over and limits["disk"] and time.monotonic() >= self._disk_due:
            began = time.monotonic()
            used = sum(map(_disk, limits["folders"]))
            over = _beyond("GB of disk", used / 1e9, limits["disk"] / 1e9)
            self._disk_due = began + max(_LOOK_SECONDS, 20 * (time.monotonic() - began))
        self.due = time.monotonic() + _LOOK_SECONDS
        return over

    def _processes(self) -> str:
        me, *of = family([os.getpid()])
        memory = _memory(of, self._spec["memory"]) if self._spec["memory"] else 0
        cpu = cpu_seconds([me, *of]) if self._spec["cpu"] else 0
        return (
            _beyond("GB of memory", memory / 1e9, self._spec["memory"] / 1e9)
            or _beyond("processes", len(of), self._spec["processes"])
            or _beyond("minutes of CPU time", cpu / 60, self._spec["cpu"] / 60)
        )


def _beyond(what: str, used: float, limit: float) -> str:
    return f"{used:.3g} {what}, of {limit:.3g} allowed" if 0 < limit < used else ""


def _memory(of: list[int], limit: int) -> int:
    """Bytes that these processes have together, files less; what they share is gone into only where it could matter."""
    sizes = {pid: _resident(pid) for pid in of}
    alone = sum(resident - shared for resident, shared in sizes.values())
    if alone > limit or sum(resident for resident, _ in sizes.values()) <= limit:
        return alone
    return sum(_share(pid, resident) for pid, (resident, _) in sizes.items())


def _resident(pid: int) -> tuple[int, int]:
    """Bytes that it has in memory, and how many of them are shared or a file's."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            _, resident, shared = map(int, file.read().split()[:3])
    except (OSError, ValueError):
        return 0, 0
    page = os.sysconf("SC_PAGE_SIZE")
    return page * resident, page * shared


def _share(pid: int, resident: int) -> int:
    """Its own bytes and its part of those that it shares; all that it has where it hides them."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            told = [line.split() for line in file if line.startswith((b"Pss_Anon:", b"Pss_Shmem:"))]
    except FileNotFoundError:
        return 0
    except OSError:
        return resident
    return sum(int(fields[1]) << 10 for fields in told)


def _disk(folder: str) -> int:
    used, left = 0, [folder]
    while left:
        try:
            with os.scandir(left.pop()) as entries:
                for entry in entries:
                    used += 512 * entry.stat(follow_symlinks=False).st_blocks
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
        except OSError:  # it went meanwhile
            continue
    return used


class _Log:
    """output.log, of which only the last 2 x `half` bytes are kept: the older part is output.1.log."""

    def __init__(self, run_dir: str, half: int) -> None:
        self._path, self._older, self._half = (
            f"{run_dir}/output.log",
            f"{run_dir}/output.1.log",
            half,
        )
        self._size, self.lost = 0, ""  # why output was lost
        self._open()

    def write(self, said: bytes) -> None:
        for at in range(0, len(said), self._half):
            self._add(said[at : at + self._half])

    def _add(self, chunk: bytes) -> None:
        try:
            if self._size and self._size + len(chunk) > self._half:
                os.close(self._fd)
                os.replace(self._path, self._older)
                self._open()
            while chunk:
                done = os.write(self._fd, chunk)
                self._size, chunk = self._size + done, chunk[done:]
        except OSError as error:  # a full disk must neither block the command nor end it
            self.lost = f"output was lost: {error.strerror}"

    def only_line(self) -> str:
        """What was said, where that was one short line."""
        with open(self._path, "rb") as file:
            said = file.read(1000).decode(errors="replace").strip()
        return said if self._size < 1000 and "\n" not in said else ""

    def _open(self) -> None:
        self._fd, self._size = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 0


def _become_subreaper() -> None:
    _call("prctl", _PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _leave_keyring() -> None:
    """Join a new one: keys of the user's session are inherited, and no namespace hides them."""
    if keyctl := _KEYCTL.get(os.uname().machine):
        _call("syscall", keyctl, _KEYCTL_JOIN_SESSION_KEYRING, 0)


def _call(function: str, *args: int) -> None:
    if sys.platform != "linux":
        return
    from _ctypes import call_function, dlopen, dlsym  # ctypes itself: 3 ms more

    this_program = dlopen(None, 0)  # type: ignore[arg-type]
    call_function(dlsym(this_program, function), args)


def _limit(disk: int) -> None:
    if disk:
        import resource

        for kind, most in ((resource.RLIMIT_FSIZE, disk), (resource.RLIMIT_CORE, 0)):
            hard = resource.getrlimit(kind)[1]
            most = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(kind, (most, most))


def _check(program: str, path: str) -> None:
    """Raise what a start would raise where the program, or what interprets it, is not there.

    What confines it would say so in its own way, or a shell would, as if it had been started.
    """
    from errno import ENOENT

    folders = [""] if "/" in program else path.split(":")
    there = [found for folder in folders if os.path.lexists(found := os.path.join(folder, program))]  # noqa: PTH118
    if not there or not os.path.lexists(_interpreter(there[0]) or there[0]):
        raise FileNotFoundError(ENOENT, os.strerror(ENOENT), program)


def _interpreter(program: str) -> str:
    """What interprets a script; empty for any other program, and for one that cannot be read."""
    if not os.path.isfile(program):  # noqa: PTH113  a pipe would be waited for
        return ""
    try:
        fd = os.open(program, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return ""
    first = os.read(fd, 256).partition(b"\n")[0]
    os.close(fd)
    words = first[2:].split() if first.startswith(b"#!") else []
    return os.fsdecode(words[0]) if words else ""


def _telling(within: tuple[str, ...]) -> list[str]:
    """The words that confine a command, and have it told that it was started."""
    confiner = os.path.basename(within[0]) if within else ""  # noqa: PTH119
    if confiner == "bwrap":
        return [within[0], "--json-status-fd", str(_TOLD), *within[1:]]
    if confiner == "sandbox-exec":
        return [*within, "/bin/sh", "-c", _TELLS, "sh"]
    return list(within)


def _spawn(spec: dict[str, Any]) -> tuple[int, int, int]:
    """Start the command: its pid, and where to read its output and what confines it tells."""
    os.chdir(spec["cwd"])
    argv = [*_telling(spec["within"]), *spec["argv"]]
    if spec["within"]:
        _check(spec["argv"][0], spec["env"].get("PATH", os.defpath))
        _leave_keyring()
    _limit(spec["disk"])
    stdin = os.open(spec["stdin"], os.O_RDONLY)
    os.dup2(stdin, 0)
    if stdin > 0:
        os.close(stdin)
    # posix_spawnp looks through this process's PATH, not through that of the environment it passes on.
    os.environ.pop("PATH", None)
    os.environ.update({name: value for name, value in spec["env"].items() if name == "PATH"})
    output, said = os.pipe()
    told, tells = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, said, 1), (os.POSIX_SPAWN_DUP2, said, 2)]
    if spec["within"]:
        actions.append((os.POSIX_SPAWN_DUP2, tells, _TOLD))
    leader = os.posix_spawnp(
        argv[0],
        argv,
        spec["env"],
        file_actions=actions,
        setsid=True,
        setsigmask=[],
        setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
    )
    os.close(said)
    os.close(tells)
    return leader, output, told


def _widen(pipe: int) -> None:
    """As much room as a user may have: a program that writes without blocking and exits loses what finds none."""
    import fcntl

    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _CHUNK)
    except (
        AttributeError,
        OSError,
    ):  # another system; or the user's pipes together have too much already
        return


def _reap() -> tuple[dict[int, int], bool]:
    """The status of each child that has ended, orphans of the command among them; and whether any lives."""
    ended: dict[int, int] = {}
    try:
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            ended[found[0]] = found[1]
    except ChildProcessError:
        return ended, False
    return ended, True


def _sweep() -> int:
    """End every child; return how many would not go."""
    # Only direct children are killed: until reaped, their pids cannot change hands. Theirs become ours in turn.
    me, until = [str(os.getpid())], time.monotonic() + _SWEEP_SECONDS
    while _reap()[1] or not PROC:
        left = (
            [pid for pid in pids() if stat(pid)[1:2] == me]
            if PROC
            else marked(f"{MARKER}={sys.argv[1]}")
        )
        if not PROC and not left:
            return 0
        if time.monotonic() >= until:
            return len(left)
        for pid in left:
            _send(os.kill, pid, signal.SIGKILL)
        time.sleep(0.01)
    return 0


def _tell_inner(leader: int, number: int) -> None:
    """Signal the group, less what confines it: that would take all the others down at once."""
    for pid in pids():
        try:
            handle = os.pidfd_open(pid)
        except OSError:
            continue
        try:
            if (
                (fields := stat(pid))
                and fields[2] == str(leader)
                and pid != leader
                and fields[1] != str(leader)
            ):
                signal.pidfd_send_signal(handle, number)
        except OSError:
            continue  # it has just ended
        finally:
            os.close(handle)


def _send(send: Callable[[int, int], None], target: int, number: int) -> None:
    try:
        send(target, number)
    except (ProcessLookupError, PermissionError):
        return


def _object(facts: dict[str, object]) -> str:
    return f"{{{', '.join(f'{_json(name)}: {_json(value)}' for name, value in facts.items())}}}"


def _json(value: object) -> str:
    # json itself imports re and enum: 10 ms, more than all the rest of this program.
    try:
        from _json import encode_basestring_ascii as quoted
    except ImportError:
        from json import dumps as quoted
    return quoted(value) if isinstance(value, str) else repr(value)  # else a number


def _write(run_dir: str, name: str, text: str) -> None:
    # Not synced: a power cut may tear it, and then the run reads as lost.
    _fill(run_dir, name, text)
    os.replace(f"{run_dir}/{name}.new", f"{run_dir}/{name}")


def _fill(run_dir: str, name: str, text: str = "") -> None:
    fd = os.open(
        f"{run_dir}/{name}.new", os.O_WRONLY | os.O_CREAT, 0o600
    )  # not truncated: that would give up its room
    os.write(fd, text.encode().ljust(_ROOM))
    os.close(fd)
