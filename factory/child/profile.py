"""What one command may see and change, and what shape all have that can hold it to that (sandbox.py chooses)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What one command may see of what is hidden: folders and files that are there."""

    writes: tuple[Path, ...] = ()
    reads: tuple[Path, ...] = ()
    scratch: tuple[
        Path, ...
    ] = ()  # it may write there, and what it writes is gone when it has ended
    layered: Mapping[Path, Path] = field(
        default_factory=dict
    )  # what it writes there, it writes into that folder
    shared: Mapping[Path, Path] = field(
        default_factory=dict
    )  # written through: where it lies → where it is seen
    network: bool = True


class Confiner(Protocol):
    """What confines a command. `links`: what is `shared` has to be a link where it is seen, for it mounts nothing."""

    @property
    def name(self) -> str:
        """Part of a verdict's key, and what it is called on PATH."""

    @property
    def links(self) -> bool: ...  # noqa: D102

    @property
    def layers(self) -> bool:
        """Whether something can be `layered`."""

    @property
    def protections(self) -> str:
        """What is really on, in one line."""

    async def look(self, programs: Callable[[], Sequence[Path]]) -> str:
        """Try it, with what the user's programs consist of; why it does not work, empty where it does."""

    def words(self, profile: Profile) -> tuple[str, ...]:
        """The words to put before a command line; of the paths each is there, and real but for what is read."""
