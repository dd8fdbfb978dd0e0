"""Seatbelt confines commands on macOS: a profile for `sandbox-exec`. The last matching rule wins.

Invariant: the profile denies everything that it does not name, and `look` tries every protection.
(No Mac has run this code yet. If the profile has an error, `look` must report that the sandbox does
not work.)
"""

# Uses os.path, because a link may lead into another user's HOME: there, pathlib raises, and os.path
# returns False.
# ruff: noqa: PTH112, PTH114, PTH115, PTH118

import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import anyio
from anyio import to_thread
from anyio.abc import SocketAttribute

from factory.child import process
from factory.child.profile import Profile
from factory.ground.errors import ConfigError

_DATA = "/System/Volumes/Data"  # this volume also shows /Users and other folders
_TRIAL_SECONDS = 20.0
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# The profile allows tests whether a file exists. Otherwise a program that looks for a file in all
# parent folders would fail.
_BASE = r"""(version 1)
(deny default)
(deny process-info*)
(if (defined? 'nvram*) (deny nvram*))
(if (defined? 'file-test-existence) (allow file-test-existence))
(allow process-exec* process-fork file-map-executable file-ioctl pseudo-tty system-socket ipc-posix-sem ipc-posix-shm)
(allow process-info* (target same-sandbox))
(allow signal (target same-sandbox))
(allow sysctl-read)
(deny sysctl-read (sysctl-name-prefix "kern.proc"))
(allow sysctl-read (sysctl-name-prefix "kern.proc.pid.") (sysctl-name-prefix "kern.proc.pgrp."))
(allow mach-lookup
  (global-name "com.apple.system.opendirectoryd.libinfo") (global-name "com.apple.system.opendirectoryd.membership")
  (global-name "com.apple.system.notification_center")
  (global-name "com.apple.system.logger") (global-name "com.apple.logd"))
(allow file-read*)
(deny file-read* file-write* (subpath "/dev"))
(allow file-read-metadata (subpath "/dev"))
(allow file-read* (literal "/dev"))
(allow file-read* file-write*
  (literal "/dev/null") (literal "/dev/zero") (literal "/dev/random") (literal "/dev/urandom") (literal "/dev/tty")
  (literal "/dev/stdin") (literal "/dev/stdout") (literal "/dev/stderr") (subpath "/dev/fd")
  (literal "/dev/dtracehelper") (literal "/dev/ptmx"))
(allow file-read* file-write* (require-all (regex #"^/dev/ttys[0-9]+$") (extension "com.apple.sandbox.pty")))"""
_NETWORK = """(allow network-outbound (remote ip "*:*"))
(allow network-outbound (remote unix-socket (path-literal "/private/var/run/mDNSResponder")))
(allow network-bind network-inbound (local ip "*:*"))
(allow mach-lookup
  (global-name "com.apple.dnssd.service") (global-name "com.apple.trustd") (global-name "com.apple.trustd.agent")
  (global-name "com.apple.SystemConfiguration.configd")
  (global-name "com.apple.SystemConfiguration.DNSConfiguration"))"""
# This program prints what is wrong, or "confined". The numbers 1, 49 ask the kernel for the
# environment variables of another process.
_PROBE = """
import ctypes, os, socket, sys
pid, port, network = map(int, sys.argv[1:4])
folder, *hidden = sys.argv[4:]
def can(do, *args):
    try:
        return do(*args) is None
    except (OSError, AttributeError):
        return False
def use(name, how="r"):
    open(name, how).close()
def see(name):
    os.listdir(name)
def write():
    use(folder + "/mine/new", "w")
    os.unlink(folder + "/mine/new")
def take(make, name):
    link = f"{folder}/mine/{make.__name__}"
    make(f"{folder}/{name}", link)
    try:
        use(link, "a")
    finally:
        os.unlink(link)
def reach(family, where):
    with socket.socket(family) as client:
        client.settimeout(5)
        client.connect(where)
def ask():
    what, size = (ctypes.c_int * 3)(1, 49, pid), ctypes.c_size_t(1 << 20)
    said = ctypes.create_string_buffer(size.value)
    return ctypes.CDLL(None).sysctl(what, 3, said, ctypes.byref(size), None, 0) or None
open_to_all = [name for name in hidden if can(see, name)]
tried = (
    (True, can(use, folder + "/shown/file"), "a file that is shown could not be read"),
    (True, can(write), "its own folder could not be written"),
    (True, os.system("exit 3") == 3 << 8, "a shell could not be started"),
    (False, can(use, folder + "/file"), "a hidden file could be read"),
    (False, can(use, "DATA" + folder + "/file") or can(use, folder.swapcase() + "/file"),
     "a hidden file could be read by another name"),
    (False, bool(open_to_all), f"{open_to_all and open_to_all[0]} could be listed"),
    (False, can(use, folder + "/file", "a") or can(use, folder + "/new", "w"), "a hidden file could be written"),
    (False, can(use, folder + "/shown/file", "a"), "a read-only file could be written"),
    (False, any(can(take, make, name) for make in (os.link, os.symlink) for name in ("file", "shown/file")),
     "a file of others could be written through a link"),
    (False, can(os.rmdir, folder + "/mine"), "its own folder could be replaced"),
    (False, can(os.kill, pid, 0), "the daemon could be signalled"),
    (False, can(ask), "the daemon's variables could be read"),
    (False, can(reach, socket.AF_UNIX, folder + "/socket"), "a hidden socket could be reached"),
    (bool(network), can(reach, socket.AF_INET, ("127.0.0.1", port)),
     "the network could not be reached" if network else "the network could be reached without permission"),
)
print(", ".join(wrong for wanted, got, wrong in tried if got is not wanted) or "confined")
"""


class Seatbelt:
    """A Confiner. It adds no process between the shim and the command."""

    name = "sandbox-exec"
    links = True
    layers = False
    protections = (
        "sandbox: sandbox-exec; separate files and signals; network open; no separate list of "
        "processes; no limits of memory, processes and CPU time; factoryd compares files to find "
        "what a gate changed"
    )

    def __init__(self, program: str, path: str, *, hidden: Sequence[Path], work: Path) -> None:
        self._program = program
        self._path = path
        self._hidden = sorted({*hidden, work})

    async def look(self, programs: Callable[[], Sequence[Path]]) -> str:
        """Try what the profile must deny and allow; return what went wrong, or ""."""
        try:
            # This effect needs no recovery: no code ever looks for this folder. It is not in TMPDIR,
            # whose path may be too long for a socket.
            with tempfile.TemporaryDirectory(dir="/tmp") as name:
                wrong = await self._tried(Path(name), programs())
        except (OSError, ConfigError) as error:
            wrong = str(error)
        if not wrong:
            return ""
        return f"sandbox-exec does not work here ({wrong})"

    async def _tried(self, named: Path, reads: Sequence[Path]) -> str:
        folder = await to_thread.run_sync(named.resolve)  # a profile matches only real paths
        for below in ("shown", "mine"):
            (folder / below).mkdir()
        for file in (folder / "file", folder / "shown/file"):
            file.touch()
        within = Seatbelt(self._program, self._path, hidden=self._hidden, work=folder)
        unix = await anyio.create_unix_listener(folder / "socket")
        tcp = await anyio.create_tcp_listener(local_host="127.0.0.1")
        async with unix, tcp:
            port = tcp.extra(SocketAttribute.local_port)
            wrong = await within._answer(folder, reads, port, 1)
            if not wrong:
                wrong = await within._answer(folder, reads, port, 0)
        return wrong

    async def _answer(self, folder: Path, reads: Sequence[Path], port: int, network: int) -> str:
        profile = Profile(
            reads=(*reads, folder / "shown"), writes=(folder / "mine",), network=bool(network)
        )
        probe = _PROBE.replace("DATA", _DATA)
        argv = [
            *self.words(profile),
            *("python3", "-I", "-S", "-c", probe),  # an example of the user's programs
            *map(str, (os.getpid(), port, network, folder, *self._hidden)),
        ]
        tried = await process.run(
            argv, cwd=folder / "mine", env={"PATH": self._path}, seconds=_TRIAL_SECONDS
        )
        answer = tried.out.decode(errors="replace").strip()
        if tried.code == 0 and answer == "confined":
            return ""
        if answer:
            return answer[:900]
        complaints = list(filter(None, tried.err.decode(errors="replace").split("\n")))
        return complaints[-1][-300:] if complaints else f"exit {tried.code}"

    def words(self, profile: Profile) -> tuple[str, ...]:
        """Return the words to put before a command line; raise ConfigError for an unusable path."""
        own = [*map(str, profile.writes), *map(str, profile.scratch)]
        written = [*own, *map(str, profile.shared)]
        # A profile cannot contain such a path, so the command could not see it.
        reads = [path for path in map(str, profile.reads) if not _CONTROL.search(path)]
        ways: dict[str, None] = {}
        for path in (*reads, *written):
            ways.update(dict.fromkeys(_ways(path)))
        links = set(filter(os.path.islink, (*ways, *reads)))
        folders = [path for path in reads if path not in links and os.path.isdir(path)]
        files = sorted({*links, *reads}.difference(folders))
        hidden = []
        for path in map(str, self._hidden):
            hidden += [path, f"{_DATA}{path}"]
        rules = (
            _BASE,
            _NETWORK if profile.network else "",
            _rule("deny file-read* file-write*", "subpath", hidden),
            _rule("allow file-read-metadata", "literal", ways),
            _rule("allow file-read*", "literal", files),
            _rule("allow file-read*", "subpath", folders),
            _rule("allow file-read* file-write*", "subpath", written),
            # If a link replaced the command's folder, the daemon would follow it, and nothing
            # confines the daemon.
            _rule("deny file-write-unlink", "literal", written),
            # No sockets: a login folder may contain sockets of the user's own programs.
            _rule("allow network-bind", "local unix-socket (subpath", own),
            _rule("allow network-outbound", "remote unix-socket (subpath", own),
        )
        return (self._program, "-p", "\n".join(filter(None, rules)), "--")


def _rule(what: str, fits: str, paths: Iterable[str]) -> str:
    """Return a rule for these paths; "" without paths, because an empty rule matches all paths."""
    close = ")" * (1 + fits.count("("))
    filters = [f"({fits} {_quoted(path)}{close}" for path in paths]
    return f"({what} {' '.join(filters)})" if filters else ""


def _quoted(path: str) -> str:
    if _CONTROL.search(path):
        raise ConfigError(f"no profile can name {path!r}")
    escaped = path.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _ways(path: str) -> Iterator[str]:
    """Yield all folders and links on the way to a path, and on the way to each link's target."""
    at = "/"
    left = path.split("/")[:0:-1]
    for _ in range(200):  # links may form a circle
        if not left:
            return
        above = at
        at = os.path.normpath(os.path.join(above, left.pop()))
        yield at
        with suppress(OSError):
            if os.path.islink(at):
                to = os.readlink(at)
                at = "/" if to.startswith("/") else above
                left += reversed(to.strip("/").split("/"))
