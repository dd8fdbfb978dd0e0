"""Compares what a command and its descendants use with the limits of its run.

Invariant: this module imports only the standard library. The shim imports it after starting the
command.
"""
# ruff: noqa: PTH123

from __future__ import annotations

import os
import time

from factory.child import proc

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing would cost every run 11 ms
    from typing import Any

NEVER = float("inf")
_LOOK_SECONDS = 2.0  # seconds between two measurements
# measuring the disk takes at most this fraction of the time: one second in so many
_DISK_SHARE = 20


class Usage:
    """Measures what the shim's children use. `limits`: memory, processes, cpu, disk, folders."""

    def __init__(self, limits: dict[str, Any]) -> None:
        self._limits = limits
        self._disk_due = time.monotonic() + _LOOK_SECONDS
        self.due = NEVER  # the time of the next measurement
        if limits["memory"] or limits["processes"] or limits["disk"] or limits["cpu"]:
            self.due = self._disk_due

    def look(self) -> str:
        """Return what the command uses too much of, as text; "" if it is within its limits."""
        over = self._look_at_processes()
        if not over and self._limits["disk"] and time.monotonic() >= self._disk_due:
            over = self._look_at_disk()
        self.due = time.monotonic() + _LOOK_SECONDS
        return over

    def _look_at_processes(self) -> str:
        me, *others = proc.family([os.getpid()])
        memory = self._limits["memory"]
        cpu = self._limits["cpu"]
        over = ""
        if memory:
            over = _beyond("GB of memory", _memory(others, memory) / 1e9, memory / 1e9)
        if not over:
            over = _beyond("processes", len(others), self._limits["processes"])
        if not over and cpu:
            used = proc.cpu_seconds([me, *others])
            over = _beyond("minutes of CPU time", used / 60, cpu / 60)
        return over

    def _look_at_disk(self) -> str:
        began = time.monotonic()
        used = sum(map(_disk, self._limits["folders"]))
        pause = _DISK_SHARE * (time.monotonic() - began)
        self._disk_due = began + max(_LOOK_SECONDS, pause)
        return _beyond("GB of disk", used / 1e9, self._limits["disk"] / 1e9)


def _beyond(what: str, used: float, limit: float) -> str:
    if 0 < limit < used:
        return f"{used:.3g} {what}, of {limit:.3g} allowed"
    return ""


def _memory(processes: list[int], limit: int) -> int:
    """Return the bytes of memory that these processes use together, not counting files."""
    resident: dict[int, int] = {}
    own = 0
    for pid in processes:
        resident[pid], shared = _resident(pid)
        own += resident[pid] - shared
    # Finding out which memory is shared is slow, so this happens only if the result depends on it.
    if own > limit or sum(resident.values()) <= limit:
        return own
    return sum(map(_share, resident, resident.values()))


def _resident(pid: int) -> tuple[int, int]:
    """Return a process's bytes in memory, and how many of these are shared or belong to a file."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            _, resident, shared = map(int, file.read().split()[:3])
    except (OSError, ValueError):
        return 0, 0
    page = os.sysconf("SC_PAGE_SIZE")
    return page * resident, page * shared


def _share(pid: int, resident: int) -> int:
    """Return a process's own bytes plus its part of shared ones; `resident` if unreadable."""
    share = 0
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith((b"Pss_Anon:", b"Pss_Shmem:")):
                    share += int(line.split()[1]) << 10
    except FileNotFoundError:
        return 0
    except OSError:
        return resident
    return share


def _disk(folder: str) -> int:
    used = 0
    left = [folder]
    while left:
        try:
            with os.scandir(left.pop()) as entries:
                for entry in entries:
                    used += 512 * entry.stat(follow_symlinks=False).st_blocks
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
        except OSError:  # somebody removed the file meanwhile
            continue
    return used
