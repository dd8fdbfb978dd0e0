"""Says something to a unit's agent: in the session's next resume, or at the start of the next attempt.

factory tell fix-login "keep the old cookie name"
"""

from argparse import Namespace

from factory.cli.ask import ask, open_unit
from factory.errors import UsageError


def run(args: Namespace) -> int:
    """Ask for it to be told."""
    text = " ".join(args.text).strip()
    if not text:
        raise UsageError(f'there is nothing to tell. Write: factory tell {args.id} "…"')
    return ask("tell", lambda con: {"unit": open_unit(con, args.id)["id"], "text": text})
