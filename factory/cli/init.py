"""Writes a factory.toml in which every key is explained and commented out. Never needed: defaults are in force.

factoryd init
"""

from argparse import Namespace
from pathlib import Path

from factory import settings
from factory.cli import place
from factory.errors import FactoryError, RefusedByState


def run(_: Namespace) -> int:
    """Write it, unless there is one."""
    path = Path(place.repository()) / "factory.toml"
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(settings.template())
    except FileExistsError:
        raise RefusedByState(f"{path} is there already and was left as it is.") from None
    except OSError as error:
        raise FactoryError(f"{path} cannot be written: {error.strerror}") from error
    print(f"wrote {path}: everything in it is commented out and already in force")
    return 0
