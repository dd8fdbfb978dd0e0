"""Facts about processes, from /proc, or from `ps` if there is no /proc.

Invariant: importing this module is cheap and needs only the standard library: the shim imports it
before it starts a command.
"""
# Importing pathlib would cost the shim 4 ms before every start.
# ruff: noqa: PTH110, PTH123, PTH208

import os
import sys

# in the environment of each process of a run; its value is the run directory
MARKER = "FACTORY_RUN"
PROC = os.path.exists("/proc/self/stat")


def stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third (state) on; [] if the process is gone."""
    return _read(pid, "stat").decode(errors="replace").rpartition(")")[2].split()


def started(pid: int) -> str:
    """Return the start time of a process in the system's own form; "" if it does not exist."""
    if PROC:
        fields = stat(pid)
        state = fields[0] if fields else "Z"
        start = fields[19] if fields else ""
    else:
        line = "".join(_ps(f"-p {int(pid)}", "state", "lstart")).strip()
        state, _, start = line.partition(" ")
    return "" if state.startswith("Z") else start.strip()


def parent(pid: int) -> int:
    """Return the parent of a process; 0 if the process does not exist, or without /proc."""
    fields = stat(pid)
    return int(fields[1]) if fields else 0


def boot() -> str:
    """Return the id of the machine's current boot; "" on systems where start times are absolute."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""


def pids() -> list[int]:
    """Return the pids of all processes of the machine; [] without /proc."""
    if not PROC:
        return []
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def arguments(pid: int) -> list[str]:
    """Return the arguments of a process; [] without /proc."""
    return os.fsdecode(_read(pid, "cmdline")).split("\0")


def environment(pid: int) -> list[bytes]:
    """Return the entries of a process's environment; [] without /proc."""
    return _read(pid, "environ").split(b"\0")


def marked(entry: str) -> list[int]:
    """Return the pids of the processes with this entry in their environment."""
    if PROC:
        sought = os.fsencode(entry)
        return [pid for pid in pids() if sought in environment(pid)]
    return _marked_by_ps(entry)


def _marked_by_ps(entry: str) -> list[int]:
    found = []
    for line in _ps("-axEww" if sys.platform == "darwin" else "axeww", "pid", "command"):
        pid, _, words = line.strip().partition(" ")
        if not _has_word(words, entry) or pid == str(os.getpid()):
            continue
        # `ps` prints the environment after the command, and the command itself may contain the
        # entry's text.
        command = "".join(_ps(f"-ww -p {pid}", "command")).strip()
        environ = words.removeprefix(command)
        if command and environ != words and _has_word(environ, entry):
            found.append(int(pid))
    return found


def family(roots: list[int]) -> list[int]:
    """Return the pids in `roots` and the pids of their descendants."""
    if not roots:
        return []
    below: dict[int, list[int]] = {}
    for pid in pids():
        fields = stat(pid)
        if fields:
            below.setdefault(int(fields[1]), []).append(pid)
    found = dict.fromkeys(roots)
    left = list(found)
    while left:
        for child in below.get(left.pop(0), ()):
            if child not in found:
                found[child] = None
                left.append(child)
    return list(found)


def cpu_seconds(processes: list[int]) -> float:
    """Return the CPU seconds of these processes and of the children that they have reaped."""
    ticks = 0
    for pid in processes:
        ticks += sum(map(int, stat(pid)[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _has_word(words: str, entry: str) -> bool:
    return f" {entry} " in f"{words} "


def _ps(which: str, *columns: str) -> list[str]:
    # Use absolute names, because PATH may now be the command's PATH, and drop this process's
    # marker. Each column has its own -o: POSIX and FreeBSD's ps read all text after the first = as
    # a header.
    asked = " ".join(f"-o {column}=" for column in columns)
    with os.popen(f"exec /usr/bin/env -i LC_ALL=C /bin/ps {which} {asked}") as ps:
        return ps.read().splitlines()


def _read(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:
        return b""
