"""Reads factory.toml and finds the git dirs for the daemon, in a child process (reader.py).

Invariant: a file that cannot be used raises the same error as in the commands, which read it in
their own process.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import factory
from factory.child import process
from factory.ground import settings
from factory.ground.errors import ConfigError, FactoryError, RepositoryError
from factory.ground.settings import Settings
from factory.repo.locate import Located

# `-m` looks in the working folder first, and a repository may contain a package named factory.
INSTALLED = Path(factory.__file__).parents[1]

Signature = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outset:
    """What a start reads before anything else."""

    settings: Settings
    signature: Signature  # of factory.toml just before it was read
    located: Located | None
    lost: str  # why the checkout was not found

    def locate(self, _: Path) -> Located:
        """Return the places of the checkout; raise RepositoryError if there is none."""
        if self.located is None:
            raise RepositoryError(self.lost)
        return self.located


async def read_outset(root: Path, environ: Mapping[str, str]) -> Outset:
    """Read the settings and find the git dirs of `root`; raise ConfigError."""
    signature = signature_of(root)
    found = await _read("start", root, environ)
    paths = [Path(each) for each in found.get("located", ())]
    return Outset(
        settings=_settings(found),
        signature=signature,
        located=Located(*paths) if paths else None,
        lost=found.get("lost", ""),
    )


async def read_settings(root: Path, environ: Mapping[str, str]) -> Settings:
    """Read the settings of `root`; raise ConfigError if the file is wrong."""
    return _settings(await _read("settings", root, environ))


def signature_of(root: Path) -> Signature:
    """Return what changes with each edit of factory.toml; () if there is no file."""
    try:
        about = (root / "factory.toml").stat()
    except OSError:
        return ()
    return (about.st_mtime_ns, about.st_size, about.st_ino)


async def _read(what: str, root: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    argv = [sys.executable, "-m", "factory.reader", what, str(root)]
    done = await process.run(argv, cwd=INSTALLED, env=environ)
    if done.code:
        said = done.err.decode(errors="replace").strip().splitlines()[-1:]
        why = said[0] if said else f"its reader ended with {done.code}"
        raise FactoryError(f"factory.toml could not be read: {why}")
    found: dict[str, Any] = json.loads(done.out)
    if "wrong" in found:
        raise ConfigError(found["wrong"])
    return found


def _settings(found: Mapping[str, Any]) -> Settings:
    return settings.nested(found["values"], found["sources"])
