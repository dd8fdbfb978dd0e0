"""The two programs: each finds the command asked for, imports that one only, and turns every outcome into an exit code.

Invariant: 0 fine, 1 no, 2 usage, 3 refused by state; no traceback for anything that factoryd raises on purpose.
"""

import argparse
import io
import os
import re
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module

from factory import __version__
from factory.cli import say
from factory.errors import FactoryError, NotYet, UsageError

Commands = Mapping[str, tuple[str, str]]  # name → (synopsis, what it is for)

FACTORY: Commands = {
    "status": ("[--json] [--watch]", "what needs you, then what is moving"),
    "add": ("FILE|-", "drop a task file into the inbox"),
    "show": ("ID [--json]", "all about one unit, or one card"),
    "log": ("[ID] [-f|--follow] [--json]", "what happened, what an agent says"),
    "diff": ("ID", "what a unit changes"),
    "why": ("ID", "why a unit waits, was retried, or landed"),
    "answer": ("CARD OPTION|TEXT… [--always]", "decide a card"),
    "tell": ("ID TEXT…", "say something to a unit's agent"),
    "retry": ("ID", "give a unit another attempt"),
    "cancel": ("ID", "drop a unit"),
    "pause": ("", "start nothing new"),
    "resume": ("", "go on after a pause"),
    "gate": ("[--tree REV] [--here]", "run the gates as the line would"),
    "check": ("FILE", "would this task file be accepted?"),
    "config": ("[--explain KEY] [--json]", "the values in force, and where from"),
    "doctor": ("", "what is missing, and what mends it"),
}
FACTORYD: Commands = {
    "start": ("[--foreground] [--workers N]", "start the factory of this repository"),
    "stop": ("[--drain] [--now]", "stop it; the unfinished is handed back"),
    "restart": ("", "a new daemon; running agents stay"),
    "init": ("", "write a commented factory.toml (never needed)"),
}
LATER = {"report": "a summary of days", "inbox": "cards in full screen", "top": "a live view"}


def factory(argv: Sequence[str] | None = None) -> int:
    """`factory`: what people ask and answer."""
    return _run("factory", FACTORY, sys.argv[1:] if argv is None else argv)


def factoryd(argv: Sequence[str] | None = None) -> int:
    """`factoryd`: the daemon's life."""
    return _run("factoryd", FACTORYD, sys.argv[1:] if argv is None else argv)


def _run(program: str, commands: Commands, argv: Sequence[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that is not UTF-8 gets question marks, not a traceback
            stream.reconfigure(errors="replace")
    try:
        code = _command(program, commands, list(argv))
        sys.stdout.flush()
        return code
    except FactoryError as error:
        print(f"{program}: {say.clean(str(error))}", file=sys.stderr)
        return error.exit_code
    except SystemExit as end:  # argparse, after --help or a usage error
        return int(end.code or 0)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # What reads us has gone; the interpreter's own flush at exit would complain once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _command(program: str, commands: Commands, argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_overview(program, commands))
        return 0
    name, *rest = argv
    if name in ("-V", "--version"):
        print(f"{program} {__version__}")
        return 0
    if name in LATER and program == "factory":
        raise NotYet(f"factory {name} ({LATER[name]}). Until then: factory status, factory log.")
    if name not in commands:
        raise UsageError(f"there is no command {name!r}{_meant(program, name, commands)}\n  see: {program} --help")
    synopsis, _ = commands[name]
    command = import_module(f"factory.cli.{name}")
    usage = f"{program} {name} {synopsis}".rstrip()
    if {"-h", "--help"} & set(rest):
        what, _, examples = (command.__doc__ or "").strip().partition("\n\n")
        print("\n  ".join([f"usage: {usage}\n\n{what}\n\nexamples:", *examples.splitlines()]))
        return 0
    parser = argparse.ArgumentParser(prog=f"{program} {name}", usage=usage, add_help=False, allow_abbrev=False)
    _declare(parser, synopsis)
    return int(command.run(parser.parse_args(rest)))


def _declare(parser: argparse.ArgumentParser, synopsis: str) -> None:
    for form in re.findall(r"\[[^]]*\]|\S+", synopsis):
        flags, _, value = form.strip("[]").partition(" ")
        name = flags.split("|")[0].strip("…").lower()
        if value:
            parser.add_argument(flags, metavar=value)
        elif flags.startswith("-"):
            parser.add_argument(*flags.split("|"), action="store_true")
        else:
            nargs = "?" if form.startswith("[") else "+" if form.endswith("…") else None
            parser.add_argument(name, metavar=flags, nargs=nargs)


def _meant(program: str, name: str, commands: Commands) -> str:
    for other, its in (("factory", FACTORY), ("factoryd", FACTORYD)):
        if name in its:
            return f"; did you mean: {other} {name}"
    return say.meant(name, commands)


def _overview(program: str, commands: Commands) -> str:
    other = "factoryd start|stop" if program == "factory" else "factory status|add|…"
    lines = say.table([(f"{name} {synopsis}", what) for name, (synopsis, what) in commands.items()], most=40)
    head, foot = f"usage: {program} COMMAND [--help]", f"The other half: {other}. Each command's --help has examples."
    return "\n".join([head, "", *lines, "", foot])
