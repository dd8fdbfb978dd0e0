"""What a command may see and change, and the port of its confiner (sandbox.py chooses one)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The existing folders and files that a command may see inside hidden folders."""

    writes: tuple[Path, ...] = ()
    reads: tuple[Path, ...] = ()
    scratch: tuple[Path, ...] = ()  # the command may write there; its files are gone after its end
    # Writes to the first folder go into the second one instead.
    layered: Mapping[Path, Path] = field(default_factory=dict)
    # Writes there stay. The real folder → the folder where the command sees it.
    shared: Mapping[Path, Path] = field(default_factory=dict)
    network: bool = True


class Confiner(Protocol):
    """Confines a command.

    `links`: the confiner cannot mount, so each `shared` folder has to be a link where the command
    sees it.
    """

    @property
    def name(self) -> str:
        """The name of the confiner's program; it is a part of a verdict's key."""

    @property
    def links(self) -> bool: ...  # noqa: D102

    @property
    def layers(self) -> bool:
        """Whether a profile may have `layered` folders."""

    @property
    def protections(self) -> str:
        """The protections that are really on, in one line."""

    async def look(self, programs: Callable[[], Sequence[Path]]) -> str:
        """Try the confiner with the paths of the user's programs; return why it fails, or ""."""

    def words(self, profile: Profile) -> tuple[str, ...]:
        """Return the words to put before a command line.

        All paths of the profile exist. All paths except `reads` are free of links.
        """
