"""The two programs: each imports the one command asked for and turns every outcome into an exit code.

A command is the function of its name in a module of this package, and its docstring is what --help prints.
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
from factory.ground.errors import FactoryError, NotYet, UsageError, did_you_mean

Commands = Mapping[str, tuple[str, str, str]]  # name → (module, synopsis, what it is for)

FACTORY: Commands = {
    "status": ("status", "[--json] [--watch]", "what needs you, then what is moving"),
    "add": ("add", "FILE|-", "drop a task file into the inbox"),
    "show": ("show", "ID [--prompt] [--json]", "all about one unit, or one card"),
    "log": ("log", "[ID] [-f|--follow] [--json]", "what happened, what an agent says"),
    "diff": ("show", "ID [--attempt N]", "what a unit changes"),
    "why": ("show", "ID", "why a unit waits, was retried, or landed"),
    "answer": ("ask", "CARD OPTION|TEXT… [--always]", "decide a card"),
    "tell": ("ask", "ID TEXT…", "say something to a unit's agent"),
    "retry": ("ask", "ID", "give a unit another attempt"),
    "cancel": ("ask", "ID", "drop a unit"),
    "pause": ("ask", "", "start nothing new"),
    "resume": ("ask", "", "go on after a pause"),
    "gate": ("gate", "[--tree REV] [--here]", "run the gates as the line would"),
    "check": ("add", "FILE", "would this task file be accepted?"),
    "config": (
        "config",
        "[--explain KEY] [--prompt NAME] [--guards] [--json]",
        "the values in force, and where from",
    ),
    "doctor": (
        "doctor",
        "[--fix] [--rebuild] [--agent NAME] [--json]",
        "what is wrong or stray, and mending it",
    ),
}
FACTORYD: Commands = {
    "start": ("life", "[--foreground] [--workers N]", "start the factory of this repository"),
    "stop": ("life", "[--drain] [--now]", "stop it; the unfinished is handed back"),
    "restart": ("life", "", "a new daemon; running agents stay"),
    "init": ("config", "", "write a commented factory.toml"),
    "demo": ("demo", "[--keep]", "see it at work, with a scripted agent"),
}
LATER = {"report": "a summary of days", "inbox": "cards in full screen", "top": "a live view"}


def factory(argv: Sequence[str] | None = None) -> int:
    """`factory`: what people ask and answer."""
    return _run("factory", FACTORY, sys.argv[1:] if argv is None else argv)


def factoryd(argv: Sequence[str] | None = None) -> int:
    """`factoryd`: the daemon's life."""
    return _run("factoryd", FACTORYD, sys.argv[1:] if argv is None else argv)


def _run(program: str, commands: Commands, argv: Sequence[str]) -> int:
    _prepare_streams()
    try:
        code = _command(program, commands, argv)
        sys.stdout.flush()
        return code
    except FactoryError as error:
        print(f"{program}: {say.clean(str(error))}", file=sys.stderr)
        return error.exit_code
    except SystemExit as end:  # argparse, after a usage error
        return int(end.code or 0)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _drop_output()  # what reads us has gone
        return 141
    except OSError as error:
        try:
            sys.stdout.flush()
        except OSError:
            _drop_output()
        where = f"{error.filename}: " if error.filename else ""
        print(f"{program}: {say.clean(f'{where}{error.strerror or error}')}", file=sys.stderr)
        return 1


def _prepare_streams() -> None:
    # What the shell closed (`>&-`) leads nowhere: opened in order, so that no store or file gets its number.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(
            stream, io.TextIOWrapper
        ):  # a terminal that is not UTF-8 gets question marks, not a traceback
            stream.reconfigure(errors="replace")


def _drop_output() -> None:
    # The interpreter's own flush at exit would complain once more.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _command(program: str, commands: Commands, argv: Sequence[str]) -> int:
    name, *rest = argv or ["--help"]
    if name in ("-h", "--help"):
        print("\n".join(_overview(program, commands)))
        return 0
    if name == "--version":
        print(f"{program} {__version__}")
        return 0
    if name in LATER and program == "factory":
        raise NotYet(f"factory {name} ({LATER[name]}). Until then: factory status, factory log.")
    if name not in commands:
        raise UsageError(
            f"there is no command {name!r}{_meant(name, commands)}\n  see: {program} --help"
        )
    module, synopsis, _ = commands[name]
    command = getattr(import_module(f"factory.cli.{module}"), name)
    usage = f"{program} {name} {synopsis}".rstrip()
    if {"-h", "--help"} & set(rest):
        what, _, examples = str(command.__doc__).partition("\n\n")
        print(f"usage: {usage}\n\n{what}\n\nexamples:")
        print("\n".join(f"  {example.strip()}" for example in examples.strip().splitlines()))
        return 0
    parser = argparse.ArgumentParser(
        prog=f"{program} {name}", usage=usage, add_help=False, allow_abbrev=False
    )
    _declare(parser, synopsis)
    return int(command(parser.parse_args(rest)))


def _declare(parser: argparse.ArgumentParser, synopsis: str) -> None:
    for form in re.findall(r"\[[^]]*\]|\S+", synopsis):
        flags, _, value = form.strip("[]").partition(" ")
        if value:
            parser.add_argument(flags, metavar=value)
        elif flags.startswith("-"):
            parser.add_argument(*flags.split("|"), action="store_true")
        else:
            nargs = "?" if form.startswith("[") else "+" if form.endswith("…") else None
            parser.add_argument(flags.split("|")[0].strip("…").lower(), metavar=flags, nargs=nargs)


def _meant(name: str, commands: Commands) -> str:
    for program, its in (("factory", FACTORY), ("factoryd", FACTORYD)):
        if name in its:
            return f": did you mean {program} {name}?"
    return did_you_mean(name, commands)


def _overview(program: str, commands: Commands) -> list[str]:
    shown = {
        name: synopsis if len(synopsis) < 34 else "[OPTION…]"
        for name, (_, synopsis, _) in commands.items()
    }
    rows = [(f"{name} {shown[name]}", what) for name, (_, _, what) in commands.items()]
    other = "factoryd start|stop" if program == "factory" else "factory status|add|…"
    foot = f"The other half: {other}. Each command's --help has examples."
    return [f"usage: {program} COMMAND [--help]", "", *say.table(rows, most=40), "", foot]
