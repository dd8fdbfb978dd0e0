"""Runs the gates as the line would: on trunk, on any revision, or on this checkout as it is. Exit code 1: red.

factory gate                   trunk, by trunk's gates
factory gate --tree my-branch  a revision, by trunk's gates
factory gate --here            this checkout, uncommitted work and its own gates included
"""

from argparse import Namespace
from pathlib import Path

from factory.cli import place, say
from factory.errors import FactoryError, UsageError

TAIL = 40  # lines of a red gate's output


def run(args: Namespace) -> int:
    """Judge, and print a line for each gate as it ends."""
    if args.tree and args.here:
        raise UsageError("--tree and --here exclude each other")
    from factory.daemon import judge_once  # the whole machinery: the help text does not need it

    red, count = False, 0
    for name, ok, seconds, tail in judge_once(Path(place.repository()), rev=args.tree, here=args.here):
        red, count = red or not ok, count + 1
        print(
            f"{say.paint('green', 'green') if ok else say.paint('red  ', 'red')}  {name}  {say.lasted(seconds)}",
            flush=True,
        )
        if not ok:
            print("\n".join(f"  │ {line}" for line in say.clean(tail).splitlines()[-TAIL:]))
    if not count:
        raise FactoryError("no gate was found here: nothing says how a change is tested.\n  see: factory config")
    return 1 if red else 0
