"""The two programs: each imports the command that a person types and returns its exit code.

A command is the function of its name in a module of this package; declared.py declares the options
of each. Invariant: 0 success, 1 failure, 2 wrong usage, 3 not possible now; no traceback for our
own errors.
"""

import io
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module

from factory.cli import about, parsers, say
from factory.ground.errors import FactoryError

Commands = Mapping[str, str]  # name → the module with the function of that name

ABOUT: Commands = {"help": "about", "version": "about"}
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
    "priority": "ask",
    "pause": "ask",
    "resume": "ask",
    "add": "add",
    "submit": "ask",
    "check": "add",
    "gate": "gate",
    "config": "config",
    "doctor": "doctor",
    **ABOUT,
}
FACTORYD: Commands = {
    "start": "life",
    "stop": "life",
    "restart": "life",
    "init": "config",
    "demo": "demo",
    **ABOUT,
}
# Options that people try in place of a command.
_SAME = {"-h": "help", "--help": "help", "--version": "version"}


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
    typed, *rest = argv or ["help"]
    name = _SAME.get(typed, typed)
    about.check_command(program, name)
    args = parsers.parse(program, name, rest)
    command = getattr(import_module(f"factory.cli.{commands[name]}"), name)
    return int(command(args))
