"""Scratch folders of a place: HOME, TMPDIR and layers.

Invariant: in these folders, a command never finds files that an earlier command left.
"""

from factory.ground import disk, faults
from factory.judging.place import Place


@faults.during("place.empty")
def empty(place: Place) -> None:
    """Empty HOME and TMPDIR, and delete the layers."""
    for folder in (place.home, place.tmp):
        disk.remove(folder)
        folder.mkdir(parents=True)
    disk.remove(place.layers)


@faults.during("place.empty")
def forget_layers(place: Place) -> None:
    """Delete the layers of parallel gates."""
    disk.remove(place.layers)
