"""The two programs: each imports the command that a person types and returns its exit code.

A command is the function of its name in a module of this package; parsers.py declares the options
of each. Invariant: 0 success, 1 failure, 2 wrong usage, 3 not possible now; no traceback for our
own errors.
"""

import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module

from factory import __version__
from factory.cli import parsers, say
from factory.ground.errors import FactoryError, NotYet, UsageError, did_you_mean

Commands = Mapping[str, str]  # name → the module with the function of that name

FACTORY: Commands = {
    "status": "status",
    "list": "listing",
    "show": "show",
    "log": "log",
    "diff": "show",
    "why": "show",
    "answer": "ask",
    "tell": "ask",
    "retry": "ask",
    "cancel": "ask",
    "pause": "ask",
    "resume": "ask",
    "add": "add",
    "check": "add",
    "gate": "gate",
    "config": "config",
    "doctor": "doctor",
}
FACTORYD: Commands = {
    "start": "life",
    "stop": "life",
    "restart": "life",
    "init": "config",
    "demo": "demo",
}
LATER = {"report": "a summary of days", "inbox": "cards in full screen", "top": "a live view"}


def factory(argv: Sequence[str] | None = None) -> int:
    """`factory`: questions to the factory, and answers of a person."""
    return _run("factory", FACTORY, sys.argv[1:] if argv is None else argv)


def factoryd(argv: Sequence[str] | None = None) -> int:
    """`factoryd`: starts and stops the daemon."""
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
    except SystemExit as end:  # argparse, after --help or a usage error
        return int(end.code or 0)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _drop_output()  # the program that reads our output has ended
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
    # If the shell closed a stream (`>&-`), replace it by /dev/null. The order of the streams
    # matters: otherwise a store or file could get the number of a stream.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):
        # A terminal that is not UTF-8 gets question marks, not a traceback.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _drop_output() -> None:
    # Without this, the interpreter would report the same error when it flushes at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _command(program: str, commands: Commands, argv: Sequence[str]) -> int:
    name, *rest = argv or ["--help"]
    if name in ("-h", "--help"):
        print("\n".join(_overview(program)))
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
    args = parsers.make(program, name).parse_args(rest)
    command = getattr(import_module(f"factory.cli.{commands[name]}"), name)
    return int(command(args))


def _meant(name: str, commands: Commands) -> str:
    for program, its in (("factory", FACTORY), ("factoryd", FACTORYD)):
        if name in its:
            return f": did you mean {program} {name}?"
    return did_you_mean(name, commands)


def _overview(program: str) -> Iterator[str]:
    yield f"usage: {program} COMMAND [OPTION…]"
    for heading, group in parsers.PROGRAMS[program].items():
        yield f"\n{heading}:"
        for declare in group:
            yield f"  {declare.__name__:<10}{declare.__doc__}"
    other = "factoryd start|stop" if program == "factory" else "factory status|add|…"
    yield f"\nThe other program: {other}. Each command's --help has examples."
