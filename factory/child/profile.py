"""What one command may see and change, and the port of what confines it (sandbox.py chooses)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What one command may see of hidden folders: existing folders and files."""

    writes: tuple[Path, ...] = ()
    reads: tuple[Path, ...] = ()
    scratch: tuple[Path, ...] = ()  # it may write there; what it wrote is gone when it has ended
    # What it writes there goes into that folder instead.
    layered: Mapping[Path, Path] = field(default_factory=dict)
    # What it writes there stays: where it lies → where the command sees it.
    shared: Mapping[Path, Path] = field(default_factory=dict)
    network: bool = True


class Confiner(Protocol):
    """Confines a command.

    `links`: it mounts nothing, so what is `shared` has to be a link where the command sees it.
    """

    @property
    def name(self) -> str:
        """The name of its program, and part of a verdict's key."""

    @property
    def links(self) -> bool: ...  # noqa: D102

    @property
    def layers(self) -> bool:
        """Whether something can be `layered`."""

    @property
    def protections(self) -> str:
        """What is really on, in one line."""

    async def look(self, programs: Callable[[], Sequence[Path]]) -> str:
        """Try it with the paths that the user's programs need; return why it does not work."""

    def words(self, profile: Profile) -> tuple[str, ...]:
        """Return the words to put before a command line.

        All paths of the profile exist, and all but `reads` are real ones.
        """
