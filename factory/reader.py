"""The program of a short child process: reads factory.toml and, at a start, finds the git dirs.

`python -m factory.reader settings|start ROOT` prints one JSON object.
Invariant: only this program and the commands load pydantic and GitPython; a daemon would keep both
in memory for weeks.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from factory.ground import settings, settings_file
from factory.ground.errors import ConfigError, RepositoryError
from factory.repo.locate import locate


def main() -> None:
    """Print what was read, or why it cannot be used."""
    what, root = sys.argv[1:]
    found = _settings(Path(root))
    if what == "start" and "wrong" not in found:
        found |= _places(Path(root))
    print(json.dumps(found))  # noqa: T201 - the parent reads it


def _settings(root: Path) -> dict[str, Any]:
    try:
        chosen = settings_file.load(root / "factory.toml", os.environ)
    except ConfigError as error:
        return {"wrong": str(error)}
    return {"values": settings.flat(chosen), "sources": chosen.sources}


def _places(root: Path) -> dict[str, Any]:
    try:
        located = locate(root)
    except RepositoryError as error:
        return {"lost": str(error)}
    except ImportError:  # git is missing or broken, which the daemon finds out before it needs this
        return {"lost": f"git cannot be run in {root}."}
    return {"located": [str(located.top), str(located.git_dir), str(located.common_dir)]}


if __name__ == "__main__":
    main()
