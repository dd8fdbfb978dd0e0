"""Reads the report that an agent wrote at its end, in a process of its own, and prints what selectors find in it.

Invariant: imports the standard library and `ground` only, so that it runs as `python -I -S`. A report of any content
costs the process that asked for it no memory and no more than SECONDS.
"""

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from factory.ground.regular import regular
from factory.ground.selectors import Selector

MOST_BYTES = 32 << 20  # of a report, which may hold the whole session
MOST_PRINTED = 1 << 20
MEMORY = 1 << 30
SECONDS = 3.0
_SAID = 16_000  # characters of one value
_CODE = f"""import sys; sys.path.append({str(Path(__file__).parents[2])!r})
from factory.child.report import main; main()"""


def command(folder: Path, name: str) -> tuple[str, ...]:
    """The command line that reads the report of that name; its input is what `asked` makes of the selectors."""
    return (sys.executable, "-I", "-S", "-c", _CODE, str(folder), name)


def asked(selectors: tuple[Selector, ...]) -> bytes:
    """What the command gets to know of the selectors."""
    return json.dumps([(each.type, each.conditions, each.steps) for each in selectors]).encode()


def main() -> None:
    """Print for each selector the list of what it finds: nothing without a report; exit with 1 if it is too large."""
    _limit()
    folder, name = sys.argv[1:3]
    raw = regular(Path(folder), name, MOST_BYTES + 1)
    if not raw:
        return
    event = json.loads(raw) if len(raw) <= MOST_BYTES else sys.exit(1)
    selectors = [_selector(*each) for each in json.load(sys.stdin)]
    found = [each.find(event) if isinstance(event, dict) else [] for each in selectors]
    printed = json.dumps([list(map(_small, values)) for values in found])
    if len(printed) > MOST_PRINTED:
        sys.exit(1)
    sys.stdout.write(printed)


def _selector(kind: str, conditions: list[list[str]], steps: list[list[Any]]) -> Selector:
    return Selector(kind, _pairs(conditions), tuple((name, _pairs(each)) for name, each in steps))


def _pairs(conditions: list[list[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((key, wanted) for key, wanted in conditions)


def _small(value: Any) -> Any:
    """A value that needs little room and is as true as it was."""
    if isinstance(value, str):
        return value[-_SAID:]
    return {"there": True} if value and isinstance(value, list | dict) else value


def _limit() -> None:
    import resource

    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    most = MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard)
    with suppress(OSError, ValueError):  # some systems know the limit and do not take it
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))
