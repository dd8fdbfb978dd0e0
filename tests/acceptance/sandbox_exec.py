"""A stand-in for macOS's `sandbox-exec`, which really confines: bubblewrap does what the profile's rules say.

It knows files, signals and the network. What is confined gets every signal of its group, as if nothing stood between.
"""

import os
import signal
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from tests.sbpl import allows, filters

REPOSITORY = Path(__file__).parents[2]
BWRAP = "/usr/bin/bwrap"


def install(folder: Path, *, before: str = "") -> Path:
    """Put it into a folder of programs, with all of this machine's but bubblewrap; `before`: what it does first."""
    folder.mkdir(exist_ok=True)
    folders = (Path(sys.base_prefix, "bin"), Path("/usr/bin"), Path("/bin"))
    for program in chain.from_iterable(map(Path.iterdir, folders)):
        link = folder / program.name
        if program.name != "bwrap" and not link.is_symlink():
            link.symlink_to(program)
    stand_in = folder / "sandbox-exec"
    lines = ["import sys", f"sys.path[:0] = [{str(REPOSITORY)!r}]", before]
    lines += ["from tests.acceptance.sandbox_exec import main", "main(sys.argv[1:])"]
    stand_in.write_text(f"#!{sys.executable} -I\n" + "\n".join(lines) + "\n")
    stand_in.chmod(0o755)
    return folder


def main(argv: list[str]) -> None:
    """`-p PROFILE -- COMMAND…`."""
    option, profile, end, *command = argv
    assert (option, end) == ("-p", "--")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)  # bubblewrap's own processes go on
    os.execv(BWRAP, ["bwrap", *options(profile), "--", "env", "--default-signal", *command])


def options(profile: str) -> Iterator[str]:
    """What bubblewrap is told."""
    yield from ("--die-with-parent", "--unshare-user", "--unshare-pid", "--cap-drop", "ALL")
    yield from () if allows(profile, "network-outbound", "ip") else ("--unshare-net",)
    yield from ("--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev")
    yield from (
        ()
        if allows(profile, "sysctl-write", "kern.any")
        else ("--ro-bind", "/proc/sys", "/proc/sys")
    )
    hidden = _folders(profile, "deny", "file-read-data")
    shown = _folders(profile, "allow", "file-read-data")
    for path in hidden:
        yield from ("--perms", "0111", "--tmpfs", path)
    for path in shown:
        yield from ("--ro-bind", path, path)
    for path in sorted(filters(profile, "allow", "file-read-data", "literal")):
        if _lies_in(path, hidden) and not _lies_in(path, shown):
            link = Path(path).is_symlink()
            yield from (
                ("--symlink", str(Path(path).readlink()), path)
                if link
                else ("--ro-bind", path, path)
            )
    for path in _folders(profile, "allow", "file-write-data"):
        yield from ("--bind", path, path)
    for path in hidden:
        yield from ("--remount-ro", path)


def _folders(profile: str, verb: str, operation: str) -> list[str]:
    found = set(filters(profile, verb, operation, "subpath")) - {"/dev", "/dev/fd"}
    return [path for path in sorted(found) if Path(path).is_dir()]


def _lies_in(path: str, folders: list[str]) -> bool:
    return any(Path(path).is_relative_to(folder) for folder in folders)
