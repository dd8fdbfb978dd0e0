"""The setup that a script of the repository makes: conventions/workspace/setup.sh.

Invariant: what it reads and keeps lies inside the tree.
"""

import re
from pathlib import PurePosixPath

from factory.ground.errors import ConfigError
from factory.inference.files import PYTHON_INPUTS, SETUP_INPUTS, Files, leads_out
from factory.inference.python import VENV
from factory.inference.rules import DEPENDENCIES, Setup

_HEADER = re.compile(r"^#\s*(inputs|keeps|made-from):\s*(.+)$", re.MULTILINE)
_EVERY_MANIFEST = " ".join((*SETUP_INPUTS, "go.*", "Cargo.*"))


def setup(files: Files) -> Setup:
    """Return the setup of the script, by the comments in it; raise ConfigError for a wrong path."""
    script = files.text(files.setup)
    header = dict(_HEADER.findall(script))
    inputs = header.get("inputs", _EVERY_MANIFEST).split()
    keeps = header.get("keeps", " ".join(DEPENDENCIES)).split()
    made_from = header.get("made-from", "").split()
    for path in (*inputs, *keeps, *made_from):
        if leads_out(path) or not _is_glob(path):
            raise ConfigError(
                f"{files.setup}: {path} leads out of the tree, or is no glob. "
                "Name what lies inside of it."
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
    """Return whether the path names something, and `**` stands for whole folders only."""
    parts = PurePosixPath(path).parts
    return bool(parts) and not any("**" in part and part != "**" for part in parts)
