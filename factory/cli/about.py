"""Shows the commands of a program, the help of one command, and the version.

Invariant: nothing is read or written, so these commands work in any folder.
"""

from argparse import Namespace
from collections.abc import Iterator

from factory import __version__
from factory.cli import parsers
from factory.ground.errors import NotYet, UsageError, did_you_mean

LATER = {"report": "a summary of days", "inbox": "cards in full screen", "top": "a live view"}


def version(args: Namespace) -> int:
    """Shows the version of the installed program."""
    print(f"{args.program} {__version__}")
    return 0


def help(args: Namespace) -> int:
    """Shows the commands of the program, or the help of one command."""
    if args.command is None:
        print("\n".join(_overview(args.program)))
        return 0
    check_command(args.program, args.command)
    parsers.make(args.program, args.command).print_help()
    return 0


def check_command(program: str, name: str) -> None:
    """Raise UsageError if the program has no such command."""
    if name in LATER and program == "factory":
        raise NotYet(f"factory {name} ({LATER[name]}). Until then: factory status, factory log.")
    if name not in parsers.declarations(program):
        raise UsageError(
            f"there is no command {name!r}{_meant(program, name)}\n  see: {program} --help"
        )


def _meant(program: str, name: str) -> str:
    for other in parsers.PROGRAMS:
        if name in parsers.declarations(other):
            return f": did you mean {other} {name}?"
    return did_you_mean(name, parsers.declarations(program))


def _overview(program: str) -> Iterator[str]:
    yield f"usage: {program} COMMAND [OPTION…]"
    for heading, group in parsers.PROGRAMS[program].items():
        yield f"\n{heading}:"
        for declare in group:
            yield f"  {declare.__name__:<10}{declare.__doc__}"
    other = "factoryd start|stop" if program == "factory" else "factory status|add|…"
    yield f"\nThe other program: {other}. Each command's --help has examples."
