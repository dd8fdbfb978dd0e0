"""What a command may see and change: bubblewrap or Seatbelt, where a trial shows that it works.

Invariant: in it nothing of the user's HOME, repository or other workspaces is to be seen but what is named here, all
else of the disk is read-only, and no process outside can be signalled; where it is off, `says` tells so.
"""

# os.path asks where pathlib raises: a link on PATH may well lead into another user's HOME.
# ruff: noqa: PTH110, PTH112, PTH114

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

from factory.child.bubblewrap import Bubblewrap
from factory.child.profile import Confiner, Profile
from factory.child.seatbelt import Seatbelt
from factory.ground.errors import ConfigError
from factory.ground.places import home

_OF_A_MAC = ("/Users", "/Volumes", "/private/tmp", "/private/var/tmp", "/private/var/folders")
HIDDEN = ("/home", "/root", "/tmp", "/var/tmp", "/run", "/mnt", "/media", *_OF_A_MAC)
# Programs of a user's own, by the variable that tells where they are and where they are without it.
TOOLCHAINS = {
    "RUSTUP_HOME": ".rustup",
    "PYENV_ROOT": ".pyenv",
    "VOLTA_HOME": ".volta",
    "ASDF_DATA_DIR": ".asdf",
    "NVM_DIR": ".nvm",
    "UV_PYTHON_INSTALL_DIR": ".local/share/uv/python",
}
_BARE = (
    ".local",
    ".cargo",
    ".config",
    "share",
)  # no prefix of one program: much else lies beside its `bin`
_OFF = "agents and gates run as you, with your rights"


class Sandbox:
    """Confines commands. `hidden`: the user's folders; `work`: where commands work; `objects`: what they borrow."""

    def __init__(
        self,
        *,
        environ: Mapping[str, str],
        hidden: Sequence[Path],
        work: Path,
        objects: Path,
        mode: Callable[[], str],
    ) -> None:
        self._objects, self._mode, self._work = objects, mode, _real(work)
        self._hidden = [_real(path) for path in (*map(Path, HIDDEN), home(environ), *hidden, work)]
        self._prefixes = tuple(map(_prefix, self._hidden))
        self._path = environ.get("PATH", os.defpath)
        kinds = (Bubblewrap, Seatbelt)
        there = (
            (kind, program)
            for kind in kinds
            if (program := shutil.which(kind.name, path=self._path))
        )
        confiners = (
            kind(program, self._path, hidden=self._hidden, work=self._work)
            for kind, program in there
        )
        self._confiner: Confiner | None = next(confiners, None)
        self._why = "it was not tried yet"
        self._known: dict[Path, tuple[tuple[int, int], list[Path]]] = {}

    async def look(self) -> None:
        """Try it: what is installed need not work (a container, a kernel without user namespaces)."""
        if Path("/") in self._hidden:
            self._why = "HOME is /, which cannot be hidden"
        elif not self._confiner:
            self._why = "bubblewrap is not installed"
        else:
            self._why = await self._confiner.look(
                lambda: self._reads(self._tools({"PATH": self._path}))
            )

    @property
    def on(self) -> bool:
        """Whether commands are confined now."""
        return self._mode() != "off" and not self._why

    @property
    def name(self) -> str:
        """What confines, as part of a verdict's key."""
        return self._confiner.name if self._confiner and self.on else "off"

    @property
    def links(self) -> bool:
        """Whether what is shared has to be a link where it is seen."""
        return bool(self._confiner and self._confiner.links)

    @property
    def layers(self) -> bool:
        """Whether commands beside each other can each have a tree of its own, of which one sees what it changed."""
        return self.on and bool(self._confiner and self._confiner.layers)

    @property
    def says(self) -> str:
        """What a person has to know on every screen; empty where all is confined."""
        if self.on:
            return ""
        return (
            f"unsandboxed: {_OFF}" if self._mode() == "off" else f"unsandboxed, {self._why}: {_OFF}"
        )

    @property
    def protections(self) -> str:
        """What is really on, in one line."""
        return self.says or (self._confiner.protections if self._confiner else "")

    def check(self, mode: str) -> None:
        """Raise ConfigError where the settings require what does not work."""
        if mode == "required" and self._why:
            raise ConfigError(
                f'sandbox.mode is "required", but {self._why}. Mend that, or set it to "auto".'
            )

    def confined(
        self, argv: Sequence[str], env: Mapping[str, str], profile: Profile
    ) -> tuple[str, ...]:
        """The words to put before a command line so that it runs confined; none where the sandbox is off."""
        if not self._confiner or not self.on:
            return ()
        programs = [
            *self._tools(env),
            *self._own(*map(Path, argv[:1] if argv[0][:1] == "/" else ())),
        ]
        # A word of a command may name HOME or /tmp itself: that is no file of it to be seen.
        asked = (*_toolchains(env), *self._borrowed(), *profile.reads)
        named = [path for path in asked if not self._holds_private(_real(path))]
        written = (*profile.writes, *profile.scratch, *profile.layered, *profile.shared.values())
        ways = (link for path in (*named, *written) for link in self._ways(path))
        seen = Profile(
            reads=self._reads((*programs, *named, *map(_real, named), *ways)),
            writes=_sorted(map(_real, profile.writes)),
            scratch=_sorted(map(_real, profile.scratch)),
            layered={_real(place): _real(folder) for place, folder in profile.layered.items()},
            shared={_real(source): _real(seen) for source, seen in profile.shared.items()},
            network=profile.network,
        )
        return self._confiner.words(seen)

    def _reads(self, shown: Iterable[Path]) -> tuple[Path, ...]:
        """What of these has to be shown: nothing where it is not hidden, and none that lies in another."""
        # What is not hidden is there already, and bubblewrap mounts nothing upon a link that it sees.
        reads = _sorted(filter(self._lies_hidden, map(_placed, shown)))
        return tuple(
            path for at, path in enumerate(reads) if not any(map(path.is_relative_to, reads[:at]))
        )

    def is_hidden(self, path: Path) -> bool:
        """Whether nothing of it is to be seen unless it is named."""
        return self._lies_hidden(_real(path))

    def _lies_hidden(self, path: Path) -> bool:
        return _prefix(path).startswith(self._prefixes)

    # ── the user's programs in what is hidden ──

    def _borrowed(self) -> Iterator[Path]:
        """The object folders that workspaces and benches borrow from."""
        yield self._objects
        with suppress(OSError):
            yield from map(Path, (self._objects / "info/alternates").read_text().splitlines())

    def _tools(self, env: Mapping[str, str]) -> list[Path]:
        """What of the hidden the programs on PATH consist of."""
        path, python = (
            env.get("PATH", os.defpath),
            shutil.which("python3", path=self._path),
        )  # what venvs are made with
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


def _real(path: Path) -> Path:
    """Where it is in the end; other than pathlib before Python 3.13 this bears links that lead round."""
    return Path(os.path.realpath(path))


def _prefix(path: Path) -> str:
    """What all paths below it, and it itself with a slash, begin with: quicker than pathlib, for thousands."""
    return f"{path}/".replace("//", "/")


def _placed(path: Path) -> Path:
    """Where it lies; what it leads to, where it is a link, is another matter."""
    return (
        _real(path)
        if os.path.isdir(path) and not os.path.islink(path)
        else _real(path.parent) / path.name
    )


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


def _sorted(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Those that are there, what lies in another after it."""
    return tuple(path for path in sorted(set(paths)) if os.path.exists(path))


def _links(folder: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield from (Path(entry.path) for entry in os.scandir(folder) if entry.is_symlink())
