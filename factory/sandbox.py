"""What a command may see and change: bubblewrap on Linux, where a trial shows that it works.

Invariant: in it nothing of the user's HOME, repository or other workspaces is to be seen but what is named here, all
else of the disk is read-only, and no process outside can be seen; where it is off, `says` tells so.
"""

# os.path asks where pathlib raises: a link on PATH may well lead into another user's HOME.
# ruff: noqa: PTH110, PTH112, PTH114

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from factory import process
from factory.errors import ConfigError
from factory.places import home

HIDDEN = ("/home", "/root", "/tmp", "/var/tmp", "/run", "/mnt", "/media")
# Programs of a user's own, by the variable that tells where they are and where they are without it.
TOOLCHAINS = {
    "RUSTUP_HOME": ".rustup",
    "PYENV_ROOT": ".pyenv",
    "VOLTA_HOME": ".volta",
    "ASDF_DATA_DIR": ".asdf",
    "NVM_DIR": ".nvm",
    "UV_PYTHON_INSTALL_DIR": ".local/share/uv/python",
}
SCRATCH_BYTES = 512 << 20  # of /tmp and of /dev/shm, which are memory, beside TMPDIR, which is disk
_KERNEL = ("sys", "sysrq-trigger", "irq", "bus", "fs")  # of /proc: root without a capability may write to them
_BARE = (".local", ".cargo", ".config", "share")  # no prefix of one program: much else lies beside its `bin`
_TRIAL_SECONDS = 10.0
_OFF = "agents and gates run as you, with your rights"


@dataclass(frozen=True, slots=True, kw_only=True)
class Confines:
    """What one command may see of what is hidden: folders and files that are there."""

    writes: tuple[Path, ...] = ()
    reads: tuple[Path, ...] = ()
    scratch: tuple[Path, ...] = ()  # it may write there, and what it writes is gone when it has ended
    shared: Mapping[Path, Path] = field(default_factory=dict)  # written through: where it lies → where it is seen
    network: bool = True


class Sandbox:
    """Confines commands. `hidden`: the user's folders; `work`: where commands work; `objects`: what they borrow."""

    def __init__(
        self, *, environ: Mapping[str, str], hidden: Sequence[Path], work: Path, objects: Path, mode: Callable[[], str]
    ) -> None:
        self._objects, self._mode, self._work = objects, mode, work.resolve()
        self._hidden = [path.resolve() for path in (*map(Path, HIDDEN), home(environ), *hidden, work)]
        self._prefixes = tuple(map(_prefix, self._hidden))
        self._path = environ.get("PATH", os.defpath)
        self._program = shutil.which("bwrap", path=self._path) or ""
        self._why, self._overlays = "it was not tried yet", False
        self._known: dict[Path, tuple[tuple[int, int], list[Path]]] = {}

    async def look(self) -> None:
        """Try it: what is installed need not work (a container, a kernel without user namespaces)."""
        all_hidden = Path("/") in self._hidden
        self._why = "HOME is /, which cannot be hidden" if all_hidden else "bubblewrap is not installed"
        self._overlays = False
        if all_hidden or not self._program:
            return
        there = str(next(path for path in (self._work, *self._work.parents) if path.is_dir()))  # before the first start
        overlay = ["--overlay-src", there, "--tmp-overlay", there]
        self._overlays = not await self._tried(overlay)
        self._why = "" if self._overlays else await self._tried([])

    async def _tried(self, more: Sequence[str]) -> str:
        argv = [self._program, *self._base(network=False), *more, "--", "true"]
        env = {"PATH": self._path}
        tried = await process.run(argv, env=env, seconds=_TRIAL_SECONDS)
        last = tried.err.decode(errors="replace").strip().splitlines()[-1:]
        return f"bubblewrap does not work here ({last[0] if last else f'exit {tried.code}'})" if tried.code else ""

    @property
    def on(self) -> bool:
        """Whether commands are confined now."""
        return self._mode() != "off" and not self._why

    @property
    def name(self) -> str:
        """What confines, as part of a verdict's key."""
        return "bwrap" if self.on else "off"

    @property
    def says(self) -> str:
        """What a person has to know on every screen; empty where all is confined."""
        if self.on:
            return ""
        return f"unsandboxed: {_OFF}" if self._mode() == "off" else f"unsandboxed, {self._why}: {_OFF}"

    @property
    def protections(self) -> str:
        """What is really on, in one line."""
        kept = "" if self._overlays else "; without overlays: what gates change is compared afterwards"
        return self.says or f"sandbox: bubblewrap, files, processes and terminal apart, network open{kept}"

    def check(self, mode: str) -> None:
        """Raise ConfigError where the settings require what does not work."""
        if mode == "required" and self._why:
            raise ConfigError(f'sandbox.mode is "required", but {self._why}. Mend that, or set it to "auto".')

    def confined(self, argv: Sequence[str], env: Mapping[str, str], confines: Confines) -> tuple[str, ...]:
        """The words to put before a command line so that it runs confined; none where the sandbox is off."""
        if not self.on:
            return ()
        programs = [*self._tools(env), *self._own(*map(Path, argv[:1] if argv[0][:1] == "/" else ()))]
        # A word of a command may name HOME or /tmp itself: that is no file of it to be seen.
        asked = (*_toolchains(env), *self._borrowed(), *confines.reads)
        named = [path for path in asked if not self._holds_private(path.resolve())]
        written = (*confines.writes, *confines.scratch, *confines.shared.values())
        ways = (link for path in (*named, *written) for link in self._ways(path))
        options = list(self._base(network=confines.network))
        # What is not hidden is there already, and bubblewrap mounts nothing upon a link that it sees.
        shown = map(_placed, (*programs, *named, *(path.resolve() for path in named), *ways))
        reads = _sorted(filter(self._lies_hidden, shown))
        for at, path in enumerate(reads):
            if not any(Path(path).is_relative_to(each) for each in reads[:at]):
                link = os.path.islink(path)
                options += ["--symlink", os.path.realpath(path), path] if link else ["--ro-bind", path, path]
        for path in _sorted(each.resolve() for each in confines.writes):
            options += ["--bind", path, path]
        for path in _sorted(each.resolve() for each in confines.scratch):
            options += ["--overlay-src", path, "--tmp-overlay", path] if self._overlays else ["--bind", path, path]
        for source, seen in confines.shared.items():
            options += ["--bind", str(source.resolve()), str(seen.resolve())]
        return (self._program, *options, "--")

    def is_hidden(self, path: Path) -> bool:
        """Whether nothing of it is to be seen unless it is named."""
        return self._lies_hidden(path.resolve())

    def _lies_hidden(self, path: Path) -> bool:
        return _prefix(path).startswith(self._prefixes)

    def _base(self, *, network: bool) -> Iterator[str]:
        yield from ("--die-with-parent", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--cap-drop", "ALL")
        yield from () if network else ("--unshare-net",)
        yield from ("--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev")
        # It would be half of the machine's memory else.
        yield from ("--size", str(SCRATCH_BYTES), "--tmpfs", "/dev/shm", "--remount-ro", "/dev")
        for name in _KERNEL:
            yield from ("--ro-bind-try", f"/proc/{name}", f"/proc/{name}")
        hidden = list[Path]()
        for path in sorted(set(self._hidden)):
            if path.is_dir() and not any(path.is_relative_to(each) for each in hidden):
                hidden.append(path)
                yield from ("--size", str(SCRATCH_BYTES if path.name == "tmp" else 1 << 20), "--tmpfs", str(path))
        if self.is_hidden(resolver := Path("/etc/resolv.conf").resolve()):
            yield from ("--ro-bind-try", str(resolver), str(resolver))

    # ── the user's programs in what is hidden ──

    def _borrowed(self) -> Iterator[Path]:
        """The object folders that workspaces and benches borrow from."""
        yield self._objects
        with suppress(OSError):
            yield from map(Path, (self._objects / "info/alternates").read_text().splitlines())

    def _tools(self, env: Mapping[str, str]) -> list[Path]:
        """What of the hidden the programs on PATH consist of."""
        path, python = env.get("PATH", os.defpath), shutil.which("python3", path=self._path)  # what venvs are made with
        begin = [*path.split(os.pathsep), *((python,) if python else ())]
        return [each for begun in begin if begun[:1] == "/" for each in self._programs(Path(begun))]

    def _programs(self, begin: Path) -> list[Path]:
        """What a folder of programs, or one program, consists of: looked up anew when it has changed."""
        try:
            about = begin.stat()
        except OSError:
            return []
        known, is_now = self._known.get(begin), (about.st_ino, about.st_mtime_ns)
        if known is None or known[0] != is_now:
            self._known[begin] = known = is_now, self._own(begin, *_links(begin))
        return known[1]

    def _own(self, *begin: Path) -> list[Path]:
        """What of the hidden these folders and programs consist of: their prefixes, those that they lead to, the ways.

        What a command can change has no say in what the next one sees.
        """
        left, found, ways, seen = list(begin), list[Path](), dict[Path, list[Path]](), set[Path]()
        work = _prefix(self._work)
        for named in left:  # grows while it is walked
            path = _placed(named)
            if path in seen or _prefix(path).startswith(work) or self._holds_private(path):
                continue
            seen.add(path)
            if named.parent not in ways:
                ways[named.parent] = list(self._ways(named))
            hidden = self._lies_hidden(path)
            left += _leads_to(path) if hidden or os.path.islink(path) or named is begin[0] else ()
            if hidden and os.path.exists(path) and not any(map(path.is_relative_to, found)):
                found.append(self._whole(path))
                left += _home_of_venv(found[-1])
        return [*found, *chain.from_iterable(ways.values())]

    def _ways(self, path: Path) -> Iterator[Path]:
        """The hidden links on the way to it: without them it is not found by its name."""
        links = (_placed(folder) for folder in path.parents if os.path.islink(folder))
        return (link for link in links if self._lies_hidden(link))

    def _whole(self, path: Path) -> Path:
        """The folder that holds all of a program, or the path itself where that would show more than it."""
        if "node_modules" in path.parts:
            return Path(*path.parts[: path.parts.index("node_modules") + 1])
        folder = path if os.path.isdir(path) else path.parent
        prefix = folder.parent if folder.name in ("bin", "shims") else folder
        too_much = prefix.name in _BARE or self._holds_private(prefix)
        return path if too_much or not self._lies_hidden(prefix) else prefix

    def _holds_private(self, path: Path) -> bool:
        below = _prefix(path)
        return any(each.startswith(below) for each in self._prefixes)


def _prefix(path: Path) -> str:
    """What all paths below it, and it itself with a slash, begin with: quicker than pathlib, for thousands."""
    return f"{path}/".replace("//", "/")


def _placed(path: Path) -> Path:
    """Where it lies; what it leads to, where it is a link, is another matter."""
    return path.resolve() if os.path.isdir(path) and not os.path.islink(path) else path.parent.resolve() / path.name


def _leads_to(path: Path) -> Iterator[Path]:
    """Where a link leads, or what interprets a script."""
    with suppress(OSError):
        if os.path.islink(path):
            yield path.parent / path.readlink()
        elif path.is_file():
            with path.open("rb") as file:
                first = file.readline(256)
            if first.startswith(b"#!/"):
                yield Path(os.fsdecode(first[2:].split()[0]))


def _home_of_venv(prefix: Path) -> list[Path]:
    """Where the Python of a venv is: elsewhere."""
    with suppress(OSError):
        lines = (prefix / "pyvenv.cfg").read_text().splitlines()
        return [Path(line.partition("=")[2].strip()) for line in lines if line.startswith("home ")]
    return []


def _toolchains(env: Mapping[str, str]) -> list[Path]:
    return [Path(env[name]) for name in TOOLCHAINS if os.path.isdir(env.get(name, ""))]


def _sorted(paths: Iterable[Path]) -> list[str]:
    """Those that are there, what lies in another after it."""
    return [str(path) for path in sorted(set(paths)) if os.path.exists(path)]


def _links(folder: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield from (Path(entry.path) for entry in os.scandir(folder) if entry.is_symlink())
