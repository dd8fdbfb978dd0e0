"""Runs the gates by hand, in the way in which the daemon runs them."""

from argparse import Namespace
from pathlib import Path

from factory.cli import place, say
from factory.ground.errors import FactoryError, UsageError

TAIL = 40  # lines shown of a red gate's output


def gate(args: Namespace) -> int:
    """Runs the gates as the line would: on trunk, on a revision, or on this checkout."""
    if args.tree and args.here:
        raise UsageError("--tree and --here exclude each other")
    # imported here: the help text does not need all these modules
    from factory.once import judge_once

    verdicts = list(judge_once(Path(place.repository()), rev=args.tree, here=args.here))
    for name, ok, seconds, tail in verdicts:
        answer = say.paint("green", "green") if ok else say.paint("red  ", "red")
        print(f"{answer}  {say.line(name)}  {say.lasted(seconds)}")
        if not ok:
            for line in say.clean(tail).splitlines()[-TAIL:]:
                print(f"  │ {line}")
    if not verdicts:
        raise FactoryError(
            "no gate was found here: nothing says how a change is tested.\n  see: factory config"
        )
    return 0 if all(ok for _, ok, _, _ in verdicts) else 1
