"""Reads the setup from a script of the repository: conventions/workspace/setup.sh.

Invariant: all paths that the script's header names lie inside the tree.
"""

import re
from pathlib import PurePosixPath

from factory.ground.errors import ConfigError
from factory.inference.files import PYTHON_INPUTS, SETUP_INPUTS, Files, leads_out
from factory.inference.python_setup import VENV
from factory.inference.rules import DEPENDENCIES, Setup

_HEADER = re.compile(r"^#\s*(inputs|keeps|made-from):\s*(.+)$", re.MULTILINE)
_EVERY_MANIFEST = " ".join((*SETUP_INPUTS, "go.*", "Cargo.*"))


def setup(files: Files) -> Setup:
    """Return the setup from the script and its header; raise ConfigError for a wrong path."""
    script = files.text(files.setup)
    header = dict(_HEADER.findall(script))
    inputs = header.get("inputs", _EVERY_MANIFEST).split()
    keeps = header.get("keeps", " ".join(DEPENDENCIES)).split()
    made_from = header.get("made-from", "").split()
    for path in (*inputs, *keeps, *made_from):
        if leads_out(path) or not _is_glob(path):
            raise ConfigError(
                f"{files.setup}: {path} leads out of the tree, or is not a glob. "
                "Name only paths inside the tree."
            )
    return Setup(
        kind="script",
        commands=(VENV,) if files.matching(*PYTHON_INPUTS) else (),
        script=script,
        inputs=tuple(inputs),
        keeps=tuple(keeps),
        made_from=tuple(made_from),
        reason=files.setup,
    )


def _is_glob(path: str) -> bool:
    """Whether the path is not empty and uses `**` only for whole folders."""
    parts = PurePosixPath(path).parts
    return bool(parts) and not any("**" in part and part != "**" for part in parts)
