"""Reads the report that an agent wrote at its end and prints the values that selectors find.

Invariant: it runs in a separate process (`python -I -S`) and imports only the standard library and
`ground`. Whatever the report contains, the caller needs no memory for it and waits at most SECONDS.
"""

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from factory.ground.regular import regular
from factory.ground.selectors import Selector

MOST_BYTES = 32 << 20  # the most bytes of a report, which may hold the whole session
MOST_PRINTED = 1 << 20
MEMORY = 1 << 30
SECONDS = 3.0
_SAID = 16_000  # the most characters of one value
_CODE = f"""import sys; sys.path.append({str(Path(__file__).parents[2])!r})
from factory.child.report import main; main()"""


def command(folder: Path, name: str) -> tuple[str, ...]:
    """Return the command line that reads the report of that name; `asked` makes its stdin."""
    return (sys.executable, "-I", "-S", "-c", _CODE, str(folder), name)


def asked(selectors: tuple[Selector, ...]) -> bytes:
    """Return the selectors in the form that the command reads from its standard input."""
    return json.dumps([(each.type, each.conditions, each.steps) for each in selectors]).encode()


def main() -> None:
    """For each selector, print a list of the found values. Without a report, print nothing.

    Exit with 1 if the report or the output is too large.
    """
    _limit()
    folder, name = sys.argv[1:3]
    raw = regular(Path(folder), name, MOST_BYTES + 1)
    if not raw:
        return
    if len(raw) > MOST_BYTES:
        sys.exit(1)
    event = json.loads(raw)
    found = []
    for asked_for in json.load(sys.stdin):
        values = _selector(*asked_for).find(event) if isinstance(event, dict) else []
        found.append(list(map(_small, values)))
    printed = json.dumps(found)
    if len(printed) > MOST_PRINTED:
        sys.exit(1)
    sys.stdout.write(printed)


def _selector(kind: str, conditions: list[list[str]], steps: list[list[Any]]) -> Selector:
    path = [(name, _pairs(each)) for name, each in steps]
    return Selector(kind, _pairs(conditions), tuple(path))


def _pairs(conditions: list[list[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((key, wanted) for key, wanted in conditions)


def _small(value: Any) -> Any:
    """Return the value, shortened. The result is true in Python if the value is."""
    if isinstance(value, str):
        return value[-_SAID:]
    if value and isinstance(value, list | dict):
        return {"there": True}
    return value


def _limit() -> None:
    import resource

    most = MEMORY
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    with suppress(OSError, ValueError):  # some systems have this limit but do not allow setting it
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))
