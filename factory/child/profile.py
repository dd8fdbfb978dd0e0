"""The profile of what a command may see and change, and the interface of confiners."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The existing folders and files that a command may see inside hidden folders."""

    writes: tuple[Path, ...] = ()
    reads: tuple[Path, ...] = ()
    # the command may write there; these folders are emptied after the command ends
    scratch: tuple[Path, ...] = ()
    # Maps a folder to the folder that gets the writes to it.
    layered: Mapping[Path, Path] = field(default_factory=dict)
    # Maps a real folder to the path where the command sees it. Writes to these folders stay.
    shared: Mapping[Path, Path] = field(default_factory=dict)
    network: bool = True


class Confiner(Protocol):
    """Confines a command.

    `links`: true if the confiner cannot mount. Then each `shared` folder must be a link at the path
    where the command sees it.
    """

    @property
    def name(self) -> str:
        """The name of the confiner's program; a verdict's key contains this name."""

    @property
    def links(self) -> bool: ...  # noqa: D102

    @property
    def layers(self) -> bool:
        """Whether a profile may have `layered` folders."""

    @property
    def protections(self) -> str:
        """The protections that are really active, in one line."""

    async def look(self, programs: Callable[[], Sequence[Path]]) -> str:
        """Try the confiner with the paths of the user's programs; return why it fails, else ""."""

    def words(self, profile: Profile) -> tuple[str, ...]:
        """Return the words to put before a command line.

        All paths of the profile exist. Only paths in `reads` may contain links.
        """
