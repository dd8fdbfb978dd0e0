"""What a unit changes: its commit on trunk, what is queued, or what its newest attempt left.

factory diff fix-login
factory diff fix-login | git apply     exact bytes when piped
"""

import sys
from argparse import Namespace
from pathlib import Path

import anyio

from factory.cli import place, say
from factory.cli.place import Seen
from factory.errors import FactoryError
from factory.git import Git

_STYLES = {"+": "green", "-": "red", "@": "cyan"}


def run(args: Namespace) -> int:
    """Print the patch."""
    top = place.root()
    with place.store(top) as con:
        base, commit = _ends(place.unit(con, args.id))
    own = Git(git_dir=Path(place.within(top, "git")), own=True)
    patch = anyio.run(own.run, "diff-tree", "-p", "-M", "--no-ext-diff", "--no-textconv", base, commit).out
    if sys.stdout.isatty():
        for line in say.clean(patch.decode(errors="replace")).splitlines():
            print(say.paint(line, _STYLES[line[0]]) if line[:1] in _STYLES else line)
    else:
        sys.stdout.buffer.write(patch)
    return 0


def _ends(unit: Seen) -> tuple[str, str]:
    if unit["commit"]:
        return f"{unit['commit']}^", unit["commit"]
    if unit["submission"]:
        return unit["base"], unit["submission"]
    for attempt in reversed(unit["attempts"]):
        if attempt["commit"]:
            return attempt["base"], attempt["commit"]
    raise FactoryError(f"{unit['id']} has changed nothing yet: no attempt of it has ended with a tree.")
