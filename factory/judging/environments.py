"""Environments: whether one that stands at a place serves, and building one where none does.

Invariant: an environment serves only while it and all that it was made from are unchanged. One that
a candidate's code made serves only that candidate. One in which a module of the project does not
come from the tree beside it serves nobody.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from anyio import to_thread

from factory.ground import faults
from factory.inference.rules import Setup, digest
from factory.judging.commands import Commands
from factory.judging.layers import copy_that_serves, differing
from factory.judging.origins import modules_of
from factory.judging.place import Place
from factory.judging.setups import Building, SetupFailed
from factory.judging.standing import Asked, Ready, print_place, standing


class Environments:
    """Finds or builds environments, by running `commands`."""

    def __init__(self, commands: Commands) -> None:
        self.commands = commands

    def building(self, place: Place, setup: Setup) -> Building:
        """What builds an environment there."""
        return Building(self.commands, place, setup)

    async def ready(
        self, place: Place, setup: Setup, *, verify: bool = True
    ) -> Ready | SetupFailed:
        """The environment for the tree as it now stands, built where there is none to use.

        Without `verify`, one serves that an agent has written into, in its own workspace.
        """
        asked = await self.asked(place, setup)
        found = await to_thread.run_sync(partial(standing, place, asked, verify=verify))
        return found or await self.building(place, setup).build(asked)

    async def found(self, place: Place, setup: Setup) -> Ready | None:
        """The environment for the tree as it now stands, where there is one to use."""
        asked = await self.asked(place, setup)
        return await to_thread.run_sync(partial(standing, place, asked, verify=True))

    async def lacks_only_its_build(self, place: Place, setup: Setup) -> bool:
        """Whether the dependencies are there, and each tree builds the rest for itself."""
        asked = await self.asked(place, setup)
        copied = await to_thread.run_sync(copy_that_serves, place, asked.dependencies)
        return copied is not None and not setup.made_from

    async def asked(self, place: Place, setup: Setup) -> Asked:
        """What an environment for the tree as it now stands is made from."""
        return await to_thread.run_sync(self._asked, place, setup, await place.contents())

    def _asked(self, place: Place, setup: Setup, blobs: Mapping[str, str]) -> Asked:
        parts = self.commands.machine.around(setup)
        is_editable = any("-e" in command for command in setup.commands)
        if is_editable or setup.kind in ("uv", "script"):
            # An editable install may map each module when it is made.
            for name in modules_of(place.tree):
                if not name.startswith("test"):
                    parts.append(name)
        build = ["tree", place.shows]
        if setup.made_from:
            build = ["made from", *_contents(place.tree, setup.made_from, blobs)]
        parts += _contents(place.tree, setup.inputs, blobs)
        return Asked(digest(*parts), digest(*build))

    async def changed(self, place: Place, ready: Ready) -> list[str]:
        """Return the paths that have changed since; if any have, the environment serves no more."""
        now = await to_thread.run_sync(print_place, place)
        paths = await to_thread.run_sync(differing, ready.print, now)
        if paths:
            with faults.step("environment.distrust"):
                place.stamp.unlink(missing_ok=True)
        return paths


def _contents(tree: Path, globs: Iterable[str], blobs: Mapping[str, str]) -> Iterator[str]:
    """What the globs name, each with the id that git has for its content: no file is read.

    What git does not track does not belong to the tree, so it is left out.
    """
    found = set[Path]()
    for glob in globs:
        if glob[:1] == "/" or ".." in glob.split("/"):
            continue
        with suppress(ValueError, IndexError):  # no glob, so it names nothing
            found.update(tree.glob(glob))
    top = os.path.realpath(tree)
    for path in sorted(filter(Path.is_file, found)):
        real = os.path.realpath(path)  # of a link: where it leads, which may be anywhere
        content = blobs.get(os.path.relpath(real, top), "")
        if not content and path.is_symlink():
            content = real
        if content:
            yield f"{path.relative_to(tree)} {content}"
