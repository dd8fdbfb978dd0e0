"""The git processes of this machine, whichever program started them."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from factory.child import process
from factory.repo.git_dir import clean_environment

PROC = Path("/proc")
Running = tuple[Path | None, list[str]]


async def running(environ: Mapping[str, str], proc: Path = PROC) -> list[Running]:
    """Return the working folder (None if unknown) and the arguments of each git process."""
    found: list[Running] = list(_processes(proc))
    if not found:
        command = ["ps", "-axww", "-o", "command="]
        listed = await process.run(command, env=clean_environment(environ))
        for line in os.fsdecode(listed.out).splitlines():
            found.append((None, line.split()))
    return list(filter(_is_git, found))


def _is_git(process: Running) -> bool:
    _, argv = process
    return bool(argv) and argv[0].rpartition("/")[2] == "git"


def _processes(proc: Path) -> Iterator[Running]:
    for folder in proc.glob("[0-9]*"):
        with suppress(OSError):  # the process has ended, or belongs to another user
            arguments = os.fsdecode((folder / "cmdline").read_bytes()).split("\0")
            yield (folder / "cwd").readlink(), arguments
