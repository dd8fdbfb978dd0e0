"""What judges here, as lines for a person: gates, checks, setup, agents, and what is left out.

Each line names the file, and if possible the line, that it was read from.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from factory.cli import say
from factory.store import found_rows

MOST = 5  # gates, and other lines of one kind, in the short form
Cells = tuple[str, str, str, str]
# What factoryd puts in front of a command, or a step of CI sets there.
_ASSIGNMENTS = re.compile(r"^(export (\w+=\S*\s)+&& |(\w+=(\"[^\"]*\"|'[^']*'|\S*)\s+)+)")


def found_lines(found: found_rows.Inferred | None, *, short: bool = False) -> list[str]:
    """Return a line for each gate and each other thing found; with `short`, only the first ones."""
    found = found or found_rows.Inferred()
    most = MOST if short else None
    cells = [
        *_first(most, list(_gates(found.gates))),
        *_first(most, list(_advisory(found.advisory))),
        *_first(most, list(_left_out(found.skipped))),
        *_setup(found.setup),
        *_agents(found),
    ]
    lines = say.table(cells, most=40)
    if found.setup and found.setup.commands and not short:
        lines.append("  setup runs")
        lines += [f"    {say.line(command)}" for command in found.setup.commands]
    return lines


def _first(most: int | None, cells: Sequence[Cells]) -> Iterator[Cells]:
    yield from cells[:most]
    if most is not None and len(cells) > most:
        yield cells[0][0], "…", "", f"and {len(cells) - most} more: factory config"


def _gates(gates: Iterable[found_rows.FoundGate]) -> Iterator[Cells]:
    is_none = True
    for gate in gates:
        is_none = False
        yield "gate", gate.name, gate.reason, _plain(gate.command)
    if is_none:
        yield "gate", "none", "", "nothing lands before you add a gate"


def _advisory(checks: Iterable[found_rows.FoundGate]) -> Iterator[Cells]:
    for check in checks:
        why = "fails on trunk, so it does not judge yet"
        yield "advisory", check.name, check.reason, f"{why}: {_plain(check.command)}"


def _plain(command: str) -> str:
    """Return the command without the variables in front of it, which hide it on a narrow screen."""
    return _ASSIGNMENTS.sub("", command) or command


def _left_out(steps: Iterable[found_rows.FoundStep]) -> Iterator[Cells]:
    for step in steps:
        yield "left out", "", step.origin, f"{say.line(step.code)}: {step.why}"


def _setup(setup: found_rows.FoundSetup | None) -> Iterator[Cells]:
    setup = setup or found_rows.FoundSetup(kind="none", reason="")
    yield "setup", setup.kind, "", setup.reason


def _agents(found: found_rows.Inferred) -> Iterator[Cells]:
    for name in found.agents:
        yield "agent", name, "", "default" if name == found.agent else ""
    if not found.agents:
        yield "agent", "none", "", "only tasks with `run:` can be done"
