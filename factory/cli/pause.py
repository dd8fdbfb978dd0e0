"""Starts nothing new; what runs goes on to its end, and what is green lands.

factory pause
"""

from argparse import Namespace

from factory.cli.ask import ask


def run(_: Namespace) -> int:
    """Ask for the pause."""
    return ask("pause", lambda con: {})
