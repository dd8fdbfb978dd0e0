"""Finds an environment that can be used at a place, or builds one.

Invariant: an environment is used only while it and everything that it was made from are unchanged.
An environment that a candidate's code made is used only for that candidate. An environment is
useless if it does not load the project's modules from the tree beside it.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from anyio import to_thread

from factory.ground import faults
from factory.inference.files import leads_out
from factory.inference.rules import Setup, digest
from factory.judging.commands import Commands
from factory.judging.layers import copy_that_serves, differing
from factory.judging.origins import modules_of
from factory.judging.place import Place
from factory.judging.setups import Building, SetupFailed
from factory.judging.standing import Asked, Ready, print_place, standing


class Environments:
    """Finds or builds environments; `commands` runs the setups."""

    def __init__(self, commands: Commands) -> None:
        self.commands = commands

    def building(self, place: Place, setup: Setup) -> Building:
        """Return a builder for the environment of that place."""
        return Building(self.commands, place, setup)

    async def ready(
        self, place: Place, setup: Setup, *, verify: bool = True
    ) -> Ready | SetupFailed:
        """Return the environment for the tree in its present state; build one if necessary.

        Without `verify`, an environment counts as usable even after an agent wrote into it. An
        agent's own workspace needs this.
        """
        asked = await self.asked(place, setup)
        found = await to_thread.run_sync(partial(standing, place, asked, verify=verify))
        return found or await self.building(place, setup).build(asked)

    async def found(self, place: Place, setup: Setup) -> Ready | None:
        """Return an existing environment that fits the tree in its present state, or None."""
        asked = await self.asked(place, setup)
        return await to_thread.run_sync(partial(standing, place, asked, verify=True))

    async def lacks_only_its_build(self, place: Place, setup: Setup, asked: Asked) -> bool:
        """Whether a copy of the dependencies exists, although each tree needs its own build."""
        copied = await to_thread.run_sync(copy_that_serves, place, asked.dependencies)
        return copied is not None and not setup.made_from

    async def asked(self, place: Place, setup: Setup) -> Asked:
        """Return the inputs of an environment for the tree in its present state."""
        return await to_thread.run_sync(self._asked, place, setup, await place.contents())

    def _asked(self, place: Place, setup: Setup, blobs: Mapping[str, str]) -> Asked:
        parts = self.commands.machine.around(setup)
        is_editable = any("-e" in command for command in setup.commands)
        if is_editable or setup.kind in ("uv", "script"):
            # An editable install may list the modules once, at install time.
            for name in modules_of(place.tree):
                if not name.startswith("test"):
                    parts.append(name)
        build = ["tree", place.shows]
        if setup.made_from:
            build = ["made from", *_contents(place.tree, setup.made_from, blobs)]
        parts += _contents(place.tree, setup.inputs, blobs)
        return Asked(digest(*parts), digest(*build))

    async def changed(self, place: Place, ready: Ready) -> list[str]:
        """Return the paths that changed since `ready`; if any did, remove the stamp."""
        now = await to_thread.run_sync(print_place, place)
        paths = await to_thread.run_sync(differing, ready.print, now)
        if paths:
            with faults.step("environment.distrust"):
                place.stamp.unlink(missing_ok=True)
        return paths


def _contents(tree: Path, globs: Iterable[str], blobs: Mapping[str, str]) -> Iterator[str]:
    """Yield the files that the globs match, each with git's id of its content; read no file.

    Files that git does not track are left out, because they do not belong to the tree.
    """
    found = set[Path]()
    for glob in globs:
        if leads_out(glob):
            continue
        with suppress(ValueError, IndexError):  # a glob that is not valid matches nothing
            found.update(tree.glob(glob))
    top = os.path.realpath(tree)
    for path in sorted(filter(Path.is_file, found)):
        real = os.path.realpath(path)  # a link may lead to any place
        content = blobs.get(os.path.relpath(real, top), "")
        if not content and path.is_symlink():
            content = real
        if content:
            yield f"{path.relative_to(tree)} {content}"
