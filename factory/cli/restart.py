"""Replaces the daemon by a new one, such as after an upgrade. Running agents stay and are taken over.

factoryd restart
"""

import os
import signal
from argparse import Namespace

from factory.cli import place
from factory.cli.start import launch
from factory.cli.stop import leave


def run(_: Namespace) -> int:
    """Let the old one go and start the new one."""
    top = place.repository()
    seen = place.daemon(top)
    if seen["state"] != "stopped":
        leave(seen, signal.SIGHUP, seconds=60)
    return launch(top, os.environ)
