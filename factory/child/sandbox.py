"""Confines commands with bubblewrap or Seatbelt, if a trial shows that the program works.

Invariant: of the user's HOME, repository and other workspaces, a confined command sees only the
paths that are named here. It cannot write to other paths or signal processes outside the sandbox.
While the sandbox is off, `says` has a sentence about that.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from factory.child.hidden import Hidden, existing, real
from factory.child.profile import Confiner, Profile
from factory.child.programs import Programs, toolchains
from factory.ground.errors import ConfigError
from factory.ground.places import home

_OF_A_MAC = ("/Users", "/Volumes", "/private/tmp", "/private/var/tmp", "/private/var/folders")
HIDDEN = ("/home", "/root", "/tmp", "/var/tmp", "/run", "/mnt", "/media", *_OF_A_MAC)
_OFF = "agents and gates run as you, with your rights"


class Sandbox:
    """Confines commands.

    `hidden`: the user's folders; `work`: where commands work; `objects`: the folder of git objects
    that workspaces and benches borrow.
    """

    def __init__(
        self,
        *,
        environ: Mapping[str, str],
        hidden: Sequence[Path],
        work: Path,
        objects: Path,
        mode: Callable[[], str],
    ) -> None:
        self._objects = objects
        self._mode = mode
        folders = (*map(Path, HIDDEN), home(environ), *hidden, work)
        self._hidden = Hidden(list(map(real, folders)))
        self._path = environ.get("PATH", os.defpath)
        self._programs = Programs(self._hidden, path=self._path, work=real(work))
        self._confiner = _installed(self._path, self._hidden.folders, real(work))
        self._why = "factoryd has not tried it yet"

    async def look(self) -> None:
        """Try the confiner: it may fail in a container or on a kernel without user namespaces."""
        if Path("/") in self._hidden.folders:
            self._why = "HOME is /, which cannot be hidden"
        elif not self._confiner:
            self._why = "bubblewrap is not installed"
        else:
            self._why = await self._confiner.look(
                lambda: self._hidden.outermost(self._programs.on_path(self._path))
            )

    @property
    def on(self) -> bool:
        """Whether commands are confined now."""
        return self._mode() != "off" and not self._why

    @property
    def name(self) -> str:
        """The name of the confiner in use; a verdict's key contains this name."""
        return self._confiner.name if self._confiner and self.on else "off"

    @property
    def links(self) -> bool:
        """Whether a shared folder has to be a link where the command sees it."""
        return self._confiner is not None and self._confiner.links

    @property
    def layers(self) -> bool:
        """Whether commands on the same tree can each write into their own layer."""
        return self.on and self._confiner is not None and self._confiner.layers

    @property
    def says(self) -> str:
        """A sentence for every screen while commands are not confined; otherwise ""."""
        if self.on:
            return ""
        if self._mode() == "off":
            return f"unsandboxed: {_OFF}"
        return f"unsandboxed, {self._why}: {_OFF}"

    @property
    def protections(self) -> str:
        """The protections that are really active, in one line."""
        if self._confiner and self.on:
            return self._confiner.protections
        return self.says

    def check(self, mode: str) -> None:
        """Raise ConfigError if the settings require a sandbox and it does not work."""
        if mode == "required" and self._why:
            raise ConfigError(
                f'sandbox.mode is "required", but {self._why}. Fix that, or set it to "auto".'
            )

    def is_hidden(self, path: Path) -> bool:
        """Return whether commands see the path only if their profile names it."""
        return self._hidden.holds(real(path))

    def confined(
        self, argv: Sequence[str], env: Mapping[str, str], profile: Profile
    ) -> tuple[str, ...]:
        """Return the words to put before a command line; () if the sandbox is off."""
        if not self._confiner or not self.on:
            return ()
        seen = Profile(
            reads=self._hidden.outermost(self._shown(argv, env, profile)),
            writes=existing(map(real, profile.writes)),
            scratch=existing(map(real, profile.scratch)),
            layered={real(place): real(folder) for place, folder in profile.layered.items()},
            shared={real(source): real(seen) for source, seen in profile.shared.items()},
            network=profile.network,
        )
        return self._confiner.words(seen)

    def _shown(self, argv: Sequence[str], env: Mapping[str, str], profile: Profile) -> list[Path]:
        """Return the paths that the command needs: programs, named paths, and links to them."""
        shown = self._programs.on_path(env.get("PATH", os.defpath))
        if argv[0].startswith("/"):
            shown += self._programs.of(Path(argv[0]))
        ways = [*profile.writes, *profile.scratch, *profile.layered, *profile.shared.values()]
        for path in (*toolchains(env), *self._borrowed(), *profile.reads):
            # A command line may contain the path of HOME or /tmp, but no command needs these whole
            # folders.
            if not self._hidden.lies_in(real(path)):
                shown += [path, real(path)]
                ways.append(path)
        for path in ways:
            shown += self._hidden.links_to(path)
        return shown

    def _borrowed(self) -> Iterator[Path]:
        """Yield the object folders that workspaces and benches borrow from."""
        yield self._objects
        with suppress(OSError):
            yield from map(Path, (self._objects / "info/alternates").read_text().splitlines())


def _installed(path: str, hidden: Sequence[Path], work: Path) -> Confiner | None:
    """Return the first confiner whose program is on PATH."""
    # Imported here, so that a daemon loads only the one that it uses.
    if program := shutil.which("bwrap", path=path):
        from factory.child.bubblewrap import Bubblewrap

        return Bubblewrap(program, path, hidden=hidden, work=work)
    if program := shutil.which("sandbox-exec", path=path):
        from factory.child.seatbelt import Seatbelt

        return Seatbelt(program, path, hidden=hidden, work=work)
    return None
