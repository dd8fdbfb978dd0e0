"""Finds the processes that use a folder: their files, programs or working folder lie in it.

Invariant: nothing changes. Without /proc, no process is found.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")


def users(folder: Path, proc: Path = PROC) -> dict[int, str]:
    """Return the pids of other processes that use the folder, each with one piece of evidence."""
    inside = _Inside(folder)
    found = {}
    namespaces = {_link(proc / "self/ns/mnt")}
    for entry in _processes(proc):
        sign = next(filter(inside.holds, _paths(entry)), "")
        namespace = _link(entry / "ns/mnt")
        if not sign and namespace not in namespaces:
            # All processes of a sandbox have the same mounts, so read those of one process only.
            namespaces.add(namespace)
            sign = next(filter(inside.holds, _mounts(entry)), "")
        if sign:
            found[int(entry.name)] = sign
    return found


class _Inside:
    def __init__(self, folder: Path) -> None:
        real = os.path.realpath(folder)
        self._exact = real
        self._below = f"{real}/"

    def holds(self, path: str) -> bool:
        plain = path.removesuffix(" (deleted)")
        return plain == self._exact or plain.startswith(self._below)


def _processes(proc: Path) -> Iterator[Path]:
    mine = str(os.getpid())
    for name in _names(proc):
        if name.isdigit() and name != mine:
            yield proc / name


def _paths(process: Path) -> Iterator[str]:
    yield _link(process / "cwd")
    yield _link(process / "root")
    yield _link(process / "exe")
    for name in _names(process / "fd"):
        yield _link(process / "fd" / name)


def _mounts(process: Path) -> Iterator[str]:
    """Yield the mount points that the process sees."""
    with suppress(OSError):
        lines = (process / "mountinfo").read_text(errors="surrogateescape").splitlines()
        yield from map(_unescaped, _fifth(lines))


def _fifth(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield line.split(" ")[4]


def _unescaped(path: str) -> str:
    for code, sign in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(code, sign)
    return path


def _link(path: Path) -> str:
    with suppress(OSError):
        return os.readlink(path)  # noqa: PTH115 - a socket's target is not a path
    return ""


def _names(folder: Path) -> list[str]:
    with suppress(OSError):
        return os.listdir(folder)  # noqa: PTH208 - there are thousands
    return []
