"""Goes on after `factory pause`.

factory resume
"""

from argparse import Namespace

from factory.cli.ask import ask


def run(_: Namespace) -> int:
    """Ask for it to go on."""
    return ask("resume", lambda con: {})
