"""The parsers of both programs: which commands there are, and how their arguments are read.

Invariant: nothing heavy is imported, because every command needs its parser.
"""

from argparse import (
    Action,
    ArgumentParser,
    Namespace,
    RawDescriptionHelpFormatter,
)
from collections.abc import Callable, Mapping, Sequence
from itertools import chain

from factory.cli import declared
from factory.ground.errors import did_you_mean

Declare = Callable[[ArgumentParser], None]


def make(program: str, name: str) -> ArgumentParser:
    """Return the parser of one command."""
    parser = ArgumentParser(
        prog=f"{program} {name}",
        allow_abbrev=False,
        add_help=False,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.set_defaults(program=program)
    declarations(program)[name](parser)
    parser.usage = f"{parser.prog} {usage(parser)}".rstrip()
    others = parser.add_argument_group("other options")
    others.add_argument("-h", "--help", action="help", help="show this help")
    return parser


def parse(program: str, name: str, argv: Sequence[str]) -> Namespace:
    """Return the arguments of a command; a wrong form ends the program with exit code 2."""
    parser = make(program, name)
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{_meant(parser, unknown)}")
    return args


def _meant(parser: ArgumentParser, unknown: Sequence[str]) -> str:
    """Return a suggestion for the first unknown option."""
    known = set[str]()
    for action in parser._actions:
        known.update(action.option_strings)
    for word in unknown:
        if word.startswith("-"):
            return did_you_mean(word.partition("=")[0], known)
    return ""


def usage(parser: ArgumentParser) -> str:
    """Return the arguments of the command, as its help and the manual show them."""
    parts = []
    for action in actions(parser):
        form = "|".join(action.option_strings) or str(action.metavar)
        if action.option_strings and action.nargs != 0:
            form += f" {action.metavar}"
        parts.append(form if action.required else f"[{form}]")
    return " ".join(parts)


def actions(parser: ArgumentParser) -> Sequence[Action]:
    """Return its arguments and options without --help, in the order of declaration."""
    return [action for action in parser._actions if action.dest != "help"]


def declarations(program: str) -> dict[str, Declare]:
    """Return the commands of the program by name, in the order of its --help."""
    every = chain.from_iterable(PROGRAMS[program].values())
    return {declare.__name__: declare for declare in every}


# The commands in the order of --help, by the headings there.
FACTORY: Mapping[str, tuple[Declare, ...]] = {
    "what happens": (
        declared.status,
        declared.list,
        declared.show,
        declared.log,
        declared.diff,
        declared.why,
    ),
    "what you say": (
        declared.answer,
        declared.tell,
        declared.retry,
        declared.cancel,
        declared.priority,
        declared.pause,
        declared.resume,
    ),
    "tasks": (declared.add, declared.submit, declared.check),
    "set-up": (declared.gate, declared.config, declared.doctor),
    "about": (declared.help, declared.version),
}
FACTORYD: Mapping[str, tuple[Declare, ...]] = {
    "the daemon": (declared.start, declared.stop, declared.restart),
    "to begin with": (declared.init, declared.demo),
    "about": (declared.help, declared.version),
}
PROGRAMS = {"factory": FACTORY, "factoryd": FACTORYD}
