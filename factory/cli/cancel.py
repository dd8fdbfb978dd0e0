"""Drops a unit: its agent is ended, and the tree of each of its attempts is kept.

factory cancel fix-login
"""

from argparse import Namespace

from factory.cli.ask import ask, open_unit


def run(args: Namespace) -> int:
    """Ask for the end."""
    return ask("cancel", lambda con: {"unit": open_unit(con, args.id)["id"]})
